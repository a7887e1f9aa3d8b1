import threading
from pathlib import Path

import numpy as np
import pytest
from playing import kept_sender, virtual_pacer

from edge.clock import VirtualClock
from edge.sources.stream import MAX_CRC_BYTES, MAX_IMAGE_CRC_BYTES, Pacer, StreamSender
from edge.transport.messages import Kind
from edge.transport.sockets import Subscriber
from edge.transport.wire import FLAG_CRC, FLAG_HOST_TIME, Reason, as_array, decode_message
from models.errors import ConfigError

SAMPLES = np.arange(-100, 100, dtype=np.int16).reshape(-1, 2)
FRAME = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def test_what_is_sent_over_ipc_arrives_as_it_was(tmp_path: Path) -> None:
    sender = StreamSender(f"ipc://{tmp_path}/s", 3, clock=VirtualClock(55))
    with Subscriber(sender.endpoint) as subscriber:
        assert sender.wait_for_listeners(1, 5.0)
        sender.send_iq(SAMPLES, 11, 1e6, 433.92e6)
        sender.send_frame(FRAME, 12)
        sender.send_encoded(b"\xff\xd8 jpeg", 13)
        received = [decode_message(subscriber.receive(5000) or []) for _ in range(3)]
    sender.close()
    messages = [message for message in received if not isinstance(message, Reason)]
    headers = [header for header, _ in messages]
    assert [Kind(header.kind) for header in headers] == [Kind.IQ, Kind.FRAME, Kind.ENCODED_FRAME]
    assert [header.capture_ns for header in headers] == [11, 12, 13]
    assert {(header.stream_id, header.send_ns, header.epoch) for header in headers} == {(3, 55, sender.epoch)}
    assert (headers[0].sample_rate_hz, headers[0].centre_hz) == (1e6, 433.92e6)
    np.testing.assert_array_equal(as_array(*messages[0]), SAMPLES)
    np.testing.assert_array_equal(as_array(*messages[1]), FRAME)
    assert bytes(messages[2][1]) == b"\xff\xd8 jpeg"


def test_messages_are_numbered_without_gap_from_zero() -> None:
    sender, messages = kept_sender(VirtualClock())
    for n in range(5):
        sender.send_iq(SAMPLES, n, 1e6)
    assert [header.sequence for header, _ in messages] == [0, 1, 2, 3, 4]
    assert sender.sent == 5


def test_sequence_numbers_wrap_at_32_bits() -> None:
    sender, messages = kept_sender(VirtualClock())
    sender.sequence = 2**32 - 1
    sender.send_frame(FRAME, 0)
    sender.send_frame(FRAME, 1)
    assert [header.sequence for header, _ in messages] == [2**32 - 1, 0]


def test_each_start_has_an_epoch_of_its_own() -> None:
    epochs = {kept_sender(VirtualClock())[0].epoch for _ in range(20)}
    assert len(epochs) == 20


def test_what_a_device_lost_leaves_a_gap() -> None:
    sender, messages = kept_sender(VirtualClock())
    sender.send_frame(FRAME, 0)
    sender.note_loss(3)
    sender.send_frame(FRAME, 1)
    assert [header.sequence for header, _ in messages] == [0, 4]
    assert sender.sent == 2


@pytest.mark.parametrize(("extra_samples", "has_crc"), [(0, True), (1, False)])
def test_windows_up_to_32_kib_carry_a_checksum(extra_samples: int, has_crc: bool) -> None:
    sender, messages = kept_sender(VirtualClock())
    sender.send_iq(np.zeros((MAX_CRC_BYTES // 4 + extra_samples, 2), dtype=np.int16), 0, 1e6)
    assert bool(messages[0][0].flags & FLAG_CRC) == has_crc


@pytest.mark.parametrize(("extra_bytes", "has_crc"), [(0, True), (1, False)])
def test_encoded_frames_up_to_1_mib_carry_a_checksum(extra_bytes: int, has_crc: bool) -> None:
    sender, messages = kept_sender(VirtualClock())
    sender.send_encoded(bytes(MAX_IMAGE_CRC_BYTES + extra_bytes), 0)
    assert bool(messages[0][0].flags & FLAG_CRC) == has_crc


def test_flags_go_out_with_every_message() -> None:
    sender, messages = kept_sender(VirtualClock(), flags=FLAG_HOST_TIME)
    sender.send_frame(FRAME, 0)
    sender.flags = 0
    sender.send_frame(FRAME, 1)
    assert [header.flags for header, _ in messages] == [FLAG_HOST_TIME, 0]


def test_a_message_that_its_receiver_would_refuse_is_refused_here_with_the_remedy() -> None:
    sender, messages = kept_sender(VirtualClock(), max_message_bytes=71)
    with pytest.raises(ConfigError, match=r"72 bytes .* max_message_bytes 71.*raise max_message_bytes"):
        sender.send_frame(FRAME, 0)
    assert messages == []


def test_waiting_for_listeners_gives_up_in_time(tmp_path: Path) -> None:
    sender = StreamSender(f"ipc://{tmp_path}/s", 1)
    assert not sender.wait_for_listeners(1, 0.05)
    sender.close()


def test_pacer_wakes_at_each_due_time_and_delays_do_not_add_up() -> None:
    clock = VirtualClock(1_000)
    pacer = virtual_pacer(clock)
    for n in range(1, 50):
        assert pacer.wait_until(1_000 + n * 10_000_000)
        assert 0 <= clock.now_ns() - (1_000 + n * 10_000_000) <= 1
        clock.advance_to(clock.now_ns() + 4_000_000)
    assert pacer.late == 0


def test_pacer_counts_what_was_due_long_ago() -> None:
    clock = VirtualClock()
    pacer = virtual_pacer(clock)
    clock.advance_to(100_000_000)
    assert pacer.wait_until(99_000_000)
    assert pacer.late == 0
    assert pacer.wait_until(90_000_000)
    assert pacer.late == 1


def test_pacer_ends_when_its_time_is_over() -> None:
    clock = VirtualClock(5)
    pacer = virtual_pacer(clock, limit_s=1.0)
    assert pacer.wait_until(900_000_000)
    assert not pacer.wait_until(2_000_000_000)
    assert pacer.is_over
    assert clock.now_ns() < 1_100_000_000


def test_pacer_ends_when_told_to_while_it_sleeps() -> None:
    clock = VirtualClock()
    stop = threading.Event()
    pacer = Pacer(stop, clock=clock, sleep=lambda seconds: stop.set())
    assert not pacer.wait_until(10**12)
    assert not pacer.wait_until(0)

"""One stream from its sender to its inbox, by socket and in shared memory, and what a pipeline makes of it."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flights import MS, feature_of
from recorded import START_NS

from edge.backends.onnx import load_engines
from edge.clock import SystemClock, VirtualClock
from edge.config import PipelineConfig, StreamConfig
from edge.pipeline.branch import Branch
from edge.pipeline.scheduler import Arrival, Scheduler
from edge.sources.stream import MIN_RING_BYTES, StreamSender
from edge.transport import ring
from edge.transport.inbox import Inbox, is_intact, open_inbox, payload_view
from edge.transport.messages import Kind
from edge.transport.ring import NOTE_BYTES, Loan
from edge.transport.sockets import BlockingPublisher, Publisher, queue_length
from edge.transport.wire import FLAG_CRC, FLAG_RING, Header, Reason, Stamp, as_array, encode_array
from models.bundle import open_bundle, shipped_bundle
from models.errors import ConfigError, DeviceError, LinkError

PATIENCE_S = 20.0
PATIENCE_MS = 20_000
SLOTS = 4
FRAME = np.arange(128 * 256 * 3, dtype=np.uint8).reshape(128, 256, 3)


def stream_at(folder: Path, **options: Any) -> StreamConfig:
    options = {"modality": "image", "rate_hz": 30.0, "transport": "shm", "shm_slots": SLOTS} | options
    return StreamConfig(endpoint=f"ipc://{folder}/s", **options)


def sender_of(stream: StreamConfig) -> StreamSender:
    return StreamSender(
        stream.endpoint,
        1,
        clock=VirtualClock(START_NS),
        publisher=BlockingPublisher,  # an ordinary one may lose messages that are sent in one go
        max_message_bytes=stream.max_message_bytes,
        ring_slots=stream.ring_slots,
    )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[StreamSender, Inbox]]:
    stream = stream_at(tmp_path)
    sender = sender_of(stream)
    with open_inbox(stream) as inbox:
        assert sender.wait_for_listeners(1, PATIENCE_S)
        yield sender, inbox
    sender.close()


def received(inbox: Inbox) -> tuple[Header, Any]:
    message = inbox.receive(PATIENCE_MS)
    assert isinstance(message, tuple), message
    return message


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.float32])
def test_long_windows_of_any_type_come_through_memory_as_they_were(pair, dtype):
    sender, inbox = pair
    samples = np.arange(2 * MIN_RING_BYTES).astype(dtype).reshape(-1, 2)
    sender.send_iq(samples, 11, 1e6, 433.92e6)
    header, payload = received(inbox)
    assert isinstance(payload, Loan)
    np.testing.assert_array_equal(as_array(header, payload.view), samples)
    assert payload.is_intact()
    assert (header.capture_ns, header.sample_rate_hz, header.centre_hz) == (11, 1e6, 433.92e6)
    assert header.flags == FLAG_RING


def test_raw_frames_come_through_memory_and_the_rest_by_socket(pair):
    sender, inbox = pair
    sender.send_frame(FRAME, 1)
    sender.send_frame(FRAME[:1], 2)
    sender.send_encoded(bytes(2 * MIN_RING_BYTES), 3)
    sender.send_iq(np.ones((10, 2), np.int16), 4, 1e6)
    messages = [received(inbox) for _ in range(4)]
    assert [Kind(header.kind) for header, _ in messages] == [Kind.FRAME, Kind.FRAME, Kind.ENCODED_FRAME, Kind.IQ]
    assert [header.sequence for header, _ in messages] == [0, 1, 2, 3]
    assert [isinstance(payload, Loan) for _, payload in messages] == [True, False, False, False]
    assert [bool(header.flags & FLAG_CRC) for header, _ in messages] == [False, False, True, True]
    np.testing.assert_array_equal(as_array(messages[0][0], messages[0][1].view), FRAME)


def test_a_frame_that_is_made_in_the_memory_is_not_copied(pair):
    sender, inbox = pair
    blank = sender.blank(FRAME.shape, np.uint8)
    blank[:] = FRAME
    sender.send_frame(blank, 1)
    header, payload = received(inbox)
    before = as_array(header, payload.view)
    np.testing.assert_array_equal(before, FRAME)
    blank[0, 0, 0] = 99
    assert before[0, 0, 0] == 99


def test_frames_that_are_given_back_cost_no_slot(pair):
    sender, inbox = pair
    for n in range(3 * SLOTS):
        sender.give_back(sender.blank(FRAME.shape, np.uint8))
        sender.send_frame(FRAME + n, n)
        header, payload = received(inbox)
        assert as_array(header, payload.view)[0, 0, 0] == n
    sender.give_back(FRAME)


def test_small_frames_and_those_of_a_stream_without_a_ring_are_ordinary_arrays(pair, tmp_path):
    sender, _ = pair
    plain = StreamSender(f"ipc://{tmp_path}/plain", 1)
    blanks = [sender.blank((2, 2, 3), np.uint8), plain.blank(FRAME.shape, np.uint8)]
    assert [blank.flags.owndata for blank in blanks] == [True, True]
    plain.give_back(blanks[1])
    plain.close()


def test_a_message_larger_than_the_ring_is_refused_with_what_to_do(tmp_path):
    sender = sender_of(stream_at(tmp_path, max_message_bytes=FRAME.nbytes - 1))
    for refused in (lambda: sender.blank(FRAME.shape, np.uint8), lambda: sender.send_frame(FRAME, 1)):
        with pytest.raises(ConfigError, match=r"98304 bytes .* max_message_bytes 98303.*raise max_message_bytes"):
            refused()
    sender.close()


def test_what_no_memory_is_left_for_goes_by_socket(pair, monkeypatch):
    sender, inbox = pair

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    sender.send_frame(sender.blank(FRAME.shape, np.uint8), 1)
    sender.send_frame(FRAME, 2)
    messages = [received(inbox) for _ in range(2)]
    assert [isinstance(payload, Loan) for _, payload in messages] == [False, False]
    np.testing.assert_array_equal(as_array(*messages[1]), FRAME)


def test_a_sender_without_memory_leaves_its_endpoint_to_others(tmp_path, monkeypatch):
    stream = stream_at(tmp_path)
    space = os.statvfs(ring.FOLDER)
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: os.statvfs_result((*space[:4], 0, *space[5:])))
        with pytest.raises(DeviceError, match="does not fit"):
            sender_of(stream)
    sender_of(stream).close()


def test_two_sources_of_one_stream_are_refused(pair, tmp_path):
    with pytest.raises(LinkError, match="cannot bind"):
        sender_of(stream_at(tmp_path))


def test_a_source_that_starts_again_is_followed(tmp_path):
    stream = stream_at(tmp_path)
    with open_inbox(stream) as inbox:  # listens before anybody writes
        for n in range(3):
            sender = sender_of(stream)
            for _ in range(400):
                if sender.wait_for_listeners(1, 0.05):
                    break
                assert inbox.receive(0) is None  # where the socket looks after its connection
            sender.send_frame(FRAME + n, n)
            header, payload = received(inbox)
            assert as_array(header, payload.view)[0, 0, 0] == n
            sender.close()


def test_a_receiver_that_knows_of_no_ring_says_so(tmp_path):
    stream = stream_at(tmp_path)
    sender = sender_of(stream)
    with open_inbox(stream_at(tmp_path, transport="socket")) as inbox:
        assert sender.wait_for_listeners(1, PATIENCE_S)
        sender.send_frame(FRAME, 1)
        assert inbox.receive(PATIENCE_MS) is Reason.RING
    sender.close()


def test_garbage_is_named_and_nothing_is_raised(tmp_path):
    stream = stream_at(tmp_path)
    stamp = Stamp(1, 1, 1, 1, 1)
    header, payload = encode_array(Kind.FRAME, stamp, FRAME)
    noted, _ = encode_array(Kind.FRAME, stamp._replace(flags=FLAG_RING), FRAME)
    lies = [
        [header],
        [b"x", b""],
        [bytes(64), b""],
        [header, payload[1:]],
        [noted, payload],
        [noted, bytes(NOTE_BYTES)],
    ]
    with Publisher(stream.endpoint) as publisher, open_inbox(stream) as inbox:
        assert publisher.wait_for_listeners(1, PATIENCE_S)
        for lie in lies:
            publisher.send(lie)
        outcomes = [inbox.receive(PATIENCE_MS) for _ in lies]
        assert inbox.receive(0) is None
    assert outcomes == [Reason.PARTS, Reason.SHORT_HEADER, Reason.MAGIC, Reason.SIZE, Reason.NOTE, Reason.NOTE]


def test_a_note_whose_header_claims_another_shape_is_refused(pair, monkeypatch):
    sender, inbox = pair
    wider = FRAME.reshape(128, 128, 6)
    sender.send_frame(wider, 1)
    assert isinstance(inbox.receive(PATIENCE_MS), tuple)
    sender.send_frame(FRAME.reshape(-1, 2), 2)
    assert inbox.receive(PATIENCE_MS) is Reason.DIMS


# What the pipeline makes of it


@pytest.fixture(scope="module")
def branch() -> Branch:
    bundle = open_bundle(shipped_bundle())
    stream = StreamConfig(modality="image", endpoint="ipc:///tmp/unused", rate_hz=30.0)
    return Branch(bundle.spec.modality("image"), load_engines(bundle).branches["image"], SystemClock(), stream)


SCENE = np.random.default_rng(3).integers(0, 255, (160, 160, 3), np.uint8)


@pytest.mark.parametrize("next_frame", [SCENE, np.zeros_like(SCENE)], ids=["sound", "black"])
def test_what_is_overwritten_while_in_use_is_superseded_and_masks_nobody(pair, branch, next_frame):
    sender, inbox = pair
    streams = {"camera": StreamConfig(modality="image", endpoint="inproc://c", rate_hz=30.0)}
    scheduler = Scheduler(("image",), streams, PipelineConfig(), 0)
    sender.send_frame(SCENE, START_NS)
    scheduler.receive("camera", branch.admit(received(inbox)), START_NS)
    arrival = scheduler.take("image", START_NS)
    for n in range(SLOTS):
        sender.send_frame(next_frame, START_NS + n)
    outcome = branch.process(arrival)
    assert outcome is Reason.OVERWRITTEN
    assert scheduler.complete("camera", outcome, START_NS) is None
    ledger = scheduler.accounting(START_NS)["camera"]
    assert (ledger.received, ledger.superseded, ledger.rejected, ledger.state) == (1, 1, {}, "starting")
    assert ledger.balanced


def test_what_stays_whole_is_inferred_as_from_a_socket(pair, branch, tmp_path):
    sender, inbox = pair
    plain = StreamSender(f"ipc://{tmp_path}/plain", 1, clock=VirtualClock(START_NS))
    features = []
    with open_inbox(StreamConfig(modality="image", endpoint=f"ipc://{tmp_path}/plain", rate_hz=30.0)) as other:
        assert plain.wait_for_listeners(1, PATIENCE_S)
        for source, box in ((sender, inbox), (plain, other)):
            scheduler = Scheduler(("image",), {"camera": stream_at(tmp_path)}, PipelineConfig(), 0)
            source.send_frame(SCENE, START_NS)
            scheduler.receive("camera", branch.admit(received(box)), START_NS)
            features.append(branch.process(scheduler.take("image", START_NS)))
    plain.close()
    np.testing.assert_array_equal(features[0].logits, features[1].logits)


def test_what_was_overwritten_is_not_rehearsed_with(pair, monkeypatch):
    sender, inbox = pair
    bundle = open_bundle(shipped_bundle())
    engine = load_engines(bundle).branches["image"]
    stream = StreamConfig(modality="image", endpoint="ipc:///tmp/unused", rate_hz=30.0, rehearse=True)
    branch = Branch(bundle.spec.modality("image"), engine, SystemClock(), stream)
    runs = []
    run = engine.run
    monkeypatch.setattr(engine, "run", lambda: runs.append(1) or run())
    sender.send_frame(SCENE, START_NS)
    header, payload = received(inbox)
    branch.process(Arrival(stream="camera", header=header, payload=payload, arrived_ns=0))
    branch.rehearse()
    for _ in range(SLOTS):
        sender.send_frame(SCENE, START_NS)
    branch.rehearse()
    assert len(runs) == 2


def test_accounting_is_exact_whatever_was_overwritten(pair, branch):
    sender, inbox = pair
    scheduler = Scheduler(("image",), {"camera": StreamConfig(modality="image", endpoint="inproc://c", rate_hz=30.0)},
                          PipelineConfig(), 0)  # fmt: skip
    for n in range(40):
        for _ in range(1 + n % (2 * SLOTS)):
            sender.send_frame(SCENE + np.uint8(sender.sent % 256), START_NS + sender.sent * MS)
        for _ in range(1 + n % (2 * SLOTS)):
            scheduler.receive("camera", branch.admit(received(inbox)), START_NS + sender.sent * MS)
        arrival = scheduler.take("image", START_NS + sender.sent * MS)
        for _ in range(SLOTS * (n % 2)):
            sender.send_frame(SCENE + np.uint8(sender.sent % 256), START_NS + sender.sent * MS)
        whole = isinstance(arrival.payload, Loan) and arrival.payload.is_intact()
        outcome = feature_of(arrival, "image", START_NS) if whole else Reason.OVERWRITTEN
        scheduler.complete("camera", outcome, START_NS + sender.sent * MS)
        for _ in range(SLOTS * (n % 2)):
            scheduler.receive("camera", branch.admit(received(inbox)), START_NS + sender.sent * MS)
    ledger = scheduler.accounting(START_NS + sender.sent * MS)["camera"]
    assert ledger.balanced
    assert (ledger.received, ledger.lost_transport, ledger.rejected) == (sender.sent, 0, {})
    assert ledger.processed == 20
    assert ledger.superseded == sender.sent - ledger.processed - ledger.in_flight


def test_a_view_on_a_payload_is_the_payload(pair):
    sender, inbox = pair
    sender.send_frame(FRAME, 1)
    _, loan = received(inbox)
    assert payload_view(loan) is loan.view
    assert payload_view(b"x") == b"x"
    assert is_intact(b"x")


def test_a_queue_holds_what_comes_while_a_process_is_held_up() -> None:
    assert [queue_length(rate_hz) for rate_hz in (1.0, 30.0, 937.5, 10_000.0)] == [8, 8, 234, 2500]
    assert queue_length(937.5, held_s=1.0) == 938


def test_what_comes_in_a_quarter_of_a_second_waits_for_a_receiver_that_is_held_up(tmp_path: Path) -> None:
    stream = stream_at(tmp_path, transport="socket", rate_hz=1000.0)
    window = np.ones((16_384, 2), np.int16)  # 64 KiB: what the kernel keeps of these is next to nothing
    sender = StreamSender(stream.endpoint, 1, publisher=BlockingPublisher)
    with open_inbox(stream) as inbox:
        assert sender.wait_for_listeners(1, PATIENCE_S)

        def send() -> None:
            for n in range(250):
                sender.send_iq(window, n, 1e6)

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        sending.join(PATIENCE_S)
        assert not sending.is_alive()  # else it waits for the receiver, where an ordinary sender would lose messages
        received = [inbox.receive(PATIENCE_MS) for _ in range(250)]
    sender.close()
    assert [message[0].sequence for message in received if isinstance(message, tuple)] == list(range(250))

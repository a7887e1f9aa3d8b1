"""How messages of a GNU Radio sink become blocks, and how every sample of them is accounted for."""

import logging
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gnuradio_messages as sink
import msgspec
import numpy as np
import pytest
from gnuradio_messages import RATE_HZ, message
from hypothesis import given
from hypothesis import strategies as st
from playing import Received, kept_sender
from test_edge_sources_process import TIMEOUT_S, start, write_flight

from edge.clock import SystemClock, VirtualClock
from edge.config import FlightConfig, GnuRadioSource
from edge.sources.device_time import MAX_DRIFT, SETTLING_NS
from edge.sources.gnuradio import LARGEST_GAP_S, GnuRadioStream, play_gnuradio
from edge.sources.lateness import BEHIND_NS, SLOW_NS
from edge.sources.stream import Pacer
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import FLAG_HOST_TIME, Reason, as_array, decode_message

BLOCK = 1000
NS = 1000
"""Of a sample."""
START_NS = 5_000_000_000
MS = 1_000_000
DRIFT = 2 * MAX_DRIFT
"""Times may run this much faster or slower than the radio's, as no two clocks run alike."""


def stream(**options: Any) -> tuple[GnuRadioStream, Received]:
    sender, messages = kept_sender(VirtualClock())
    settings: dict[str, Any] = {"stream": "r", "endpoint": "ipc:///run/r", "sample_rate_hz": RATE_HZ, "centre_hz": 1e9}
    return GnuRadioStream(GnuRadioSource(**settings | options), RATE_HZ / BLOCK, sender), messages


def captured(messages: Received) -> list[int]:
    return [header.capture_ns - START_NS for header, _ in messages]


def numbers(messages: Received) -> list[list[int]]:
    """Return first and last sample of each block, which must be whole in between."""
    found = []
    for header, payload in messages:
        block = as_array(header, payload)
        assert (np.diff(block[:, 0]) == 1).all()
        assert (block[:, 1] == -block[:, 0]).all()
        found.append([int(block[0, 0]), int(block[-1, 0])])
    return found


def test_chunks_of_any_length_become_blocks_of_a_period() -> None:
    receiver, sent = stream()
    offset = 0
    for count in (1, 999, 300, 2500, 700, 0, 500):
        receiver.take(message(offset, count), START_NS + (offset + count) * NS)
        offset += count
    assert numbers(sent) == [[n * BLOCK, n * BLOCK + BLOCK - 1] for n in range(5)]
    assert [header.sequence for header, _ in sent] == [0, 1, 2, 3, 4]
    assert {(header.dtype, header.sample_rate_hz, header.centre_hz) for header, _ in sent} == {(4, 1e6, 1e9)}
    counts = receiver.counts
    assert (counts.received, counts.lost, counts.span, counts.messages, counts.balanced) == (5000, 0, 5000, 7, True)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=12))
def test_received_and_lost_samples_add_up_whatever_is_lost(steps: list[tuple[int, int]]) -> None:
    receiver, sent = stream()
    offset, lost, lengths = 0, 0, 0
    receiver.take(message(0, 10), START_NS)
    offset = 10
    for gap, count in steps:
        offset += gap
        lost += gap
        receiver.take(message(offset, count), START_NS + offset * NS)
        offset += count
    receiver.flush()
    lengths = sum(last - first + 1 for first, last in numbers(sent))
    counts = receiver.counts
    assert (counts.lost, counts.span, counts.received) == (lost, offset, offset - lost)
    assert counts.balanced
    assert lengths == counts.sent == counts.received


def test_lost_samples_end_a_block_and_leave_a_gap_in_the_sequence() -> None:
    receiver, sent = stream()
    receiver.take(message(0, 1500), START_NS)
    receiver.take(message(4001, 1000), START_NS)
    assert numbers(sent) == [[0, 999], [1000, 1499], [4001, 5000]]
    assert [header.sequence for header, _ in sent] == [0, 1, 5]
    assert receiver.counts.lost == 2501


def test_the_time_of_a_block_follows_the_radio_and_not_the_arrival() -> None:
    receiver, sent = stream()
    receiver.take(message(0, 500, (0, "rx_time", sink.time(0.25))), START_NS + 500 * NS)
    for n in range(1, 10):
        receiver.take(message(n * 500, 500), START_NS + (n + 1) * 500 * NS + (n % 3) * MS)
    assert captured(sent) == pytest.approx([n * BLOCK * NS for n in range(5)], abs=DRIFT * 5 * MS)


def test_times_are_marked_as_the_hosts_while_a_flowgraph_sends_what_it_kept_before_anybody_listened() -> None:
    receiver, sent = stream()
    kept, blocks = 130, SETTLING_NS // MS + 260
    receiver.take(message(0, BLOCK, (0, "rx_time", sink.time(0.25))), START_NS + kept * MS)
    for n in range(1, blocks):
        receiver.take(message(n * BLOCK, BLOCK), START_NS + max(kept * MS, (n + 1) * BLOCK * NS))
    marked = [bool(header.flags & FLAG_HOST_TIME) for header, _ in sent]
    assert marked == [True] * marked.count(True) + [False] * marked.count(False)
    assert kept + SETTLING_NS // MS - 2 <= marked.count(True) <= kept + SETTLING_NS // MS + 2
    times = [at - n * BLOCK * NS for n, at in enumerate(captured(sent))][marked.count(True) :]
    assert max(times) <= DRIFT * blocks * MS


def test_without_a_time_tag_the_count_of_samples_is_the_clock_and_is_marked_as_the_hosts() -> None:
    receiver, sent = stream()
    for n in range(7, 17):
        receiver.take(message(n * 500, 500), START_NS + (n + 1) * 500 * NS + (n % 3) * MS * (n > 8))
    assert np.diff(captured(sent)).tolist() == pytest.approx([BLOCK * NS] * 4, abs=DRIFT * 5 * MS)
    assert all(header.flags & FLAG_HOST_TIME for header, _ in sent)


def test_several_times_over_a_flight_change_nothing_while_they_agree() -> None:
    receiver, sent = stream()
    for n in range(10):
        tag = (n * 500 + 100, "rx_time", sink.time(0.25 + (n * 500 + 100) / RATE_HZ))
        receiver.take(message(n * 500, 500, tag), START_NS + (n + 1) * 500 * NS)
    receiver.flush()
    assert len(sent) == 6  # the first tag begins a block
    assert np.diff(captured(sent[1:])).tolist() == pytest.approx([BLOCK * NS] * 4, rel=DRIFT)
    assert (receiver.counts.lost_by_radio, receiver.counts.clock_steps) == (0, 0)


def test_a_jump_of_the_radios_time_is_what_it_lost() -> None:
    receiver, sent = stream()
    receiver.take(message(0, 500, (0, "rx_time", sink.time(0.25))), START_NS + 500 * NS)
    receiver.take(message(500, 500, (700, "rx_time", sink.time(0.25 + 0.0007 + 0.0042))), START_NS + 5200 * NS)
    receiver.flush()
    assert numbers(sent) == [[0, 699], [700, 999]]
    assert [header.sequence for header, _ in sent] == [0, 6]
    assert captured(sent) == pytest.approx([0, 700 * NS + 4200 * NS], abs=DRIFT * 5 * MS)
    counts = receiver.counts
    assert (counts.lost_by_radio, counts.lost, counts.balanced) == (4200, 0, True)


@pytest.mark.parametrize("seconds", [0.1, 100.0])
def test_a_radio_whose_clock_is_set_loses_nothing_and_begins_a_block(seconds: float) -> None:
    receiver, sent = stream()
    receiver.take(message(0, 500, (0, "rx_time", sink.time(0.25))), START_NS + 500 * NS)
    receiver.take(message(500, 500, (500, "rx_time", sink.time(seconds))), START_NS + 1000 * NS)
    receiver.flush()
    assert numbers(sent) == [[0, 499], [500, 999]]
    assert captured(sent) == pytest.approx([0, 500 * NS], abs=DRIFT * MS)
    assert (receiver.counts.clock_steps, receiver.counts.lost_by_radio) == (1, 0)


def test_another_rate_or_frequency_begins_a_block_at_its_sample() -> None:
    receiver, sent = stream()
    tags = [(1300, "rx_freq", sink.double(2e9)), (1600, "rx_rate", sink.double(5e5))]
    receiver.take(message(0, 1000), START_NS)
    receiver.take(message(1000, 1000, *tags), START_NS + 1400 * NS)
    receiver.flush()
    assert numbers(sent[1:]) == [[1000, 1299], [1300, 1599], [1600, 1999]]
    told = [(header.centre_hz, header.sample_rate_hz) for header, _ in sent[1:]]
    assert told == [(1e9, 1e6), (2e9, 1e6), (2e9, 5e5)]
    assert np.diff(captured(sent[1:])).tolist() == pytest.approx([300 * NS] * 2, abs=DRIFT * 2 * MS)


def test_repeated_rate_and_frequency_begin_nothing() -> None:
    receiver, sent = stream()
    tags = [(300, "rx_freq", sink.double(1e9)), (600, "rx_rate", sink.double(1e6))]
    receiver.take(message(0, 1000, *tags), START_NS)
    assert numbers(sent) == [[0, 999]]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rx_rate", sink.double(0.0)),
        ("rx_rate", sink.double(float("nan"))),
        ("rx_rate", sink.double(1e300)),
        ("rx_rate", b"\x02\x00\x01x"),
        ("rx_freq", sink.double(float("inf"))),
        ("rx_time", sink.double(1.0)),
        ("rx_time", b"\x0c\x00\x00\x00\x02\x0b" + bytes(8) + sink.double(7.0)),
        ("rx_time", b"\x06"),
    ],
)
def test_a_tag_that_cannot_be_is_not_followed(key: str, value: bytes) -> None:
    receiver, sent = stream()
    receiver.take(message(0, 1000, (300, key, value)), START_NS)
    assert numbers(sent) == [[0, 999]]
    assert (sent[0][0].sample_rate_hz, sent[0][0].centre_hz) == (1e6, 1e9)


def test_a_tag_of_a_sample_elsewhere_is_not_followed() -> None:
    receiver, sent = stream()
    receiver.take(message(0, 1000, (2**63, "rx_freq", sink.double(2e9))), START_NS)
    assert sent[0][0].centre_hz == 1e9


@pytest.mark.parametrize("offset", [0, 999, 1000 + LARGEST_GAP_S * RATE_HZ + 1, 2**64 - 1])
def test_a_flowgraph_that_was_started_again_is_a_new_epoch_and_no_loss(offset: int) -> None:
    receiver, sent = stream()
    receiver.take(message(0, 1000, (0, "rx_freq", sink.double(2e9))), START_NS)
    receiver.take([message(offset, 0)[0] + sink.samples(0, 1000)], START_NS + MS)
    first, second = (header for header, _ in sent)
    assert (first.epoch != second.epoch, second.sequence) == (True, 0)
    assert (first.centre_hz, second.centre_hz) == (2e9, 1e9)
    counts = receiver.counts
    assert (counts.restarts, counts.lost, counts.span, counts.balanced) == (1, 0, 2000, True)


def test_a_flowgraph_slower_than_its_rate_is_followed_with_new_times() -> None:
    receiver, sent = stream()
    for n in range(2500):
        receiver.take(message(n * BLOCK, BLOCK), START_NS + 2 * (n + 1) * BLOCK * NS)
    ages = [2 * (n + 1) * BLOCK * NS - (header.capture_ns - START_NS) for n, (header, _) in enumerate(sent)]
    assert max(ages) <= BEHIND_NS + SLOW_NS // 2 + 2 * BLOCK * NS
    assert (receiver.counts.clock_steps, receiver.counts.stale) == (1, 0)
    assert min(np.diff([header.capture_ns for header, _ in sent])) > 0


def test_without_tags_samples_are_as_old_as_their_arrival_says() -> None:
    receiver, sent = stream(tags=False)
    for n in range(4):
        receiver.take([sink.samples(n * 500, 500)], START_NS + (n + 1) * 500 * NS)
    assert numbers(sent) == [[0, 999], [1000, 1999]]
    assert [header.capture_ns - START_NS for header, _ in sent] == [0, 1000 * NS]
    assert all(header.flags & FLAG_HOST_TIME for header, _ in sent)
    assert receiver.counts.balanced


def test_without_tags_times_never_go_back() -> None:
    receiver, sent = stream(tags=False)
    for n in range(10):
        receiver.take([sink.samples(n * 500, 500)], START_NS + n)
    assert min(np.diff([header.capture_ns for header, _ in sent])) >= 0


def test_samples_behind_a_key_of_subscription_are_taken() -> None:
    receiver, sent = stream()
    receiver.take([b"iq", *message(0, 1000)], START_NS)
    assert numbers(sent) == [[0, 999]]


def test_stale_samples_are_counted_and_leave_a_gap_as_long_as_they_are() -> None:
    receiver, sent = stream()
    receiver.take(message(0, 1500), START_NS)
    receiver.take(message(1500, 1200), START_NS + 300 * MS, is_stale=True)
    receiver.take(message(2700, 1300, (3000, "rx_freq", sink.double(2e9))), START_NS + 300 * MS, is_stale=True)
    receiver.take(message(4000, 1000), START_NS + 300 * MS)
    assert numbers(sent) == [[0, 999], [1000, 1499], [4000, 4999]]
    assert [header.sequence for header, _ in sent] == [0, 1, 5]
    assert sent[-1][0].centre_hz == 2e9
    counts = receiver.counts
    assert (counts.received, counts.stale, counts.sent, counts.lost, counts.balanced) == (5000, 2500, 2500, 0, True)


def test_a_backlog_of_seconds_moves_no_clock() -> None:
    receiver, sent = stream()
    receiver.take(message(0, 1000, (0, "rx_time", sink.time(0.25))), START_NS + 1000 * NS)
    for n in range(1, 20):
        receiver.take(message(n * 1000, 1000), START_NS + 2 * BEHIND_NS, is_stale=True)
    receiver.take(message(2_000_000, 1000), START_NS + 2_001_000 * NS)
    assert receiver.counts.clock_steps == 0
    assert captured(sent) == pytest.approx([0, 2_000_000 * NS], abs=DRIFT * 2001 * MS)


def test_without_tags_stale_samples_are_counted_too() -> None:
    receiver, sent = stream(tags=False)
    receiver.take([sink.samples(0, 1000)], START_NS)
    receiver.take([sink.samples(1000, 1500)], START_NS + MS, is_stale=True)
    receiver.take([sink.samples(2500, 1000)], START_NS + 2 * MS)
    assert numbers(sent) == [[0, 999], [2500, 3499]]
    assert [header.sequence for header, _ in sent] == [0, 3]
    assert (receiver.counts.stale, receiver.counts.balanced) == (1500, True)


def test_a_source_that_was_held_up_throws_away_what_waits_and_accounts_for_it() -> None:
    held, goes_on, went_on = threading.Event(), threading.Event(), threading.Event()

    def hold_up(_: object) -> None:
        (went_on if held.is_set() else held).set()
        assert goes_on.wait(TIMEOUT_S)

    sender, sent = kept_sender(VirtualClock(), holds=hold_up)
    stop, endpoint = threading.Event(), "inproc://held-up-flowgraph"
    source = GnuRadioSource(stream="r", endpoint=endpoint, sample_rate_hz=RATE_HZ, queue_ms=20)
    with Publisher(endpoint, high_water_mark=0) as flowgraph, ThreadPoolExecutor(1) as threads:
        playing = threads.submit(play_gnuradio, source, RATE_HZ / BLOCK, sender, Pacer(stop, clock=SystemClock()))
        assert flowgraph.wait_for_listeners(1, TIMEOUT_S)
        flowgraph.send(message(0, BLOCK))
        assert held.wait(TIMEOUT_S)
        for n in range(1, 101):
            flowgraph.send(message(n * BLOCK, BLOCK))
        goes_on.set()
        n = 101
        while not went_on.wait(0.01):
            flowgraph.send(message(n * BLOCK, BLOCK))
            n += 1
        stop.set()
        counts = playing.result(TIMEOUT_S)
    assert counts.stale >= 100 * BLOCK
    assert (counts.lost, counts.balanced) == (0, True)
    assert numbers(sent)[1][0] == counts.stale + BLOCK
    assert sent[1][0].sequence == 1 + counts.stale // BLOCK


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], Reason.PARTS),
        ([b"a", b"b", *message(0, 10)], Reason.PARTS),
        ([sink.samples(0, 10)], Reason.MAGIC),
        ([message(0, 10)[0][:-1]], Reason.SIZE),
        ([b"\xf0\x5f"], Reason.SHORT_HEADER),
    ],
)
def test_a_broken_message_is_counted_and_its_samples_are_lost(parts: list[bytes], reason: Reason) -> None:
    receiver, sent = stream()
    receiver.take(message(0, 1000), START_NS)
    receiver.take(parts, START_NS)
    receiver.take(message(2000, 1000), START_NS)
    assert receiver.counts.rejected == {reason.value: 1}
    assert (receiver.counts.lost, receiver.counts.balanced) == (1000, True)
    assert numbers(sent) == [[0, 999], [2000, 2999]]


def test_a_tagged_stream_where_none_is_expected_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    receiver, sent = stream(tags=False)
    with caplog.at_level(logging.WARNING):
        for n in range(5):
            receiver.take(message(n * 1000, 1000), START_NS + n)
    assert (sent, receiver.counts.rejected) == ([], {"wrong_size": 5})
    assert [record.getMessage() for record in caplog.records] == [
        "ipc:///run/r: message refused: wrong_size: do tags and sample_type say what the sink sends?"
    ]


@pytest.mark.parametrize(("kind", "dtype"), [("int16", np.int16), ("int8", np.int8), ("uint8", np.uint8)])
def test_integer_samples_keep_their_type(kind: str, dtype: type[np.integer[Any]]) -> None:
    receiver, sent = stream(sample_type=kind, tags=False)
    pairs = np.arange(2 * BLOCK).reshape(-1, 2).astype(dtype)
    receiver.take([pairs.tobytes()], START_NS)
    np.testing.assert_array_equal(as_array(*sent[0]), pairs)
    assert as_array(*sent[0]).dtype == dtype


def test_an_endpoint_beyond_this_machine_is_refused() -> None:
    source = {"stream": "r", "kind": "gnuradio", "endpoint": "tcp://192.168.1.2:5555", "sample_rate_hz": 1}
    with pytest.raises(msgspec.ValidationError, match="expected ipc"):
        msgspec.convert(source, GnuRadioSource)


@pytest.mark.parametrize("queue_ms", [0, 9, 10_001, -1])
def test_a_queue_of_no_use_is_refused(queue_ms: float) -> None:
    source = {"stream": "r", "kind": "gnuradio", "endpoint": "ipc:///run/r", "sample_rate_hz": 1, "queue_ms": queue_ms}
    with pytest.raises(msgspec.ValidationError, match="expected 10 to 10000"):
        msgspec.convert(source, GnuRadioSource)


def test_a_flowgraph_and_its_stream_need_an_endpoint_each() -> None:
    radio = {"modality": "iq", "endpoint": "ipc:///run/radio", "rate_hz": 100}
    source = {"kind": "gnuradio", "stream": "radio", "endpoint": "ipc:///run/radio", "sample_rate_hz": 1_000_000}
    flight = {"bundle": "b", "results": "ipc:///run/results", "streams": {"radio": radio}, "sources": [source]}
    with pytest.raises(msgspec.ValidationError, match=r"the flowgraph of radio and .* have the endpoint"):
        msgspec.convert(flight, FlightConfig)


def test_the_command_passes_on_what_a_flowgraph_publishes_and_says_what_was_lost(tmp_path: Path) -> None:
    radio = f"{{kind: gnuradio, stream: radio, endpoint: 'ipc://{tmp_path}/flow', sample_rate_hz: {RATE_HZ}}}"
    config = write_flight(tmp_path, radio=radio)
    process = start(config, "radio")
    with Publisher(f"ipc://{tmp_path}/flow") as flowgraph, Subscriber(f"ipc://{tmp_path}/radio") as subscriber:
        assert flowgraph.wait_for_listeners(1, TIMEOUT_S)
        offset, received = 0, None
        while received is None:
            flowgraph.send(message(offset, 4000))
            offset += 8000
            received = subscriber.receive(20)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    header, payload = decode_message(received)  # type: ignore[misc]
    assert header.sample_rate_hz == RATE_HZ
    assert as_array(header, payload).shape == (4000, 2)
    found = re.search(r"flow: (\d+) samples received and (\d+) lost of (\d+)", told)
    assert found is not None, told
    counts = [int(count) for count in found.groups()]
    assert counts[0] + counts[1] == counts[2] > 0
    assert counts[1] == counts[0] - 4000

"""Messages shorter than a window become windows of continuous samples, and each one has a fate."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.clock import VirtualClock
from edge.config import PipelineConfig, StreamConfig
from edge.pipeline.alignment import Feature
from edge.pipeline.branch import Branch
from edge.pipeline.framing import HOST_TOLERANCE_NS, TIME_TOLERANCE_NS, Framing, Gathered
from edge.pipeline.scheduler import Scheduler
from edge.transport.messages import Kind
from edge.transport.ring import MIN_SLOTS, Loan, RingReader, RingWriter
from edge.transport.wire import (
    FLAG_CRC,
    FLAG_HOST_TIME,
    Header,
    Reason,
    Stamp,
    as_array,
    check_payload,
    decode_message,
    encode_array,
)
from models.bundle import open_bundle, shipped_bundle
from models.spec import IqRecipe

RATE_HZ = 1_000_000
WINDOW = 64
RECIPE = IqRecipe(window_samples=WINDOW, sample_rate_hz=RATE_HZ)
START_NS = 7_000_000_000


def numbered(first: int, count: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Return samples that carry their own number, (count, 2)."""
    return np.stack((np.arange(first, first + count), -np.arange(first, first + count)), axis=1).astype(dtype)


class Radio:
    """Makes messages that follow each other, unless told otherwise."""

    def __init__(self) -> None:
        self.at = 0
        self.sequence = 0

    def message(self, count: int, dtype: Any = np.float32, **changes: Any) -> tuple[Header, memoryview]:
        capture_ns = START_NS + self.at * 1000
        stamp = Stamp(1, 1, self.sequence, capture_ns, capture_ns, 0, RATE_HZ, 1e9)._replace(**changes)
        message = decode_message(encode_array(Kind.IQ, stamp, numbered(self.at, count, dtype), with_crc=True))
        assert not isinstance(message, Reason)
        self.at += count
        self.sequence += 1
        return message[0], memoryview(message[1])


def framing(rate_hz: float = RATE_HZ / WINDOW) -> Framing:
    return Framing(RECIPE, rate_hz)


def first_and_last(window: tuple[Header, memoryview | Gathered]) -> tuple[int, int]:
    header, payload = window
    assert not isinstance(payload, Gathered)
    samples = as_array(header, payload)
    assert samples.shape == (WINDOW, 2)
    assert (np.diff(samples[:, 0]) == 1).all()
    return int(samples[0, 0]), int(samples[-1, 0])


@given(st.lists(st.integers(1, WINDOW - 1), min_size=1, max_size=60))
def test_a_window_is_the_newest_samples_in_a_row_whatever_the_chunks(counts: list[int]) -> None:
    radio, frames = Radio(), framing()
    for count in counts:
        window = frames.gather(*radio.message(count))
        if not isinstance(window[1], Gathered):
            assert first_and_last(window) == (radio.at - WINDOW, radio.at - 1)
            assert window[0].capture_ns == START_NS + (radio.at - WINDOW) * 1000
            assert check_payload(*window) is None
            assert window[0].flags & FLAG_CRC == 0


@pytest.mark.parametrize("chunk", [1, 7, 16, 63])
@pytest.mark.parametrize("hop", [16, 64, 100])
def test_windows_leave_at_the_rate_of_the_stream(chunk: int, hop: int) -> None:
    radio, frames = Radio(), framing(RATE_HZ / hop)
    fates = [frames.gather(*radio.message(chunk))[1] for _ in range(3000 // chunk)]
    windows = sum(not isinstance(fate, Gathered) for fate in fates)
    most = (radio.at - WINDOW) / max(hop, chunk) + 1
    assert most - 2 - chunk / hop <= windows <= most + 1
    assert all(fate is Gathered.KEPT for fate in fates if isinstance(fate, Gathered))


def test_windows_that_are_still_looked_at_are_not_written_over() -> None:
    radio, frames = Radio(), framing()
    windows = [frames.gather(*radio.message(48)) for _ in range(100)]
    seen = [first_and_last(window) for window in windows if not isinstance(window[1], Gathered)]
    assert len(seen) > 50
    assert all(last - first == WINDOW - 1 for first, last in seen)
    assert [last for _, last in seen] == sorted({last for _, last in seen})


def test_nothing_is_allocated_once_it_runs() -> None:
    recipe = IqRecipe(window_samples=4096, sample_rate_hz=RATE_HZ)
    frames, radio = Framing(recipe, 244.0), Radio()
    messages = [radio.message(1000, np.int16) for _ in range(500)]
    warm_up, rest = messages[:100], messages[100:]
    for message in warm_up:
        frames.gather(*message)
    tracemalloc.start()
    for message in rest:
        frames.gather(*message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2000


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 2},
        {"epoch": 2},
        {"sample_rate_hz": RATE_HZ * 1.001},
        {"centre_hz": 2e9},
        {"capture_ns": START_NS + 40_000 + TIME_TOLERANCE_NS + 1},
        {"capture_ns": START_NS + 40_000 - TIME_TOLERANCE_NS - 1},
        {"dtype": np.int16},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_samples_that_do_not_continue_begin_a_new_window(changes: dict[str, Any]) -> None:
    radio, frames = Radio(), framing()
    assert frames.gather(*radio.message(40))[1] is Gathered.KEPT
    message = radio.message(40, **changes)
    assert frames.gather(*message)[1] is Gathered.RESTARTED
    header, _ = message
    changes = {"sequence": header.sequence + 1, "epoch": header.epoch, "sample_rate_hz": header.sample_rate_hz}
    changes |= {"centre_hz": header.centre_hz, "capture_ns": header.capture_ns + round(4e10 / header.sample_rate_hz)}
    dtype = np.float32 if header.dtype == 4 else np.int16
    assert first_and_last(frames.gather(*radio.message(40, dtype, **changes))) == (56, 119)


def test_times_of_the_host_may_jitter() -> None:
    radio, frames = Radio(), framing()
    frames.gather(*radio.message(40, flags=FLAG_HOST_TIME))
    late_ns = START_NS + 90_000_000
    window = frames.gather(*radio.message(40, flags=FLAG_HOST_TIME, capture_ns=late_ns))
    assert first_and_last(window) == (16, 79)
    assert window[0].capture_ns == late_ns - (WINDOW - 40) * 1000


@pytest.mark.parametrize("sign", [1, -1])
def test_a_source_with_times_of_the_host_that_paused_begins_a_new_window(sign: int) -> None:
    radio, frames = Radio(), framing()
    frames.gather(*radio.message(40, flags=FLAG_HOST_TIME))
    later_ns = START_NS + 40_000 + sign * (HOST_TOLERANCE_NS + 1)
    fate = frames.gather(*radio.message(40, flags=FLAG_HOST_TIME, capture_ns=later_ns))[1]
    assert fate is Gathered.RESTARTED


def test_sequence_numbers_may_wrap() -> None:
    radio, frames = Radio(), framing()
    frames.gather(*radio.message(40, sequence=2**32 - 1))
    assert first_and_last(frames.gather(*radio.message(40, sequence=0))) == (16, 79)


def test_a_gap_after_a_window_that_took_everything_gives_nothing_up() -> None:
    radio, frames = Radio(), framing()
    frames.gather(*radio.message(32))
    assert not isinstance(frames.gather(*radio.message(32))[1], Gathered)
    assert frames.gather(*radio.message(32, sequence=9))[1] is Gathered.KEPT


@pytest.fixture(scope="module")
def branch() -> Branch:
    from edge.backends.onnx import load_engines

    bundle = open_bundle(shipped_bundle())
    stream = StreamConfig(modality="iq", endpoint="ipc:///tmp/unused", rate_hz=100.0)
    engine = load_engines(bundle).branches["iq"]
    return Branch(bundle.spec.modality("iq"), engine, VirtualClock(START_NS), stream)


def noise(count: int) -> NDArray[np.int16]:
    return np.random.default_rng(1).integers(-1000, 1000, (count, 2)).astype(np.int16)


def sent(samples: NDArray[Any], first: int, sequence: int, rate_hz: float = RATE_HZ) -> tuple[Header, Any] | Reason:
    stamp = Stamp(1, 1, sequence, START_NS + first * 1000, START_NS, 0, rate_hz)
    return decode_message(encode_array(Kind.IQ, stamp, samples))


def fly(branch: Branch, messages: list[tuple[Header, Any] | Reason]) -> tuple[list[Feature], Scheduler]:
    config = {"radio": StreamConfig(modality="iq", endpoint="ipc:///tmp/unused", rate_hz=100.0)}
    scheduler = Scheduler(("iq", "image"), config, PipelineConfig(), START_NS)
    features = []
    for n, message in enumerate(messages):
        now_ns = START_NS + n * 1_000_000
        scheduler.receive("radio", branch.admit(message), now_ns)
        arrival = scheduler.take("iq", now_ns)
        if arrival is not None:
            outcome = branch.process(arrival)
            scheduler.complete("radio", outcome, now_ns)
            assert isinstance(outcome, Feature)
            features.append(outcome)
    return features, scheduler


def test_the_feature_of_a_gathered_window_is_that_of_the_same_samples_in_one_message(branch: Branch) -> None:
    samples = noise(10_240)
    (whole,), _ = fly(branch, [sent(samples, 0, 0)])
    (joined,), scheduler = fly(branch, [sent(samples[n * 1024 :][:1024], n * 1024, n) for n in range(10)])
    np.testing.assert_array_equal(joined.vector, whole.vector)
    assert joined.capture_ns == whole.capture_ns == START_NS + (10_240 - 4096) * 1000
    ledger = scheduler.accounting(START_NS)["radio"]
    assert (ledger.received, ledger.processed, ledger.gathered, ledger.restarted_windows) == (10, 1, 9, 0)
    assert ledger.balanced


def test_lost_messages_are_counted_among_gathered_ones_too(branch: Branch) -> None:
    samples = noise(1024)
    numbers = [0, 1, 2, 5, 6, 7]
    features, scheduler = fly(branch, [sent(samples, n * 1024, n) for n in numbers])
    ledger = scheduler.accounting(START_NS)["radio"]
    assert features == []
    assert (ledger.gathered, ledger.lost_transport, ledger.restarted_windows, ledger.balanced) == (6, 2, 1, True)


def test_a_short_message_that_does_not_fit_is_refused_at_once(branch: Branch) -> None:
    assert branch.admit(sent(noise(100), 0, 0, 2e6)) is Reason.SAMPLE_RATE
    assert branch.admit(sent(noise(0), 0, 0)) is Reason.SHORT_WINDOW


def test_samples_that_are_overwritten_while_they_are_copied_get_into_no_window(branch: Branch, tmp_path: Path) -> None:
    endpoint, samples = f"ipc://{tmp_path}/s", noise(4096)
    writer = RingWriter(endpoint, MIN_SLOTS, samples.nbytes)
    reader = RingReader(endpoint)

    def lent(sequence: int, part: NDArray[np.int16]) -> tuple[Header, Loan]:
        message = sent(part, sequence * 2048, sequence)
        assert not isinstance(message, Reason)
        slot = writer.reserve(part.nbytes)
        assert slot is not None
        slot.view[:] = message[1]
        loan = reader.borrow(message[0], writer.commit(slot))
        assert isinstance(loan, Loan)
        return message[0], loan

    first, second = samples[:2048], samples[2048:]
    old = lent(0, first)
    for _ in range(MIN_SLOTS):
        lent(9, second)
    assert branch.admit(old)[1] is Gathered.RESTARTED
    assert branch.admit(lent(1, second))[1] is Gathered.KEPT
    fates = [branch.admit(lent(2 + n, first))[1] for n in range(4)]
    writer.close()
    assert [isinstance(fate, Gathered) for fate in fates] == [True, True, True, False]

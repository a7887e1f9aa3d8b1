"""How a radio's time stamps find their way to the board's clock, however late they are noticed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.sources.device_time import MAX_DRIFT, SETTLED_NS, SETTLING_NS, DeviceTime

MS = 1_000_000
RADIO_NS = 1_700_000_000_000_000_000
"""How far the radio's clock is ahead."""
READ_NS = 5 * MS
"""Of samples in a read."""


def offsets(delays_ns: list[int], times: DeviceTime | None = None, first: int = 0) -> list[int]:
    """Return how far times are off after each read, of READ_NS each, that was noticed late by its delay."""
    times = times or DeviceTime()
    reads = [((first + n) * READ_NS, delay) for n, delay in enumerate(delays_ns)]
    return [times.offset_ns(true_ns + RADIO_NS, true_ns + delay) + RADIO_NS for true_ns, delay in reads]


def test_device_times_follow_the_least_delay_and_a_drifting_clock() -> None:
    times = DeviceTime()
    rng = np.random.default_rng(1)
    errors = []
    for n in range(20_000):
        true_ns = 10_000_000 * n
        device_ns = round(true_ns * (1 - 50e-6)) + 123_456
        now_ns = true_ns + int(rng.exponential(3_000_000))
        errors.append(times.host_ns(device_ns, now_ns) - true_ns)
    settled = np.array(errors[2000:])
    assert settled.min() >= 0
    assert np.percentile(settled, 99) < 1_000_000


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=100), st.lists(st.integers(0, 2000), max_size=100))
def test_once_a_read_was_prompt_no_delay_moves_the_times(before_ms: list[int], after_ms: list[int]) -> None:
    found = offsets([delay * MS for delay in (*before_ms, 0, *after_ms)])[len(before_ms) :]
    span_ns = (len(after_ms) + 1) * READ_NS + 2000 * MS
    assert min(found) >= 0
    assert max(found) <= MAX_DRIFT * span_ns


def test_a_process_that_was_stopped_for_ten_seconds_leaves_the_times_as_they_were() -> None:
    late = [10_000 * MS - n * READ_NS for n in range(2000)]
    assert max(offsets([0] * 100 + late)) <= MAX_DRIFT * 10_600 * MS


def test_times_are_not_believed_while_a_backlog_makes_them_earlier_with_each_read() -> None:
    times = DeviceTime()
    backlog = [200 * MS - n * READ_NS for n in range(40)]
    assert offsets(backlog, times)[-1] <= READ_NS + MS
    assert not times.is_settled
    offsets([0] * (SETTLING_NS // READ_NS), times, first=40)
    assert not times.is_settled
    offsets([0], times, first=40 + SETTLING_NS // READ_NS)
    assert times.is_settled


def test_a_delay_that_falls_by_little_at_a_time_is_a_fall() -> None:
    times = DeviceTime()
    steps = 2 * SETTLING_NS // READ_NS
    offsets([100 * MS - n * SETTLED_NS // 4 for n in range(steps)], times)
    assert not times.is_settled


def test_times_that_were_believed_once_stay_believed() -> None:
    times = DeviceTime()
    offsets([50 * MS] * (SETTLING_NS // READ_NS + 1), times)
    offsets([0], times, first=SETTLING_NS // READ_NS + 1)
    assert times.is_settled

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.mavlink.deployment import LEAST_BYTES_S
from edge.mavlink.outgoing.budget import BURST_S, LEAST_SHARE, Budget, Priority

S = 1_000_000_000
FRAME = st.tuples(st.integers(0, S // 4), st.integers(12, 293), st.sampled_from(Priority), st.integers(0, 255))
"""Pause before it, size, priority, and what the radio says of its buffer."""


@given(st.lists(FRAME, max_size=200), st.floats(LEAST_BYTES_S, 20_000))
def test_in_no_second_more_goes_out_than_the_budget_and_what_is_saved_up(
    frames: list[tuple[int, int, Priority, int]], bytes_s: float
) -> None:
    budget, now_ns, sent = Budget(bytes_s, 0), 0, []
    for pause_ns, size, priority, free_percent in frames:
        now_ns += pause_ns
        budget.on_radio(free_percent, now_ns)
        if budget.has_room(size, priority, now_ns):
            budget.spend(size, now_ns)
            sent.append((now_ns, size))

    windows = [sum(size for at_ns, size in sent if begin_ns <= at_ns <= begin_ns + S) for begin_ns, _ in sent]
    assert max(windows, default=0) <= bytes_s + BURST_S * bytes_s + 1e-6


@given(st.integers(12, 293), st.sampled_from(Priority))
def test_whatever_has_a_size_goes_once_the_bucket_is_full(size: int, priority: Priority) -> None:
    assert Budget(LEAST_BYTES_S, 0).has_room(size, priority, 0)


def drained(priority: Priority) -> Budget:
    """Return a budget of 1000 bytes a second of which somebody took all that he could have."""
    budget = Budget(1_000, 0)
    while budget.has_room(10, priority, 0):
        budget.spend(10, 0)
    return budget


@pytest.mark.parametrize("priority", list(Priority)[1:])
def test_whoever_takes_all_that_he_may_leaves_room_to_those_before_him(priority: Priority) -> None:
    budget = drained(priority)

    assert not budget.has_room(100, priority, 0)
    assert budget.has_room(100, Priority(priority - 1), 0)


def test_what_was_spent_comes_back_at_the_rate() -> None:
    budget = drained(Priority.URGENT)

    assert not budget.has_room(100, Priority.URGENT, S // 10 - 1_000_000)
    assert budget.has_room(100, Priority.URGENT, S // 10)


def test_time_that_goes_back_earns_nothing() -> None:
    budget = drained(Priority.URGENT)

    assert not budget.has_room(10, Priority.URGENT, -S)
    assert not budget.has_room(10, Priority.URGENT, 0)


def told(free_percents: list[int], period_ns: int = S, bytes_s: float = 1_000) -> list[float]:
    budget = Budget(bytes_s, 0)
    rates = []
    for number, free_percent in enumerate(free_percents):
        budget.on_radio(free_percent, (number + 1) * period_ns)
        rates.append(budget.bytes_s)
    return rates


def test_a_choked_radio_halves_the_rate_and_a_free_one_raises_it_by_a_tenth_a_second() -> None:
    assert told([10, 10, 40, 61, 61]) == pytest.approx([500, 250, 250, 350, 450])


def test_what_a_radio_says_every_moment_counts_twice_a_second() -> None:
    assert told([10] * 10, period_ns=S // 10)[-1] == pytest.approx(250)


def test_a_radio_that_stays_choked_keeps_the_least_share_and_one_that_is_free_gets_no_more_than_all() -> None:
    assert told([0] * 20, bytes_s=10_000)[-1] == 10_000 * LEAST_SHARE
    assert told([0] * 20, bytes_s=600)[-1] == LEAST_BYTES_S
    assert told([100] * 20)[-1] == 1_000


def test_a_radio_that_says_nothing_any_more_holds_nobody_back() -> None:
    budget = Budget(1_000, 0)
    budget.on_radio(0, S)
    budget.has_room(1, Priority.URGENT, 12 * S)

    assert budget.bytes_s == 1_000

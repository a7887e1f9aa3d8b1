"""When a stream's receiver computes once for practice."""

import pytest

from edge.pipeline.rehearsal import NEVER_NS, Rehearsal

MS = 1_000_000
PERIOD_NS = 10 * MS


def arrivals(rehearsal: Rehearsal, count: int, period_ns: int = PERIOD_NS, start_ns: int = 0) -> int:
    """Let messages come in and return the last one's time."""
    for n in range(count):
        rehearsal.note_arrival(start_ns + n * period_ns)
    return start_ns + (count - 1) * period_ns


def test_nothing_is_rehearsed_before_the_first_message():
    assert Rehearsal(PERIOD_NS).due_ns() == NEVER_NS


def rehearse(rehearsal: Rehearsal, count: int, took_ns: int, start_ns: int) -> int:
    """Let messages come in and be rehearsed, and return the last one's time."""
    for n in range(count):
        last_ns = arrivals(rehearsal, 1, start_ns=start_ns + n * PERIOD_NS)
        rehearsal.note_done(last_ns, last_ns + took_ns)
    return last_ns


def test_a_rehearsal_is_done_half_its_own_time_before_the_message_is_due():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = rehearse(rehearsal, 100, 2 * MS, 0)
    last_ns = arrivals(rehearsal, 1, start_ns=last_ns + PERIOD_NS)
    assert rehearsal.due_ns() == pytest.approx(last_ns + PERIOD_NS - 3 * MS, abs=1000)


def test_there_is_one_rehearsal_a_message():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = arrivals(rehearsal, 2)
    rehearsal.note_done(last_ns, last_ns + MS)
    assert rehearsal.due_ns() == NEVER_NS


def test_the_pace_is_the_sources_own_and_not_the_one_in_the_deployment():
    ours, other = Rehearsal(PERIOD_NS), Rehearsal(PERIOD_NS)
    last_ns = arrivals(ours, 200, period_ns=12 * MS)
    arrivals(other, 200, period_ns=PERIOD_NS, start_ns=last_ns - 199 * PERIOD_NS)
    assert ours.due_ns() - other.due_ns() == pytest.approx(2 * MS, rel=1e-3)


def test_a_gap_and_a_burst_leave_the_pace_as_it_was():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = arrivals(rehearsal, 20)
    lead_ns = last_ns - rehearsal.due_ns()
    rehearsal.note_arrival(last_ns + 1_000 * MS)
    rehearsal.note_arrival(last_ns + 1_001 * MS)
    assert last_ns + 1_001 * MS - rehearsal.due_ns() == lead_ns


def test_where_rehearsals_take_a_third_of_the_period_they_end_and_are_tried_again_later():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = rehearse(rehearsal, 100, 5 * MS, 0)
    arrivals(rehearsal, 1, start_ns=last_ns + PERIOD_NS)
    assert rehearsal.due_ns() == NEVER_NS
    arrivals(rehearsal, 50, start_ns=last_ns + 2 * PERIOD_NS)
    assert rehearsal.due_ns() < NEVER_NS


def test_one_rehearsal_that_was_held_up_changes_little():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = rehearse(rehearsal, 100, MS, 0)
    rehearsal.note_done(last_ns, last_ns + 9 * MS)
    arrivals(rehearsal, 1, start_ns=last_ns + PERIOD_NS)
    assert rehearsal.due_ns() < NEVER_NS

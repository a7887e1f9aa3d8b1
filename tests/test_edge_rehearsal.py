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


def test_a_rehearsal_is_done_half_its_own_time_before_the_message_is_due():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = arrivals(rehearsal, 3)
    rehearsal.note_done(last_ns + 5 * MS, last_ns + 7 * MS)
    last_ns = arrivals(rehearsal, 1, start_ns=last_ns + PERIOD_NS)
    assert rehearsal.due_ns() == last_ns + PERIOD_NS - 3 * MS


def test_there_is_one_rehearsal_a_message():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = arrivals(rehearsal, 2)
    rehearsal.note_done(last_ns, last_ns + MS)
    assert rehearsal.due_ns() == NEVER_NS


def test_the_pace_is_the_sources_own_and_not_the_one_in_the_deployment():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = arrivals(rehearsal, 200, period_ns=12 * MS)
    rehearsal.note_done(last_ns, last_ns)
    last_ns = arrivals(rehearsal, 1, start_ns=last_ns + 12 * MS)
    assert rehearsal.due_ns() - last_ns == pytest.approx(12 * MS, rel=1e-3)


def test_a_gap_and_a_burst_leave_the_pace_as_it_was():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = arrivals(rehearsal, 20)
    rehearsal.note_done(last_ns, last_ns)
    rehearsal.note_arrival(last_ns + 1_000 * MS)
    rehearsal.note_arrival(last_ns + 1_001 * MS)
    assert rehearsal.due_ns() == last_ns + 1_001 * MS + PERIOD_NS


def test_where_a_rehearsal_takes_a_third_of_the_period_there_is_none_more():
    rehearsal = Rehearsal(PERIOD_NS)
    last_ns = arrivals(rehearsal, 2)
    rehearsal.note_done(last_ns, last_ns + 4 * MS)
    arrivals(rehearsal, 1, start_ns=last_ns + PERIOD_NS)
    assert rehearsal.due_ns() == NEVER_NS

import random

from hypothesis import given
from hypothesis import strategies as st

from edge.mavlink.network.link_state import LATE_NS, LOST_NS, LinkState, State
from edge.mavlink.ports.backoff import BACKOFF_NS, JITTER, Backoff

S = 1_000_000_000


def test_a_link_goes_through_its_states() -> None:
    state = LinkState()
    seen = [state.at(0)]
    state.note_port(is_open=True)
    seen.append(state.at(0))
    state.note_frame()
    seen.append(state.at(0))
    state.note_heartbeat(0)
    seen += [state.at(age) for age in (0, LATE_NS, LATE_NS + 1, LOST_NS, LOST_NS + 1)]
    state.note_heartbeat(LOST_NS + 2)
    seen.append(state.at(LOST_NS + 2))

    assert seen == [
        State.CLOSED, State.OPEN, State.HEARD, State.UP, State.UP, State.LATE, State.LATE, State.LOST, State.UP,
    ]  # fmt: skip


def test_a_port_that_went_away_begins_anew() -> None:
    state = LinkState()
    state.note_port(is_open=True)
    state.note_heartbeat(0)
    state.note_port(is_open=False)
    assert state.at(0) == State.CLOSED
    state.note_port(is_open=True)
    assert state.at(LOST_NS + 1) == State.OPEN


def test_frames_without_heartbeats_keep_no_link_up() -> None:
    state = LinkState()
    state.note_port(is_open=True)
    state.note_heartbeat(0)
    state.note_frame()

    assert state.at(LOST_NS + 1) == State.LOST


@given(st.integers(0, 1000), st.integers(1, 30))
def test_pauses_grow_to_less_than_two_seconds_and_never_hurry(seed: int, attempts: int) -> None:
    backoff, now_ns = Backoff(random.Random(seed)), 0
    for attempt in range(attempts):
        assert backoff.is_due(now_ns)
        backoff.begin(now_ns)
        pause_ns = BACKOFF_NS[min(attempt, len(BACKOFF_NS) - 1)]
        assert not backoff.is_due(now_ns + round(pause_ns * (1 - JITTER)) - 1)
        now_ns += round(pause_ns * (1 + JITTER))
        assert pause_ns * (1 + JITTER) < 2 * S


def test_those_who_lost_the_same_server_do_not_come_back_in_step() -> None:
    waiting = [Backoff() for _ in range(40)]
    for backoff in waiting:
        backoff.begin(0)

    assert 0 < sum(backoff.is_due(BACKOFF_NS[0]) for backoff in waiting) < 40


def test_success_makes_the_next_pause_short_again() -> None:
    backoff = Backoff(random.Random(1))
    for now_ns in range(5):
        backoff.begin(now_ns)
    backoff.succeed()
    assert backoff.is_due(0)
    backoff.begin(0)
    assert backoff.is_due(round(BACKOFF_NS[0] * (1 + JITTER)))

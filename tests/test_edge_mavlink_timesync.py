import pytest
import timesync_at_loss
from timesync_at_loss import DELAYS, sync

from edge.mavlink.place.timesync import HOLD_NS, MAX_PENDING, NS_PER_MS, NS_PER_S, PATIENCE_SAMPLES, TimeSync

MOST_MS = 3.0
OFFSET_NS = 12_345 * NS_PER_S


def locked(*, rtt_ms: float = 2.0, offset_ns: int = OFFSET_NS, start_ns: int = NS_PER_S) -> tuple[TimeSync, int]:
    """Return a clock that had its burst answered, and the time then."""
    clock = TimeSync(start_ns)
    return clock, ask(clock, start_ns, seconds=1.0, rtt_ms=rtt_ms, offset_ns=offset_ns)


def ask(clock: TimeSync, now_ns: int, *, seconds: float, rtt_ms: float = 2.0, offset_ns: int = OFFSET_NS) -> int:
    """Answer what the clock asks for a while, without jitter; return the time then."""
    end_ns, rtt_ns = now_ns + round(seconds * NS_PER_S), round(rtt_ms * NS_PER_MS)
    while now_ns < end_ns:
        if (ts1 := clock.question(now_ns)) is not None:
            clock.on_answer(now_ns + rtt_ns // 2 + offset_ns, ts1, now_ns + rtt_ns)
        now_ns += 10 * NS_PER_MS
    return now_ns


@pytest.mark.parametrize("link", DELAYS)
@pytest.mark.parametrize("seed", range(3))
def test_the_offset_is_right_within_3_ms_at_p95_with_drift_loss_and_asymmetric_delays(link: str, seed: int) -> None:
    outcome = sync(DELAYS[link], seed=seed)

    assert outcome.p95_ms <= MOST_MS
    assert outcome.locked_s < 5


@pytest.mark.parametrize("drift", [-100e-6, 200e-6])
def test_crystals_that_differ_more_than_usual_do_not_lose_the_lock(drift: float) -> None:
    assert max(sync(DELAYS["jittering"], seed=seed, seconds=120, drift=drift).p95_ms for seed in range(4)) <= 6.0


@pytest.mark.parametrize("link", DELAYS)
def test_already_in_the_first_minute_the_offset_is_almost_as_right(link: str) -> None:
    assert max(sync(DELAYS[link], seed=seed, seconds=60).p95_ms for seed in range(8)) <= 4.0


def test_the_simulation_sees_a_clock_that_is_wrong() -> None:
    outcome = sync(lambda draw: (1.0, 9.0), seed=1, drift=0.0, loss=0.0)

    assert outcome.p95_ms == pytest.approx(4.0, abs=0.01)


def test_the_simulation_prints_its_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["timesync_at_loss", "--seeds", "1", "--seconds", "60"])

    timesync_at_loss.main()

    assert capsys.readouterr().out.count('"p95_ms"') == len(DELAYS)


def test_nothing_is_known_before_eight_answers() -> None:
    clock = TimeSync(0)
    for n in range(7):
        ts1 = clock.question(n * 100 * NS_PER_MS)
        assert ts1 is not None
        clock.on_answer(ts1 + OFFSET_NS + NS_PER_MS, ts1, ts1 + 2 * NS_PER_MS)
    assert clock.offset_at(NS_PER_S) is None

    ts1 = clock.question(700 * NS_PER_MS)
    assert ts1 is not None
    clock.on_answer(ts1 + OFFSET_NS + NS_PER_MS, ts1, ts1 + 2 * NS_PER_MS)
    assert clock.offset_at(NS_PER_S) == OFFSET_NS


def test_answers_that_do_not_agree_lock_nothing() -> None:
    clock = TimeSync(0)
    for n in range(30):
        ts1 = clock.question(n * NS_PER_S)
        assert ts1 is not None
        clock.on_answer(ts1 + OFFSET_NS + n % 2 * 5 * NS_PER_MS, ts1, ts1 + 2 * NS_PER_MS)

    assert clock.offset_at(30 * NS_PER_S) is None


def test_an_answer_that_its_delay_does_not_explain_keeps_the_time_unknown_no_longer_than_a_new_burst_takes() -> None:
    """A simulation's clock that stands still for a moment, as its computer is busy, answers so."""
    clock, answered, now_ns = TimeSync(0), 0, 0
    while now_ns < 60 * NS_PER_S and clock.offset_at(now_ns) is None:
        if (ts1 := clock.question(now_ns)) is not None:
            rtt_ns, answered = 2 * NS_PER_MS, answered + 1
            wrong_ns = round(4.4 * NS_PER_MS) if answered == 4 else 0
            clock.on_answer(ts1 + rtt_ns // 2 + OFFSET_NS - wrong_ns, ts1, ts1 + rtt_ns)
        now_ns += 10 * NS_PER_MS

    assert now_ns < 17 * NS_PER_S
    assert clock.offset_at(now_ns) == pytest.approx(OFFSET_NS, abs=10)


def test_a_busy_computer_that_delays_all_but_one_answer_locks_after_sixteen() -> None:
    """Each is off by less than half of its round trip, and by more than the least of these."""
    clock, locked_after = TimeSync(0), 0
    for n in range(40):
        ts1, rtt_ms = clock.question(n * NS_PER_S), 8.0 if n else 1.0
        assert ts1 is not None
        out_ms = rtt_ms / 2 + (0.0, 3.0, -1.0, -2.0)[n % 4]
        clock.on_answer(ts1 + round(out_ms * NS_PER_MS) + OFFSET_NS, ts1, ts1 + round(rtt_ms * NS_PER_MS))
        if clock.offset_at(n * NS_PER_S) is not None:
            locked_after = n + 1
            break

    assert locked_after == PATIENCE_SAMPLES
    assert clock.offset_at(locked_after * NS_PER_S) == pytest.approx(OFFSET_NS, abs=4 * NS_PER_MS)


def test_it_asks_ten_times_in_the_first_second_then_each_second_and_once_locked_ever_less() -> None:
    silent, asked = TimeSync(0), []
    for now_ns in range(0, 4 * NS_PER_S, 10 * NS_PER_MS):
        asked += [now_ns / NS_PER_S] if silent.question(now_ns) is not None else []
    assert asked == pytest.approx([*(n / 10 for n in range(10)), 1.0, 2.0, 3.0])

    clock, now_ns = locked()
    asked_ns = [at_ns for at_ns in range(now_ns, now_ns + 40 * NS_PER_S, NS_PER_S) if clock.question(at_ns) is not None]
    assert [at_ns // NS_PER_S for at_ns in asked_ns] == [2, 3, 5, 9, 17, 27, 37]


def test_no_two_questions_are_the_same_even_where_the_clock_stands_still() -> None:
    clock = TimeSync(0)
    first = clock.question(0)
    clock.restart(0)

    assert clock.question(0) != first


@pytest.mark.parametrize(
    ("tc1", "ts1_change", "late_ns"), [(1, 0, 0), (OFFSET_NS, 1, 0), (-1, 0, 0), (0, 0, 0), (OFFSET_NS, 0, -3)]
)
def test_an_answer_to_nobody_or_from_before_its_question_is_left_alone(tc1: int, ts1_change: int, late_ns: int) -> None:
    clock, now_ns = locked()
    ts1 = clock.question(now_ns + 10 * NS_PER_S)
    assert ts1 is not None
    before = clock.offset_at(now_ns)

    clock.on_answer(tc1, ts1 + ts1_change, ts1 + late_ns)

    assert clock.offset_at(now_ns) == before


def test_a_second_answer_to_one_question_is_left_alone() -> None:
    clock = TimeSync(0)
    ts1 = clock.question(0)
    assert ts1 is not None
    for _ in range(20):
        clock.on_answer(OFFSET_NS, ts1, 2 * NS_PER_MS)

    assert clock.offset_at(NS_PER_S) is None


def test_an_answer_to_a_question_of_long_ago_is_left_alone() -> None:
    clock = TimeSync(0)
    asked = [clock.question(n * NS_PER_S) for n in range(MAX_PENDING + 8)]
    for ts1 in asked[:8]:
        assert ts1 is not None
        clock.on_answer(ts1 + OFFSET_NS, ts1, ts1)

    assert clock.offset_at(30 * NS_PER_S) is None


def test_one_absurd_answer_changes_nothing_and_two_mean_that_the_other_clock_began_anew() -> None:
    clock, now_ns = locked()
    for at_s, expected in ((10.0, OFFSET_NS), (10.2, None)):
        ts1 = clock.question(now_ns + round(at_s * NS_PER_S))
        assert ts1 is not None, "who contradicts is asked again at once"
        clock.on_answer(ts1 + 5, ts1, ts1 + 10)
        assert clock.offset_at(now_ns) == expected

    now_ns = ask(clock, now_ns + 11 * NS_PER_S, seconds=9.0, offset_ns=5)
    assert clock.offset_at(now_ns) == pytest.approx(5, abs=5)


def test_after_a_restart_it_asks_in_a_burst_and_answers_of_before_are_foreign() -> None:
    clock, now_ns = locked()
    ts1 = clock.question(now_ns + 10 * NS_PER_S)
    assert ts1 is not None
    clock.restart(now_ns + 10 * NS_PER_S)
    clock.on_answer(OFFSET_NS, ts1, ts1)

    assert clock.offset_at(now_ns + 10 * NS_PER_S) is None
    now_ns = ask(clock, now_ns + 10 * NS_PER_S, seconds=1.0, offset_ns=-7)
    assert clock.offset_at(now_ns) == pytest.approx(-7, abs=5)


def test_an_offset_that_nobody_confirmed_for_two_minutes_is_not_known_any_more() -> None:
    clock, now_ns = locked()

    assert clock.offset_at(now_ns + HOLD_NS - 2 * NS_PER_S) is not None
    assert clock.offset_at(now_ns + HOLD_NS + NS_PER_S) is None


def test_it_waits_for_an_answer_only_while_one_may_come() -> None:
    clock = TimeSync(0)
    ts1 = clock.question(0)
    assert ts1 is not None

    assert clock.is_waiting_at(50 * NS_PER_MS)
    assert not clock.is_waiting_at(200 * NS_PER_MS)
    clock.on_answer(OFFSET_NS, ts1, 60 * NS_PER_MS)
    assert not clock.is_waiting_at(60 * NS_PER_MS)

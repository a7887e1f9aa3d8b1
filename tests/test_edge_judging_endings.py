"""A pipeline that falls silent until the end, or begins anew: only what somebody did on purpose is pardoned."""

import dataclasses

import msgspec
import pytest
from faulty_flights import BEGIN_NS, events, fly, two_sensors
from judged_flights import S, violations
from test_edge_faults_live import deployment
from test_edge_judging import TERMS, judged
from test_edge_judging_recorded import record

from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.judging.judge import Judge, kills_of
from edge.judging.recorded import judge_recording
from edge.judging.trouble import STATUS_LATE_NS, troubles_of
from edge.operations.faulty_run import FaultyRun
from edge.operations.observer import Observer
from edge.operations.supervisor import Supervisor
from edge.recording.reader import open_recording
from edge.transport.messages import Classification


@pytest.fixture(scope="module")
def sound():
    """A flight of 6 s that nothing befell."""
    return fly(FaultPlan(), seconds=6.0)


def until(messages, seconds: float):
    """Return what was said until a time."""
    return [m for m in messages if _at_ns(m) <= BEGIN_NS + seconds * S]


def later(messages, seconds: float):
    """Return the same, said later."""
    by_ns = round(seconds * S)
    return [
        msgspec.structs.replace(m, answer_ns=m.answer_ns + by_ns)
        if isinstance(m, Classification)
        else msgspec.structs.replace(m, time_ns=m.time_ns + by_ns)
        for m in messages
    ]


def _at_ns(message) -> int:
    return message.answer_ns if isinstance(message, Classification) else message.time_ns


def test_a_pipeline_that_hangs_to_the_end_breaks_the_third_promise(sound):
    judgement = judged(until(sound.answers, 2.0), until(sound.statuses, 2.0), end_ns=BEGIN_NS + 6 * S)
    assert [text.partition(" s, ")[2] for text in violations(judgement, "I3")] == ["to the end of the flight"] * 2
    assert judged(until(sound.answers, 2.0), until(sound.statuses, 2.0), end_ns=BEGIN_NS + 3 * S).has_held


def test_a_pipeline_that_never_answers_breaks_the_third_promise(sound):
    mute = [msgspec.structs.replace(status, results=0) for status in sound.statuses]
    assert violations(judged([], mute, end_ns=BEGIN_NS + 6 * S), "I3") == [
        "no answer for 5.98 s, to the end of the flight"
    ]
    assert judged([], sound.statuses).has_held  # its answers were not recorded


def test_a_judge_that_is_asked_twice_says_the_same(sound):
    judge = Judge(TERMS)
    for answer in sound.answers[:3]:
        judge.note_answer(answer)
    first, second = (judge.judgement(BEGIN_NS + seconds * S) for seconds in (4, 4))
    assert first.as_json() == second.as_json()
    assert judge.judgement(sound.answers[2].answer_ns).has_held


def begun_anew(flight):
    """Return what a pipeline says that dies after 6 s and is there again after 7 s."""
    return [*flight.answers, *later(flight.answers, 7.0)], [*flight.statuses, *later(flight.statuses, 7.0)]


def killed(*seconds: float):
    return dataclasses.replace(TERMS, kills_ns=tuple(BEGIN_NS + round(at_s * S) for at_s in seconds))


@pytest.mark.parametrize("kill_s", [5.2, 6.0, 6.9])
def test_counts_and_numbers_begin_anew_where_the_pipeline_was_killed_on_purpose(sound, kill_s):
    assert judged(*begun_anew(sound), terms=killed(kill_s)).has_held


@pytest.mark.parametrize("terms", [killed(), killed(2.0), killed(9.0)])
def test_a_pipeline_that_begins_anew_although_nobody_killed_it_breaks_the_third_promise(sound, terms):
    texts = violations(judged(*begun_anew(sound), terms=terms), "I3")
    assert sorted({text.partition(",")[0] for text in texts}) == ["the pipeline was started again"]
    assert [text.partition("its last ")[2].partition(",")[0] for text in texts] == ["answer", "status"]


def test_one_kill_pardons_one_new_beginning(sound):
    answers, statuses = begun_anew(sound)
    twice = [*answers, *later(sound.answers, 13.5)], [*statuses, *later(sound.statuses, 13.5)]
    assert len(violations(judged(*twice, terms=killed(6.1)), "I3")) == 2
    assert judged(*twice, terms=killed(6.1, 13.2)).has_held


def test_a_new_beginning_that_nobody_looked_at_is_pardoned(sound):
    judge = Judge(TERMS)
    for answer in sound.answers:
        judge.note_answer(answer)
    judge.pardon(BEGIN_NS + 7 * S)
    for answer in later(sound.answers, 7.0):
        judge.note_answer(answer)
    assert judge.judgement(BEGIN_NS + 13 * S).has_held


@pytest.mark.parametrize(("after_s", "said"), [(4.2, []), (4.4, ["no status for 4.40 s"])])
def test_a_status_may_come_a_second_later_than_an_answer_where_the_pipeline_was_killed(sound, after_s, said):
    last_s = (sound.statuses[-1].time_ns - BEGIN_NS) / S
    again = [msgspec.structs.replace(sound.statuses[0], time_ns=sound.statuses[-1].time_ns + round(after_s * S))]
    judgement = judged([], [*sound.statuses, *again], terms=killed(last_s + 0.1))
    assert [violation.text for violation in judgement.verdicts["I3"].first] == said


def test_the_kills_of_a_flight_are_known_from_its_faults():
    faults = [parse_fault(text) for text in ("process:kill@8s", "radio:off@1s", "process:kill@2s")]
    assert kills_of(faults, 5, 2.0) == (S + 5, 4 * S + 5)


def test_what_a_fault_does_while_the_pipeline_is_killed_is_not_judged(sound):
    faults = ["camera:off@1s+3s"]
    assert not judged(sound.answers, sound.statuses, faults).has_held
    verdicts = judged(sound.answers, sound.statuses, faults, killed(1.5)).verdicts
    assert "camera" not in "".join(violation.text for violation in verdicts["I3"].first)


def test_a_fault_that_no_status_of_a_live_flight_tells_of_breaks_the_third_promise(sound):
    """For 2 s, and nothing is answered; where statuses come once a second alone they may come between them."""
    silent = [msgspec.structs.replace(status, results=7) for status in sound.statuses]
    live = dataclasses.replace(TERMS, status_late_ns=STATUS_LATE_NS)
    texts = violations(judged([], silent, ["radio:off@2.1s+2s"], live), "I3")
    assert texts == ["radio:off@2.1s+2s: neither answer nor status says so more than 1 s after its beginning"]
    assert judged([], silent, ["radio:off@2.1s+2s"]).has_held


def test_one_stream_of_two_must_be_told_of_as_soon_as_a_status_can(sound):
    modalities = {"left": "image", "right": "image"}
    trouble = troubles_of([parse_fault("left:off@1s+1.5s")], modalities, 0)[0]
    assert trouble.must_be_seen(9 * S, STATUS_LATE_NS)
    assert not trouble.must_be_seen(9 * S, TERMS.status_late_ns)


def recorded(tmp_path, flight, seconds: float, is_last: bool | None):
    """Return the recording of a flight whose sensors go on; its last status says whether it was the last."""
    *statuses, last = flight.statuses
    statuses = [msgspec.structs.replace(status, is_last=None if is_last is None else False) for status in statuses]
    statuses.append(msgspec.structs.replace(last, is_last=is_last))
    said = dataclasses.replace(flight, statuses=statuses)
    return open_recording(record(tmp_path / "flight.mcap", said, events(two_sensors(), seconds)))


@pytest.mark.parametrize(
    ("seconds", "is_last", "word"),
    [
        (6.5, False, "held"),
        (9.0, False, "violated"),
        (9.0, True, "held"),
        (9.0, None, "held"),
        (16.0, None, "violated"),
    ],
)
def test_a_recorded_pipeline_must_speak_as_long_as_its_sensors_do_unless_it_was_told_to_stop(
    tmp_path, sound, seconds, is_last, word
):
    """One of old did not say so, and is given the time that it may take to stop the others."""
    verdict = judge_recording(recorded(tmp_path, sound, seconds, is_last)).verdicts["I3"]
    assert verdict.word == word
    assert all(violation.text.endswith("to the end of the flight") for violation in verdict.first)


def faulty_run(tmp_path, first=None):
    """Return a flight with faults that has begun, and who listens to it."""
    faulty = FaultyRun(deployment(), FaultPlan(faults=(parse_fault("radio:off@60s"),)), tmp_path, first)
    return faulty, Observer(f"ipc://{tmp_path}/results")


def test_what_was_heard_counts_beside_what_was_recorded(tmp_path, sound):
    path = record(tmp_path / "flight.mcap", sound, events(two_sensors(), 6.0))
    faulty, observer = faulty_run(tmp_path, path)
    with observer:
        observer.status = sound.statuses[0]
        faulty.check(observer, Supervisor({}))
        observer.judge.note_answer(msgspec.structs.replace(sound.answers[0], confidence=0.123))
        observer.end()
        judgement = faulty.judgement(observer)
    assert judgement.verdicts["I2"].word == "violated"
    assert (judgement.verdicts["I1"].word, judgement.verdicts["I1"].judged) == ("held", len(sound.statuses))


def test_what_was_recorded_counts_beside_what_was_heard(tmp_path, sound):
    bad = dataclasses.replace(sound, answers=[msgspec.structs.replace(a, confidence=0.123) for a in sound.answers])
    faulty, observer = faulty_run(tmp_path, record(tmp_path / "flight.mcap", bad, events(two_sensors(), 6.0)))
    with observer:
        observer.status = sound.statuses[0]
        faulty.check(observer, Supervisor({}))
        observer.end()
        assert faulty.judgement(observer).verdicts["I2"].violations == len(sound.answers)

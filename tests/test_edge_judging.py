"""Every promise is found broken where it is, and held where it is."""

import dataclasses
import math

import msgspec
import pytest
from faulty_flights import BEGIN_NS, fly, stream_configs, two_sensors
from judged_flights import NAMES, S, changed, violations, with_modality, words

from edge.config import PipelineConfig
from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.judging.judge import Judge, Terms
from edge.judging.trouble import PERIODIC_LATE_NS, gaps_of, troubles_of
from edge.operations.replays import judge_of

TERMS = Terms(begin_ns=BEGIN_NS, max_age_ms=300.0, quiet_ns=S, status_late_ns=PERIODIC_LATE_NS)
"""Statuses of virtual flights come once a second alone."""


@pytest.fixture(scope="module")
def sound():
    """A flight of 6 s that nothing befell."""
    return fly(FaultPlan(), seconds=6.0)


def judged(answers, statuses, faults=(), terms=TERMS, end_ns=None):
    """Return the judgement of answers and statuses, told in the order of time; the flight ends with the last."""
    modalities = {name: stream.modality for name, stream in stream_configs(two_sensors()).items()}
    judge = Judge(terms, troubles_of([parse_fault(text) for text in faults], modalities, BEGIN_NS))
    told = [(a.answer_ns, judge.note_answer, a) for a in answers] + [
        (s.time_ns, judge.note_status, s) for s in statuses
    ]
    for _, tell, message in sorted(told, key=lambda item: item[0]):
        tell(message)
    return judge.judgement(max((at_ns for at_ns, _, _ in told), default=BEGIN_NS) if end_ns is None else end_ns)


def with_stream(statuses, n: int, **fields):
    """Return statuses, in one of which the radio's counts are changed."""
    streams = statuses[n].streams
    return changed(statuses, n, streams={**streams, "radio": msgspec.structs.replace(streams["radio"], **fields)})


def test_a_sound_flight_is_held_to_three_promises_and_the_others_are_not_judged_with_the_reason(sound):
    judgement = judged(sound.answers, sound.statuses)
    assert judgement.has_held
    assert tuple(judgement.verdicts) == NAMES
    assert list(words(judgement).values()) == ["held"] * 3 + ["not judged"] * 4
    assert all(verdict.not_judged for verdict in judgement.verdicts.values() if verdict.word == "not judged")
    assert judgement.verdicts["I2"].judged == len(sound.answers)


def test_nothing_is_judged_by_nothing():
    assert set(words(judged([], [])).values()) == {"not judged"}


def test_a_message_that_is_not_accounted_for_breaks_the_first_promise(sound):
    received = sound.statuses[2].streams["radio"].received
    texts = violations(judged(sound.answers, with_stream(sound.statuses, 2, received=received + 1)), "I1")
    assert texts[0].startswith(f"radio: {received + 1} received, but {received} processed")


def test_a_count_that_falls_breaks_the_first_promise(sound):
    statuses = with_stream(sound.statuses, 2, lost_transport=5)
    assert violations(judged(sound.answers, statuses), "I1") == ["radio: lost_transport fell from 5 to 0"]


@pytest.mark.parametrize("place", [50, 51])
def test_answers_out_of_order_break_the_first_promise(sound, place):
    answers = changed(sound.answers, 51, sequence=sound.answers[place - 1].sequence)
    assert violations(judged(answers, sound.statuses), "I1") == [
        f"answer {answers[51].sequence} comes after answer {answers[50].sequence}"
    ]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"probs": (math.nan, 0.5, 0.5, 0.0)}, "probabilities (nan, "),
        ({"probs": (1.5, -0.5, 0.0, 0.0)}, "probabilities (1.5, "),
        ({"probs": (0.5, 0.4, 0.0, 0.0), "class_id": 0, "confidence": 0.5}, "the probabilities sum to 0.900000"),
        ({"confidence": 0.123}, "confidence 0.123 is not the probability of class"),
        ({"class_id": 77}, "is not the probability of class 77"),
        ({"class_id": -1}, "NO_DATA with an input or probabilities"),
    ],
)
def test_an_answer_that_is_no_distribution_breaks_the_second_promise(sound, fields, text):
    assert text in violations(judged(changed(sound.answers, 40, **fields), sound.statuses), "I2")[0]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"age_ms": 300.5}, "iq is 300.5 ms old, at most 300 are allowed"),
        ({"age_ms": math.nan}, "iq is nan ms old"),
        ({"weight": 0.9}, "the weights sum to "),
        ({"entropy": math.inf}, "iq: entropy inf"),
    ],
)
def test_an_input_that_is_too_old_or_weighed_wrong_breaks_the_second_promise(sound, fields, text):
    assert violations(judged(with_modality(sound.answers, 40, **fields), sound.statuses), "I2")[0].startswith(text)


def test_an_absent_modality_without_a_reason_breaks_the_third_promise(sound):
    answers = fly(FaultPlan(faults=(parse_fault("radio:off@2s"),)), seconds=6.0).answers
    assert violations(judged(with_modality(answers, -2, reason=""), sound.statuses), "I3") == [
        "iq has mask 0 and the reason ''"
    ]


def test_silence_of_the_pipeline_breaks_the_third_promise(sound):
    answers = [a for a in sound.answers if not 2 * S < a.answer_ns - BEGIN_NS < 3.5 * S]
    assert violations(judged(answers, sound.statuses), "I3")[0].startswith("no answer for 1.5")


def test_a_pause_of_the_statuses_breaks_the_third_promise(sound):
    statuses = [sound.statuses[0], *sound.statuses[4:]]
    assert violations(judged(sound.answers, statuses), "I3")[0].startswith("no status for 4.0")


def test_a_pause_that_was_not_looked_at_is_pardoned(sound):
    judge = Judge(TERMS)
    for answer in sound.answers[:50]:
        judge.note_answer(answer)
    judge.pardon(sound.answers[150].answer_ns)
    for answer in sound.answers[150:]:
        judge.note_answer(answer)
    assert judge.judgement(sound.answers[-1].answer_ns).has_held


def test_a_stream_that_is_used_in_spite_of_its_fault_breaks_the_third_promise(sound):
    texts = violations(judged(sound.answers, sound.statuses, ["camera:stuck@1s"]), "I3")
    assert texts == ["camera:stuck@1s: camera is used more than 1 s after its beginning"]


def test_a_fault_that_nobody_speaks_of_breaks_the_third_promise(sound):
    answers = [
        msgspec.structs.replace(a, modalities=a.modalities[:1]) if a.answer_ns > BEGIN_NS + S else a
        for a in sound.answers
    ]
    answers = [a for a in answers if len(a.modalities) > 1] + [
        msgspec.structs.replace(a, modalities=(msgspec.structs.replace(a.modalities[0], weight=1.0),))
        for a in answers
        if len(a.modalities) == 1
    ]
    texts = violations(judged(answers, sound.statuses, ["camera:off@1s"]), "I3")
    assert texts == ["camera:off@1s: neither answer nor status says so more than 1 s after its beginning"]


def test_a_stream_that_does_not_come_back_breaks_the_fourth_promise():
    flight = fly(FaultPlan(faults=(parse_fault("camera:off@1s+7s"),)), seconds=8.0)
    judgement = judged(flight.answers, flight.statuses, ["camera:off@1s+3s"])
    assert violations(judgement, "I4") == ["camera:off@1s+3s: camera is not used 2 s after its end"]


def test_a_fault_that_was_seen_and_is_over_keeps_the_promises():
    flight = fly(FaultPlan(faults=(parse_fault("radio:wrong@1s+3s"),)), seconds=8.0)
    assert flight.broken() == []
    assert flight.judgement.verdicts["I4"].judged == 1


def test_one_camera_of_two_must_be_seen_in_the_statuses():
    sensors = {**two_sensors(), "second": dataclasses.replace(two_sensors()["camera"], rate_hz=25.0)}
    plan = FaultPlan(faults=(parse_fault("second:garbage@1s+3s"),))
    flight = fly(plan, sensors, 8.0)
    assert flight.broken() == []
    streams = stream_configs(sensors)
    judge = judge_of(streams, PipelineConfig(), plan, BEGIN_NS)
    for answer in fly(FaultPlan(), sensors, 8.0).answers:
        judge.note_answer(answer)
    assert "second" in judge.judgement(BEGIN_NS + 8 * S).verdicts["I3"].first[0].text


def test_a_fault_during_another_ones_recovery_is_not_held_against_the_first():
    modalities = {"camera": "image"}
    faults = [parse_fault(text) for text in ("camera:off@1s+2s", "camera:slow@4s+2s", "camera:off@20s+3s")]
    troubles = troubles_of(faults, modalities, 0)
    assert [trouble.is_over for trouble in troubles] == [False, True, True]


def test_few_repetitions_need_not_be_seen_as_stuck():
    faults = [parse_fault(text) for text in ("camera:stuck@1s+5s", "camera:slow@2s+2s", "camera:stuck@20s+5s")]
    assert [trouble.is_shown for trouble in troubles_of(faults, {"camera": "image"}, 0)] == [False, False, True]


def test_silences_are_told_from_messages_that_the_recorder_missed():
    arrivals = [(0, 1), (S, 2), (6 * S, 3), (7 * S, 4), (20 * S, 400), (21 * S, 401)]
    found = gaps_of("camera", {"camera": "image"}, arrivals, 2 * S)
    assert [(trouble.start_ns, trouble.end_ns) for trouble in found] == [(S, 6 * S)]


def test_only_the_first_violations_are_kept_and_all_are_counted(sound):
    answers = [msgspec.structs.replace(a, confidence=0.0) for a in sound.answers]
    verdict = judged(answers, sound.statuses).verdicts["I2"]
    assert verdict.violations == len(answers) > len(verdict.first) == 20
    assert f"   and {len(answers) - 20} more" in judged(answers, sound.statuses).lines()

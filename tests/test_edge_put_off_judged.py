"""A flight with faults that this machine is too slow for: they are expected as much later as they come."""

import functools
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from faulty_flights import BEGIN_NS, Flight, fly, stream_configs, two_sensors
from judged_flights import violations

from edge.config import FlightConfig
from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.judging.judge import Judge, Terms
from edge.judging.trouble import PERIODIC_LATE_NS, troubles_of
from edge.operations.live_replay import LiveOptions, _Flight
from edge.operations.observer import Observer
from edge.operations.replayed_faults import ReplayedFaults
from edge.recording.controls import Command
from edge.recording.pacing import PutOff

S = 1_000_000_000
SECONDS = 10.5
NAMED = "camera:off@3s+2s"


@functools.cache
def flown(befallen: str) -> Flight:
    return fly(FaultPlan(faults=(parse_fault(befallen),)), seconds=SECONDS)


def judged(befallen: str, put_off: PutOff | None):
    """Return the judgement of a flight that one fault befell, while NAMED was asked for, and put off."""
    flight = flown(befallen)
    modalities = {name: stream.modality for name, stream in stream_configs(two_sensors()).items()}
    terms = Terms(begin_ns=BEGIN_NS, max_age_ms=300.0, quiet_ns=S, status_late_ns=PERIODIC_LATE_NS)
    judge = Judge(terms, troubles_of([parse_fault(NAMED)], modalities, BEGIN_NS))
    told = [(answer.answer_ns, judge.note_answer, answer) for answer in flight.answers]
    told += [(status.time_ns, judge.note_status, status) for status in flight.statuses]
    if put_off is not None:
        told_ns = put_off.since_ns + put_off.by_ns - S // 5
        told.append((told_ns, lambda late: judge.put_off(late.since_ns, late.by_ns), put_off))
    for _, tell, message in sorted(told, key=lambda item: item[0]):
        tell(message)
    return judge.judgement(BEGIN_NS + round(SECONDS * S))


@pytest.mark.parametrize(
    ("befallen", "since_s", "by_s", "broken"),
    [
        pytest.param("camera:off@4.5s+2s", 2.9, 1.5, "I3", id="before its beginning"),
        pytest.param("camera:off@3s+5s", 4.9, 3.0, "I4", id="before its end"),
        pytest.param("camera:off@3s+5s", 5.1, 3.0, "I4", id="before the stream is used again"),
    ],
)
def test_promises_are_held_where_the_flight_was_put_off_and_would_be_broken_else(
    befallen: str, since_s: float, by_s: float, broken: str
) -> None:
    late = PutOff(BEGIN_NS + round(since_s * S), round(by_s * S))
    judgement = judged(befallen, late)
    assert judgement.has_held, judgement.lines()
    assert judgement.verdicts["I4"].judged == 1
    assert violations(judged(befallen, None), broken)


def test_a_stream_that_stays_away_is_found_in_a_flight_that_was_put_off_too() -> None:
    late = PutOff(BEGIN_NS + round(2.9 * S), S)
    assert violations(judged("camera:off@4s+6s", late), "I4")


def test_a_kill_that_was_put_off_is_known_for_one() -> None:
    """Named for the second second, it comes after the fifth; a pipeline that nobody killed has failed."""
    first, again = fly(FaultPlan(), seconds=5.0), fly(FaultPlan(), seconds=3.0)
    answers = [*first.answers, *(moved(answer, "answer_ns") for answer in again.answers)]
    statuses = [*first.statuses, *(moved(status, "time_ns") for status in again.statuses)]
    terms = Terms(begin_ns=BEGIN_NS, max_age_ms=300.0, quiet_ns=S, kills_ns=(BEGIN_NS + 2 * S,))
    for put_off, broken in ((PutOff(BEGIN_NS + S, 3 * S), []), (None, ["I3"])):
        judge = Judge(terms)
        if put_off is not None:
            judge.put_off(put_off.since_ns, put_off.by_ns)
        for answer in answers:
            judge.note_answer(answer)
        for status in statuses:
            judge.note_status(status)
        judgement = judge.judgement(BEGIN_NS + 9 * S)
        assert [name for name, verdict in judgement.verdicts.items() if verdict.violations] == broken


def moved(message, time_field: str):
    """Return a message of a pipeline that was started again 6 s later."""
    return msgspec.structs.replace(message, **{time_field: getattr(message, time_field) + 6 * S})


class ScriptedPlayback:
    """A playback that tells one thing with each poll."""

    def __init__(self, *script) -> None:
        self._script = list(script)
        self.begin_ns = self.position = self.played = None
        self._put_offs: list[PutOff] = []

    def begin(self) -> None:
        pass

    def ask(self, command: Command) -> None:
        raise AssertionError(command)

    def poll(self) -> None:
        for name, value in self._script.pop(0) if self._script else [("played", True)]:
            if name == "late":
                self._put_offs.append(value)
            else:
                setattr(self, name, value)

    def take_put_offs(self) -> list[PutOff]:
        put_offs, self._put_offs = self._put_offs, []
        return put_offs


def test_the_judge_of_a_live_replay_hears_of_every_delay_before_it_is_told_what_came_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[PutOff] = []
    judge = SimpleNamespace(put_off=lambda since_ns, by_ns: heard.append(PutOff(since_ns, by_ns)))
    monkeypatch.setattr("edge.operations.live_replay.judge_of", lambda *_: judge)
    with_the_beginning, at_the_end = PutOff(1, 2), PutOff(3, 4)
    playback = ScriptedPlayback(
        [("begin_ns", BEGIN_NS), ("late", with_the_beginning)], [], [("late", at_the_end), ("played", True)]
    )
    config = FlightConfig(bundle="model", streams=stream_configs(two_sensors()), results=f"ipc://{tmp_path}/results")
    options = LiveOptions(plan=FaultPlan(faults=(parse_fault("camera:off@1s"),)))
    told = ReplayedFaults(options.plan, 1.0, tmp_path)
    supervisor = SimpleNamespace(check=lambda: None, process_ids=dict)
    with Observer(config.results) as observer:
        _Flight(config, options, told, observer, supervisor, playback).fly(1.0, lambda: None)
        assert heard == [with_the_beginning, at_the_end]
        playback._put_offs.append(PutOff(5, 6))
        observer.before_judging()
    assert heard[2:] == [PutOff(5, 6)]

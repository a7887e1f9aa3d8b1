"""Recorded flights are judged by what they hold: their deployment, silences, injected faults, several files."""

import dataclasses
import itertools
import json
import math

import msgspec
import pytest
from faulty_flights import BEGIN_NS, Flight, events, fly, two_sensors
from judged_flights import NAMES, S, changed, violations, with_modality, words

from edge.cli import main
from edge.config import FlightConfig, PipelineConfig, StreamConfig
from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.judging.recorded import judge_flight, judge_recording
from edge.recording.flight_facts import FAULTS_FILE
from edge.recording.injected import injected_into
from edge.recording.reader import open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Classification, Injected, Kind, PipelineStatus
from edge.transport.wire import encode_header
from models.errors import ConfigError, RecordingError
from models.schema import dump_yaml


@pytest.fixture(scope="module")
def sound():
    """A flight of 6 s that nothing befell."""
    return fly(FaultPlan(), seconds=6.0)


def record(path, flight, sensed):
    """Write a recording of a flight's answers and statuses, of what sensors sent, and which deployment flew."""
    told = [(a.answer_ns, a) for a in flight.answers] + [(s.time_ns, s) for s in flight.statuses]
    told += [(event.log_ns, event) for event in sensed if event.header is not None]
    with RecordingWriter(path, utc_offset_ns=1_700_000_000 * S) as writer:
        writer.attach("flight.yaml", "application/yaml", dump_yaml(deployment()))
        for at_ns, message in sorted(told, key=lambda item: item[0]):
            if isinstance(message, Classification | PipelineStatus):
                writer.write_message(message, at_ns)
            else:
                header = message.header
                writer.write_sensor(message.stream, header, encode_header(header), message.payload, at_ns)
    return path


def sent_anew(sensed):
    """Number the camera's messages as a source does that was silent and lost none."""
    numbers = itertools.count()
    return [
        dataclasses.replace(event, header=event.header._replace(sequence=next(numbers)))
        if event.stream == "camera"
        else event
        for event in sensed
    ]


def deployment(**pipeline) -> FlightConfig:
    streams = {
        name: StreamConfig(modality=sensor.modality, endpoint=f"ipc:///tmp/none/{name}", rate_hz=sensor.rate_hz)
        for name, sensor in two_sensors().items()
    }
    config = PipelineConfig(**pipeline)
    return FlightConfig(bundle="none.uavb", streams=streams, results="ipc:///tmp/none/results", pipeline=config)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """The recording of a flight of 8 s whose camera goes off for a while."""
    plan = FaultPlan(faults=(parse_fault("camera:off@2s+2.5s"),))
    sensed = plan.befall(events(two_sensors(), 8.0), BEGIN_NS)
    return record(tmp_path_factory.mktemp("faulty") / "flight.mcap", fly(plan, seconds=8.0), sensed)


def test_a_recorded_flight_is_judged_with_the_faults_that_are_named(faulty, capsys):
    assert main(["judge", str(faulty), "--fault", "camera:off@2s+2.5s", "--json"]) == 0
    out = capsys.readouterr().out.splitlines()
    verdicts = json.loads(out[-1])
    assert verdicts["held"] is True
    assert [verdicts["promises"][name]["verdict"] for name in NAMES] == ["held"] * 4 + ["not judged"] * 3
    assert out[0] == "I1 held: every message is accounted for, exactly"


def test_a_recorded_violation_ends_with_exit_code_1_and_says_when(faulty, capsys):
    assert main(["judge", str(faulty), "--fault", "radio:off@1s+2s"]) == 1
    assert "after 2.0" in capsys.readouterr().out


def test_a_silent_stream_is_found_in_the_recording_itself(sound, tmp_path):
    plan = FaultPlan(faults=(parse_fault("camera:off@2s+2.5s"),))
    flight = fly(plan, seconds=8.0)
    sensed = sent_anew(plan.befall(events(two_sensors(), 8.0), BEGIN_NS))
    path = record(tmp_path / "flight.mcap", flight, sensed)
    assert words(judge_recording(open_recording(path)))["I4"] == "held"
    unseen = dataclasses.replace(flight, answers=fly(FaultPlan(), seconds=8.0).answers, statuses=sound.statuses[:2])
    path = record(tmp_path / "unseen.mcap", unseen, sensed)
    texts = violations(judge_recording(open_recording(path)), "I3")
    assert "silence of 2.5 s of camera: camera is used more than 1 s after its beginning" in texts


def test_the_limits_are_those_of_the_deployment_that_flew(sound, tmp_path):
    def age(message):
        if not isinstance(message, Classification):
            return message
        return with_modality([message], 0, age_ms=250.0)[0] if message.modalities[0].mask else message

    path = tmp_path / "flight.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        writer.attach("flight.yaml", "application/yaml", dump_yaml(deployment(max_age_ms=200.0)))
        for answer in sound.answers:
            writer.write_message(age(answer), answer.answer_ns)
    texts = [violation.text for violation in judge_recording(open_recording(path)).verdicts["I2"].first]
    assert texts[0] == "iq is 250.0 ms old, at most 200 are allowed"


def test_an_answer_that_is_not_a_number_is_found_although_json_has_none(sound, tmp_path):
    path = tmp_path / "flight.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        for answer in changed(sound.answers, 30, confidence=math.nan):
            writer.write_message(answer, answer.answer_ns)
    verdict = judge_recording(open_recording(path)).verdicts["I2"]
    assert verdict.violations == 1
    assert verdict.first[0].text.startswith("not readable: /classification")


def test_a_recording_without_answers_is_refused_with_a_remedy(sound, tmp_path, capsys):
    path = tmp_path / "flight.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        for event in events(two_sensors(), 1.0):
            if event.header is not None:
                writer.write_sensor(
                    event.stream, event.header, encode_header(event.header), event.payload, event.log_ns
                )
    with pytest.raises(RecordingError, match="neither answers nor statuses"):
        judge_recording(open_recording(path))
    assert main(["judge", str(path)]) == 6
    assert "uav-edge replay --exact" in capsys.readouterr().err


def test_a_fault_of_a_stream_that_was_not_recorded_is_refused_with_the_list(faulty):
    with pytest.raises(ConfigError, match="one of camera, radio"):
        judge_recording(open_recording(faulty), [parse_fault("sonar:off@1s")])
    assert main(["judge", str(faulty), "--fault", "sonar:off@1s"]) == 2
    assert main(["judge", str(faulty), "--fault", "camera:off"]) == 2


def test_a_fault_of_a_stream_that_the_recorder_left_out_is_judged_by_what_was_answered(tmp_path):
    """`recording.topics` leaves the camera out; the deployment in the file says that there was one."""
    plan = FaultPlan(faults=(parse_fault("camera:off@2s+2.5s"),))
    radio = [event for event in events(two_sensors(), 8.0) if event.stream == "radio"]
    told = told_of(fly(plan, seconds=8.0).statuses, ("camera:off@2s+2.5s",), BEGIN_NS)
    flight = Flight(answers=fly(plan, seconds=8.0).answers, statuses=told)
    recording = open_recording(record(tmp_path / "flight.mcap", flight, radio))
    judgement = judge_recording(recording)
    assert (words(judgement)["I3"], words(judgement)["I4"], judgement.verdicts["I4"].judged) == ("held", "held", 1)
    assert judge_recording(recording, plan.faults).verdicts["I4"].judged == 1


def test_a_deployment_that_cannot_be_read_leaves_the_defaults(sound, tmp_path, caplog):
    path = tmp_path / "flight.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        writer.attach("flight.yaml", "application/yaml", b"streams: 7\n")
        for answer in sound.answers:
            writer.write_message(answer, answer.answer_ns)
    assert judge_recording(open_recording(path)).has_held
    assert "the limits that flew are not known" in caplog.text


def told_of(statuses, faults: tuple[str, ...], begin_ns: int) -> list[PipelineStatus]:
    """Return statuses that tell of injected faults."""
    injected = Injected(faults=faults, seed=3, begin_ns=begin_ns)
    return [msgspec.structs.replace(status, injected=injected) for status in statuses]


def test_faults_that_were_injected_are_known_from_the_recording_with_their_times(tmp_path, capsys):
    """The flight began, as far as its faults are concerned, a second after the recording."""
    plan = FaultPlan(faults=(parse_fault("camera:off@2s+2.5s"),))
    flight = fly(plan, seconds=8.0)
    told = told_of(flight.statuses, ("camera:off@1s+2.5s",), BEGIN_NS + S)
    sensed = plan.befall(events(two_sensors(), 8.0), BEGIN_NS)
    path = record(tmp_path / "flight.mcap", dataclasses.replace(flight, statuses=told), sensed)
    assert injected_into([open_recording(path)]).faults == ("camera:off@1s+2.5s",)
    assert words(judge_recording(open_recording(path)))["I4"] == "held"
    assert main(["judge", str(path), "--json"]) == 0
    out = capsys.readouterr().out
    assert "faults were injected into this flight: camera:off@1s+2.5s" in out
    assert json.loads(out.splitlines()[-1])["injected"] == ["camera:off@1s+2.5s"]


def test_an_injected_fault_that_nobody_noticed_is_found_without_its_name(sound, tmp_path):
    told = told_of(sound.statuses, ("radio:off@1s+2s",), BEGIN_NS)
    path = record(tmp_path / "flight.mcap", dataclasses.replace(sound, statuses=told), events(two_sensors(), 6.0))
    texts = violations(judge_recording(open_recording(path)), "I3")
    assert texts == ["radio:off@1s+2s: radio is used more than 1 s after its beginning"]


def test_injected_faults_of_which_no_status_says_when_are_told_and_not_judged(sound, tmp_path, caplog):
    path = tmp_path / "flight.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        writer.attach(FAULTS_FILE, "application/json", msgspec.json.encode(Injected(faults=("radio:off@1s+2s",))))
        for answer in sound.answers:
            writer.write_message(answer, answer.answer_ns)
    assert judge_recording(open_recording(path)).has_held
    assert "no status is recorded that says when" in caplog.text
    assert injected_into([open_recording(path)]).faults == ("radio:off@1s+2s",)


def test_an_attachment_of_faults_that_is_none_is_refused(sound, tmp_path, capsys):
    path = tmp_path / "flight.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        writer.attach(FAULTS_FILE, "application/json", b"[7]")
        for answer in sound.answers:
            writer.write_message(answer, answer.answer_ns)
    assert main(["judge", str(path)]) == 6
    assert "faults.json is not what it should be" in capsys.readouterr().err


def test_the_faults_of_a_recording_that_is_put_on_another_clock_move_with_it(tmp_path, sound):
    told = told_of(sound.statuses, ("radio:off@1s+2s",), BEGIN_NS)
    paths = [tmp_path / name for name in ("a.mcap", "b.mcap")]
    record(paths[0], Flight(), [event for event in events(two_sensors(), 1.0) if event.stream == "camera"])
    record(paths[1], dataclasses.replace(sound, statuses=told), [])
    inputs = [str(path) for path in paths]
    assert main(["recording", "merge", str(tmp_path / "out.mcap"), *inputs, "--clock-offset", "b=2.5"]) == 0
    merged = open_recording(tmp_path / "out.mcap").last_message(Kind.STATUS)
    assert merged.injected.begin_ns == BEGIN_NS + 2.5 * S


def in_two_files(folder, flight, sensed, until_s: float, from_s: float) -> list:
    """Return a recording in two files, between which nothing was recorded."""
    sensed, spans = list(sensed), ((-math.inf, until_s), (from_s, math.inf))
    found = []
    for n, (begin_s, end_s) in enumerate(spans, 1):

        def is_in(at_ns: int, begin_s: float = begin_s, end_s: float = end_s) -> bool:
            return begin_s <= (at_ns - BEGIN_NS) / S < end_s

        part = dataclasses.replace(
            flight,
            answers=[answer for answer in flight.answers if is_in(answer.answer_ns)],
            statuses=[status for status in flight.statuses if is_in(status.time_ns)],
        )
        path = record(folder / f"flight-{n}.mcap", part, [event for event in sensed if is_in(event.log_ns)])
        found.append(open_recording(path))
    return found


@pytest.mark.parametrize("order", [1, -1])
def test_a_flight_in_several_files_is_judged_as_one_and_not_in_between(tmp_path, order):
    fault = "camera:off@2s+2.5s"
    plan = FaultPlan(faults=(parse_fault(fault),))
    flight, sensed = fly(plan, seconds=14.0), plan.befall(events(two_sensors(), 14.0), BEGIN_NS)
    parts = in_two_files(tmp_path, flight, sensed, 8.0, 12.0)
    judgement = judge_flight(parts[::order], plan.faults)
    assert [words(judgement)[name] for name in ("I1", "I2", "I3", "I4")] == ["held"] * 4
    assert judgement.verdicts["I2"].judged == sum(part.streams["classification"].count for part in parts)


def test_what_a_fault_does_while_nothing_is_recorded_is_not_judged(tmp_path):
    """The camera is off from 6 s to 10 s, the disk full from 5.5 s to 9 s, and again the end falls into a pause."""
    plan = FaultPlan(faults=(parse_fault("camera:off@6s+4s"),))
    flight, sensed = fly(plan, seconds=16.0), list(plan.befall(events(two_sensors(), 16.0), BEGIN_NS))
    begun = judge_flight(in_two_files(tmp_path, flight, sensed, 5.5, 9.0), plan.faults)
    assert (words(begun)["I3"], words(begun)["I4"]) == ("held", "held")
    (tmp_path / "again").mkdir()
    ended = judge_flight(in_two_files(tmp_path / "again", flight, sensed, 9.5, 13.0), plan.faults)
    assert (words(ended)["I3"], words(ended)["I4"]) == ("held", "not judged")


def test_without_a_file_there_is_nothing_to_judge():
    with pytest.raises(ConfigError, match="expected a recording"):
        judge_flight([])

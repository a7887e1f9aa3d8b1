"""Faults by name from the command line: in exact replay, and in live replay through real processes."""

import json
from pathlib import Path

import pytest

from edge.cli import main
from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.faults.orders import Orders
from edge.operations.live_replay import LiveOptions, fly_live
from edge.operations.observer import Observer
from edge.operations.replayed_faults import ReplayedFaults
from edge.operations.supervisor import MAVLINK, PIPELINE
from edge.recording.reader import open_recording
from edge.recording.synthetic import write_synthetic_flight
from edge.sources.synthetic import SyntheticFlight
from models.bundle import open_bundle, shipped_bundle


@pytest.fixture(scope="module")
def flight(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    write_synthetic_flight(path, SyntheticFlight(7, 1.0, camera_rate_hz=10.0, radio_rate_hz=50.0), 7.0, lambda _: None)
    return path


def replayed(flight: Path, capsys, *arguments: str) -> tuple[int, dict]:
    code = main(["replay", str(flight), "--bundle", str(shipped_bundle()), "--json", *arguments])
    return code, json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_faults_in_exact_replay_are_accounted_for_and_judged(flight, capsys):
    arguments = ("--exact", "--fault", "camera:wrong@1s+2s", "--fault", "radio:garbage@3s+1.5s")
    code, summary = replayed(flight, capsys, *arguments)
    assert code == 0
    assert summary["accounting"]["camera"]["rejected"] == 20
    assert summary["accounting"]["radio"]["rejected"] == 75
    verdicts = {name: found["verdict"] for name, found in summary["promises"].items()}
    assert verdicts == dict.fromkeys(("I1", "I2", "I3", "I4"), "held") | dict.fromkeys(("I5", "I6", "I7"), "not judged")
    assert summary["promises"]["I4"]["judged"] == 2


def test_exact_replay_with_faults_gives_the_same_bytes_for_a_seed_and_others_for_another(flight, capsys):
    fault = ("--exact", "--fault", "radio:intermittent@1s+4s")
    first, again, other = (
        replayed(flight, capsys, *fault, "--fault-seed", seed)[1]["results_sha256"] for seed in ("1", "1", "2")
    )
    assert first == again != other


def test_a_lost_link_leaves_answers_without_a_pose(flight, tmp_path, capsys):
    out = tmp_path / "answers.jsonl"
    replayed(flight, capsys, "--exact", "--fault", "link:loss@2s", "--results", str(out))
    poses = [json.loads(line)["pose"] for line in out.read_text().splitlines()]
    assert poses[5] is not None
    assert poses[-1] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--exact", "--fault", "sonar:off@1s"), "STREAM being one of camera, radio"),
        (("--exact", "--fault", "camera:melted@1s"), "intermittent"),
        (("--exact", "--fault", "camera:off"), "expected TARGET:KIND@STARTs+DURATIONs"),
        (("--exact", "--fault", "process:kill@1s"), "leave out --exact"),
        (("--fault", "sonar:off@1s"), "STREAM being one of camera, radio"),
        (("--rate", "0", "--fault", "camera:off@1s"), "rate 0"),
        (("--fault", "camera:off@1s", "--mavlink", "serial:/dev/ttyS1:57600"), "--faults-reach-vehicle"),
        (("--fault", "camera:off@1s", "--mavlink", "udpout:192.168.0.1:14550"), "may lead to an autopilot"),
    ],
)
def test_a_fault_that_cannot_befall_the_replay_ends_with_exit_code_2(flight, capsys, arguments, said):
    assert main(["replay", str(flight), "--bundle", str(shipped_bundle()), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_faults_befall_a_live_replay_and_every_status_tells_of_them(flight, monkeypatch):
    """How many messages are inferred is the machine's affair; what is refused is not."""
    observers = []

    class Kept(Observer):
        def __init__(self, *options, **named) -> None:
            super().__init__(*options, **named)
            observers.append(self)

    monkeypatch.setattr("edge.operations.live_replay.Observer", Kept)
    plan = FaultPlan(faults=(parse_fault("camera:wrong@1s+2s"), parse_fault("radio:garbage@3s+1.5s")), seed=4)
    flown = fly_live(open_recording(flight), open_bundle(shipped_bundle()), LiveOptions(plan=plan))
    told = observers[0].status.injected
    assert (told.faults, told.seed) == (("camera:wrong@1s+2s", "radio:garbage@3s+1.5s"), 4)
    assert told.begin_ns > 0
    assert flown.is_balanced
    assert sum(flown.streams["radio"].rejected.values()) == 75
    assert 1 <= sum(flown.streams["camera"].rejected.values()) <= 20
    assert [flown.judgement.verdicts[name].word for name in ("I1", "I2")] == ["held", "held"]
    assert flown.judgement.verdicts["I4"].judged == 2


@pytest.mark.slow
def test_a_pipeline_that_a_fault_kills_is_started_again_and_answers(flight):
    plan = FaultPlan(faults=(parse_fault("process:kill@1s"),))
    flown = fly_live(open_recording(flight), open_bundle(shipped_bundle()), LiveOptions(plan=plan, rate=0.5))
    assert flown.restarts == 1
    assert flown.is_balanced
    numbers = [answer.sequence for answer in flown.answers]
    assert numbers != sorted(numbers)
    assert flown.judgement.verdicts["I2"].word == "held"


@pytest.mark.parametrize("is_safe", [True, False])
def test_processes_of_a_replay_are_told_of_faults_at_the_times_when_they_happen(tmp_path, is_safe):
    plan = FaultPlan(faults=(parse_fault("link:loss@3s+1s"), parse_fault("radio:off@1s")), seed=9)
    faults = ReplayedFaults(plan, 2.0, tmp_path)
    told = faults.told({MAVLINK: ["mavlink"], PIPELINE: ["pipeline"]}, is_vehicle_safe=is_safe)
    assert told[PIPELINE] == ["pipeline", "--faults", str(tmp_path / "faults.json")]
    assert told[MAVLINK][3:] == (["--faults-reach-vehicle"] if is_safe else [])
    assert Orders(tmp_path / "faults.json").injected().begin_ns == 0
    faults.begin(77)
    injected = Orders(tmp_path / "faults.json").injected()
    assert (injected.faults, injected.seed, injected.begin_ns) == (("link:loss@1.5s+0.5s", "radio:off@0.5s"), 9, 77)


def test_processes_of_a_replay_without_faults_are_told_nothing(tmp_path):
    faults = ReplayedFaults(FaultPlan(), 1.0, tmp_path)
    faults.begin(77)
    assert faults.told({PIPELINE: ["pipeline"]}, is_vehicle_safe=False) == {PIPELINE: ["pipeline"]}
    assert list(tmp_path.iterdir()) == []

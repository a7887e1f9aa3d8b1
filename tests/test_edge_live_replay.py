"""A flight through the live pipeline as it is asked for: in laps, as fast as it goes, a part of it."""

import json
import time
from pathlib import Path

import pytest

from edge.cli import main
from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.operations.live_replay import LiveOptions, fly_live
from edge.operations.playback import Playback, Program
from edge.recording.reader import open_recording
from edge.recording.synthetic import write_synthetic_flight
from edge.sources.synthetic import SyntheticFlight
from models.bundle import open_bundle, shipped_bundle
from models.errors import ConfigError, LinkError

RADIO, CAMERA = 100, 30
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one second of radio and camera."""
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    write_synthetic_flight(path, SyntheticFlight(7, 1.0), 1.0, lambda _: None)
    return path


@pytest.mark.slow
def test_laps_are_one_flight_in_which_nothing_is_lost(flight: Path) -> None:
    flown = fly_live(open_recording(flight), open_bundle(shipped_bundle()), LiveOptions(laps=3))
    summary = flown.summary()
    assert flown.played is not None
    assert flown.is_balanced
    assert {name: stream.received for name, stream in flown.streams.items()} == {
        "radio": 3 * RADIO,
        "camera": 3 * CAMERA,
    }
    assert {stream.lost_transport for stream in flown.streams.values()} == {0}
    assert summary["replay"]["is_whole"]
    assert summary["replay"]["sent"] == {"radio": 3 * RADIO, "camera": 3 * CAMERA, "pose": 30}
    assert any(answer.pose is not None for answer in flown.answers)
    assert summary["replay"]["not_received"] == {"radio": 0, "camera": 0}
    assert summary["replay"]["spacing_error_ms"]["count"] > 3 * (RADIO + CAMERA) - 2
    used = [answer.capture_ns for answer in flown.answers if answer.has_answer]
    assert 2.5e9 < max(used) - min(used) < 3.1e9 + flown.played.put_off_ns
    truths = [flown.truths.at(capture_ns) for capture_ns in used]
    assert sum(truth is not None for truth in truths) > 0.9 * len(used)


def test_at_max_every_message_reaches_the_pipeline_and_the_summary_says_so(
    flight: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--rate", "max", "--loop", "20", "--from", "0.5", "--remap", "radio=front", "--json"]
    assert main(["replay", str(flight), "--bundle", str(shipped_bundle()), *arguments]) == 0
    told = capsys.readouterr().out.splitlines()
    replay = json.loads(told[-1])["replay"]
    assert (replay["sent"]["front"], replay["sent"]["camera"]) == (20 * RADIO // 2, 20 * CAMERA // 2)
    assert replay["not_received"] == {"front": 0, "camera": 0}
    assert replay["rate"] is None
    assert replay["spacing_error_ms"] is None
    assert "0 of 1300 sensor messages lost on their way to the pipeline" in told
    assert any(line.startswith("replayed as fast as it went: ") for line in told)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--rate", "0.001"), "expected max, or 0.01 to 100 times real time"),
        (("--rate", "quick"), "expected max, or"),
        (("--rate", "nan"), "expected max, or"),
        (("--loop", "0"), "expected how often to fly it, 1 to 999999, or nothing"),
    ],
)
def test_rates_and_laps_that_are_none_are_refused(
    flight: Path, capsys: pytest.CaptureFixture, arguments: tuple[str, ...], text: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["replay", str(flight), "--bundle", str(shipped_bundle()), *arguments])
    assert text in capsys.readouterr().err


def test_laps_belong_to_live_replay(flight: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["replay", str(flight), "--bundle", str(shipped_bundle()), "--exact", "--loop", "2"]) == 2
    assert "--loop goes with live replay" in capsys.readouterr().err


def test_faults_have_the_times_of_one_flight(flight: Path) -> None:
    plan = FaultPlan(faults=(parse_fault("camera:off@0.5s"),))
    with pytest.raises(ConfigError, match="without --loop"):
        fly_live(open_recording(flight), open_bundle(shipped_bundle()), LiveOptions(plan=plan, laps=2))


def _poll_to_the_end(playback: Playback) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while playback.played is None and time.monotonic() < deadline_s:
        playback.poll()
        time.sleep(0.01)


def test_what_goes_wrong_in_the_playing_process_is_told_as_it_is(flight: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = Program(recording=open_recording(flight), endpoints={"radio": f"ipc://{tmp_path}/file/radio"})
    with Playback(program, lambda _: None) as playback, pytest.raises(LinkError, match="file/radio"):
        _poll_to_the_end(playback)


def test_a_playing_process_that_dies_is_told(flight: Path, tmp_path: Path) -> None:
    program = Program(recording=open_recording(flight), endpoints={"radio": f"ipc://{tmp_path}/radio"})
    with Playback(program, lambda _: None) as playback:
        playback._process.kill()
        with pytest.raises(LinkError, match="the process that plays the recording died"):
            _poll_to_the_end(playback)

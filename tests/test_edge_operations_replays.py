"""Live replay: what goes wrong in its threads, and the files it is to write."""

from pathlib import Path

import pytest

from edge.cli import main
from edge.operations.live_replay import LiveOptions, fly_live
from edge.recording.reader import open_recording
from edge.recording.synthetic import write_synthetic_flight
from edge.recording.writer import RecordingWriter
from edge.sources.synthetic import SyntheticFlight
from edge.transport.messages import Truth
from edge.transport.wire import encode_header
from models.bundle import open_bundle, shipped_bundle
from models.errors import ConfigError, DeviceError, RecordingError


@pytest.fixture(scope="module")
def flight(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    write_synthetic_flight(path, SyntheticFlight(7, 1.0), 0.5, lambda done: None)
    return path


@pytest.fixture
def broken(flight, tmp_path) -> Path:
    """A recording whose last message is no truth, in a chunk that is sound."""
    path = tmp_path / "broken.mcap"
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        for event in open_recording(flight).events():
            if event.header is not None:
                writer.write_sensor(
                    event.stream, event.header, encode_header(event.header), event.payload, event.log_ns
                )
        writer.write_message(Truth(capture_ns=event.log_ns, class_id="seven", label=""), event.log_ns)
    return path


def test_recording_that_breaks_off_while_it_is_played_is_an_error(broken):
    with pytest.raises(RecordingError, match="stream truth"):
        fly_live(open_recording(broken), open_bundle(shipped_bundle()), LiveOptions())


def test_live_replay_of_a_broken_recording_has_its_exit_code(broken, capsys):
    assert main(["replay", str(broken), "--bundle", str(shipped_bundle())]) == RecordingError.exit_code
    assert "stream truth" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--results", "--report"])
def test_output_that_cannot_be_written_is_said_before_the_flight(option, tmp_path, capsys):
    """The recording is not even opened: it does not exist."""
    path = tmp_path / "absent" / "out"
    arguments = ["--bundle", str(shipped_bundle()), option, str(path)]
    assert main(["replay", str(tmp_path / "absent.mcap"), *arguments]) == RecordingError.exit_code
    error = capsys.readouterr().err
    assert error.startswith(f"uav-edge: {path}: ")
    assert len(error.splitlines()) == 1


def test_a_disk_that_is_full_at_the_end_is_said_in_one_line(flight, capsys):
    arguments = ["--bundle", str(shipped_bundle()), "--exact", "--results", "/dev/full"]
    assert main(["replay", str(flight), *arguments]) == RecordingError.exit_code
    assert capsys.readouterr().err == "uav-edge: No space left on device: name another path, or make room\n"


def empty_cache(tmp_path: Path) -> Path:
    (tmp_path / "plans").mkdir(mode=0o700)
    return tmp_path / "plans"


def test_a_replay_whose_plans_are_not_to_be_had_flies_on_onnx_runtime(flight, tmp_path):
    options = LiveOptions(rate=0, backend="auto", plans=empty_cache(tmp_path))
    flown = fly_live(open_recording(flight), open_bundle(shipped_bundle()), options)
    assert flown.backend == "onnxruntime"
    assert flown.answers


def test_a_replay_that_insists_on_tensorrt_ends_where_there_is_none(flight, tmp_path, capfd):
    arguments = ["--bundle", str(shipped_bundle()), "--backend", "tensorrt", "--plans", str(empty_cache(tmp_path))]
    assert main(["replay", str(flight), *arguments]) == DeviceError.exit_code
    assert "uav-edge: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "tensorrt"], "expected --plans"),
        (["--backend", "onnxruntime", "--plans", "plans"], "leave out --plans"),
        (["--plan-options", "plan.yaml"], "name the folder with --plans"),
        (["--plans", "plans", "--plan-options", "/no/plan.yaml"], "/no/plan.yaml: cannot be read"),
        (["--exact", "--plans", "plans"], "must not depend on the machine"),
    ],
)
def test_a_choice_of_engines_that_contradicts_itself_is_refused(flight, capsys, arguments, said):
    assert main(["replay", str(flight), "--bundle", str(shipped_bundle()), *arguments]) == ConfigError.exit_code
    assert said in capsys.readouterr().err

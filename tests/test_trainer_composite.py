"""UAVPair-7 as a recorded flight."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from training import write_tiny_root

from edge.recording.composition import START_NS
from edge.recording.reader import Event, Recording, open_recording
from edge.transport.messages import Pose, Truth
from edge.transport.wire import Reason, as_array, check_payload
from models.errors import ConfigError
from models.preprocess import opencv
from trainer.cli import main
from trainer.composite import FRAME_DELAY_NS, PairExamples, plan_visits, write_composite_flight
from trainer.data.uavpair7 import CLASSES, UavPair7, evaluation_examples

PERIOD_NS = 200_000_000
LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def _flight(root: Path, path: Path, seconds: float | None = 1.4) -> Recording:
    data = UavPair7(root)
    pairs = data.read_pairs(root / "uavpair7" / "pairs_val.csv")
    visits = plan_visits([pair.label for pair in pairs], seconds)
    write_composite_flight(path, PairExamples(data, pairs), visits, log=None)
    return open_recording(path)


def _of(recording: Recording, stream: str) -> list[Event]:
    return [event for event in recording.events() if event.stream == stream]


def _samples(event: Event) -> np.ndarray:
    assert event.header is not None
    return as_array(event.header, event.payload)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_tiny_root(tmp_path)
    return tmp_path


def test_every_pair_is_visited_in_the_order_of_the_file() -> None:
    visits = plan_visits([0] * 200 + [1] * 200, None)
    assert [visit.row for visit in visits] == list(range(400))
    assert {visit.round for visit in visits} == {0}


def test_short_flight_takes_an_even_share_of_every_class_spread_over_its_rows() -> None:
    visits = plan_visits(LABELS, 1.2)
    assert [visit.row for visit in visits] == [0, 2, 4, 6, 8, 10]


def test_share_that_does_not_divide_still_has_every_class() -> None:
    counts = Counter(LABELS[visit.row] for visit in plan_visits(LABELS, 1.6))
    assert sum(counts.values()) == 8
    assert set(counts.values()) == {2, 3}


def test_rare_class_leaves_its_share_to_the_others() -> None:
    labels = [0, 1, 1, 1, 1, 2, 2, 2, 2]
    counts = Counter(labels[visit.row] for visit in plan_visits(labels, 1.4))
    assert counts == {0: 1, 1: 3, 2: 3}


def test_long_flight_visits_rows_again_in_further_rounds() -> None:
    visits = plan_visits(LABELS, 6.0)
    assert len(visits) == 30
    assert [visit.round for visit in visits] == [0] * 12 + [1] * 12 + [2] * 6
    assert [visit.row for visit in visits[12:24]] == list(range(12))


def test_flight_of_few_pairs_lasts_a_minute_by_default() -> None:
    assert len(plan_visits(LABELS, None)) == 300


def test_flight_too_short_for_every_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected at least 0\.6 s"):
        plan_visits(LABELS, 0.4)


def test_flight_holds_exactly_the_evaluation_examples_with_their_truth(root: Path, tmp_path: Path) -> None:
    recording = _flight(root, tmp_path / "flight.mcap")
    examples = list(evaluation_examples(root, root / "uavpair7" / "pairs_val.csv"))
    radio, camera = _of(recording, "radio"), _of(recording, "camera")
    truths = [event.message for event in recording.events() if isinstance(event.message, Truth)]
    assert [truth.class_id for truth in truths] == [example.label for example in examples]
    assert [truth.label for truth in truths] == [CLASSES[example.label] for example in examples]
    cv2 = opencv()
    for window, frame, example in zip(radio, camera, examples, strict=True):
        assert np.array_equal(_samples(window), example.iq)
        decoded = cv2.imdecode(np.frombuffer(frame.payload, np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(decoded, example.image)


def test_pairs_come_five_times_a_second_radio_first(root: Path, tmp_path: Path) -> None:
    recording = _flight(root, tmp_path / "flight.mcap")
    radio = [event.header for event in _of(recording, "radio") if event.header]
    camera = [event.header for event in _of(recording, "camera") if event.header]
    assert [header.capture_ns for header in radio] == [START_NS + n * PERIOD_NS for n in range(7)]
    assert {frame.capture_ns - window.capture_ns for window, frame in zip(radio, camera, strict=True)} == {
        FRAME_DELAY_NS
    }
    assert {header.sample_rate_hz for header in radio} == {250_000}
    order = [event.stream for event in recording.events()]
    assert order == ["truth", "radio", "camera"] * 7
    assert recording.metadata["composite"].startswith("parts that were not recorded together")


def test_changed_byte_of_a_window_or_scene_is_noticed(root: Path, tmp_path: Path) -> None:
    sensed = [event for event in _flight(root, tmp_path / "flight.mcap").events() if event.header]
    changed = [bytes([event.payload[0] ^ 1]) + event.payload[1:] for event in sensed]
    found = {check_payload(event.header, data) for event, data in zip(sensed, changed, strict=True) if event.header}
    assert found == {Reason.CRC}


def test_same_files_give_the_same_bytes_and_a_new_round_other_noise(root: Path, tmp_path: Path) -> None:
    first, second = (_flight(root, tmp_path / name, 2.8) for name in ("one.mcap", "two.mcap"))
    assert first.path.read_bytes() == second.path.read_bytes()
    windows = [_samples(event) for event in _of(first, "radio")]
    assert len(windows) == 14
    assert not np.array_equal(windows[0], windows[7])


def test_command_writes_the_flight_and_needs_no_torch(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "flight.mcap"
    program = (
        "import sys; from trainer.cli import main; code = main(sys.argv[1:]);sys.exit(code or 'torch' in sys.modules)"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "composite-flight",
        str(out),
        "--data",
        str(root),
        "--seconds",
        "2",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "path": str(out),
        "seconds": 2.0,
        "messages": {"truth": 10, "radio": 10, "camera": 10},
    }
    assert "no poses in it" in done.stdout


@pytest.mark.parametrize(
    ("options", "code"), [(["--seconds", "nan"], 2), (["--seconds", "-3"], 2), (["--pairs", "absent.csv"], 7)]
)
def test_wrong_options_are_refused_with_their_exit_code(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int
) -> None:
    assert main(["composite-flight", str(tmp_path / "out.mcap"), "--data", str(root), *options]) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.glob("out.mcap*")) == []


def test_real_flight_has_every_class_and_a_real_track(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "flight.mcap"
    assert main(["composite-flight", str(out), "--data", str(shared_data), "--seconds", "7"]) == 0
    recording = open_recording(out)
    assert {stream.count for stream in recording.streams.values()} == {35}
    truths = Counter(event.message.label for event in recording.events() if isinstance(event.message, Truth))
    assert truths == dict.fromkeys(CLASSES, 5)
    poses = [event.message for event in recording.events() if isinstance(event.message, Pose)]
    assert min(pose.altitude_m for pose in poses) > 580
    assert max(pose.altitude_m for pose in poses) > 600

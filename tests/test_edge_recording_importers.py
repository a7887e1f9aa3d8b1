"""Recordings composed of parts, from made-up files and from the real ones."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from edge.cli import main
from edge.recording.channels import FORMAT
from edge.recording.composition import START_NS, Moment, Part, Window, compose
from edge.recording.imports.images import image_source
from edge.recording.imports.radio import sigmf_source
from edge.recording.imports.source import Place
from edge.recording.imports.video import video_source
from edge.recording.reader import Event, Recording, open_recording
from edge.transport.messages import Kind, Pose, Truth
from edge.transport.wire import as_array, check_payload
from models.errors import RecordingError

cv2 = pytest.importorskip("cv2")
SECOND_NS = 1_000_000_000


def _sigmf(path: Path, datatype: str, samples: np.ndarray, rate_hz: int = 250_000) -> Path:
    meta = {
        "global": {"core:datatype": datatype, "core:sample_rate": rate_hz, "core:version": "1.0.0"},
        "captures": [{"core:sample_start": 0, "core:frequency": 433.92e6}],
    }
    path.with_suffix(".sigmf-meta").write_text(json.dumps(meta))
    samples.tofile(path.with_suffix(".sigmf-data"))
    return path.with_suffix(".sigmf-meta")


def _images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for n in range(count):
        cv2.imwrite(str(folder / f"{n:03d}.{'png' if n % 2 else 'jpg'}"), np.full((12, 16, 3), 20 * n, np.uint8))
    return folder


def _imported(tmp_path: Path, *options: str | Path) -> Recording:
    out = tmp_path / "out.mcap"
    assert main(["import", str(out), *map(str, options)]) == 0
    return open_recording(out)


def _sensor(recording: Recording, stream: str) -> list[Event]:
    return [event for event in recording.events() if event.stream == stream]


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("cu8", np.uint8), ("ci8", np.int8), ("ci16_le", np.int16), ("cf32_le", np.float32)]
)
def test_radio_recording_of_any_type_becomes_windows_with_its_samples(
    tmp_path: Path, datatype: str, dtype: type[np.generic]
) -> None:
    samples = np.random.default_rng(1).integers(0, 100, (3 * 8192 + 5, 2)).astype(dtype)
    recording = _imported(tmp_path, "--sigmf", _sigmf(tmp_path / "a", datatype, samples))
    windows = _sensor(recording, "radio")
    headers = [event.header for event in windows if event.header]
    assert all(check_payload(event.header, event.payload) is None for event in windows if event.header)
    joined = np.concatenate([as_array(event.header, event.payload) for event in windows if event.header])
    assert joined.dtype == dtype
    assert np.array_equal(joined, samples[: 3 * 8192])
    assert [header.sequence for header in headers] == [0, 1, 2]
    assert (headers[0].sample_rate_hz, headers[0].centre_hz) == (250_000, 433.92e6)
    assert [header.capture_ns - START_NS for header in headers] == [0, 32_768_000, 65_536_000]
    assert windows[0].log_ns == headers[1].capture_ns


def test_radio_recordings_follow_each_other_unless_an_offset_says_otherwise(tmp_path: Path) -> None:
    samples = np.zeros((8192, 2), np.uint8)
    files = [_sigmf(tmp_path / name, "cu8", samples) for name in "abc"]
    options = list(itertools.chain.from_iterable(("--sigmf", file) for file in files))
    recording = _imported(tmp_path, *options, "--offset", "b=2.5")
    captures = [event.header.capture_ns - START_NS for event in _sensor(recording, "radio") if event.header]
    assert captures == [0, 2_500_000_000, 2_532_768_000]


def test_rate_makes_windows_overlap(tmp_path: Path) -> None:
    samples = np.arange(2 * 20_000, dtype=np.int16).reshape(-1, 2)
    recording = _imported(tmp_path, "--sigmf", _sigmf(tmp_path / "a", "ci16_le", samples), "--rate", "100")
    headers = [event.header for event in _sensor(recording, "radio") if event.header]
    assert {header.dim0 for header in headers} == {8192}
    assert [header.capture_ns - START_NS for header in headers] == [n * SECOND_NS // 100 for n in range(5)]


def test_recording_shorter_than_a_window_is_refused(tmp_path: Path) -> None:
    path = _sigmf(tmp_path / "a", "cu8", np.zeros((100, 2), np.uint8))
    with pytest.raises(RecordingError, match="100 samples are fewer than a window of 8192"):
        sigmf_source(path)


def test_images_are_imported_as_they_are_in_the_order_of_names(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 4)
    (folder / "notes.txt").write_text("no image")
    frames = _sensor(_imported(tmp_path, "--images", folder, "--fps", "4"), "camera")
    assert [event.payload for event in frames] == [path.read_bytes() for path in sorted(folder.glob("0*"))]
    captures = [event.header.capture_ns - START_NS for event in frames if event.header]
    assert captures == [0, 250_000_000, 500_000_000, 750_000_000]
    assert {event.kind for event in frames} == {Kind.ENCODED_FRAME}


def test_image_that_claims_to_be_huge_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 3)
    png = bytearray((folder / "001.png").read_bytes())
    png[16:24] = (30_000).to_bytes(4, "big") * 2
    (folder / "001.png").write_bytes(png)
    (part,) = image_source(folder, 1.0).parts(Place(begin_ns=START_NS))
    with pytest.raises(RecordingError, match=r"001\.png: claims 30000 x 30000 pixels"):
        compose(tmp_path / "out.mcap", [part], metadata={}, utc_offset_ns=0)
    assert list(tmp_path.glob("out.mcap*")) == []


def test_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 1)
    (folder / "zzz.jpg").write_bytes(b"not a picture")
    assert main(["import", str(tmp_path / "out.mcap"), "--images", str(folder)]) == RecordingError.exit_code


@pytest.mark.parametrize("name", ["000.jpg", "001.png"])
def test_image_that_is_cut_short_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = _images(tmp_path / "images", 2)
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) - 20])
    assert main(["import", str(tmp_path / "out.mcap"), "--images", str(folder)]) == RecordingError.exit_code
    assert f"{name}: ends in the middle of the image" in capsys.readouterr().err
    assert list(tmp_path.glob("out.mcap*")) == []


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_folder_without_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match=r"name a folder of images|no image"):
        image_source(tmp_path / name, 1.0)


def test_video_is_imported_at_its_own_times(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (32, 24))
    for n in range(6):
        writer.write(np.full((24, 32, 3), 40 * n, np.uint8))
    writer.release()
    frames = _sensor(_imported(tmp_path, "--video", path, "--offset", "clip=1"), "camera")
    captures = [event.header.capture_ns - START_NS for event in frames if event.header]
    assert captures == [SECOND_NS + n * SECOND_NS // 20 for n in range(6)]
    decoded = cv2.imdecode(np.frombuffer(frames[3].payload, np.uint8), cv2.IMREAD_COLOR)
    assert abs(int(decoded.mean()) - 120) < 5


def test_video_without_a_frame_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (32, 24)).release()
    assert main(["import", str(tmp_path / "out.mcap"), "--video", str(path)]) == RecordingError.exit_code
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.glob("out.mcap*")) == []


@pytest.mark.parametrize("content", [None, b"not a video"])
def test_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordingError, match=r"name a video|not a video"):
        video_source(path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ([], "nothing to import"),
        (["--images", "IMAGES", "--offset", "wrong=1"], "expected one of images"),
        (["--images", "IMAGES", "--offset", "images"], "expected SOURCE=SECONDS"),
        (["--images", "IMAGES", "--offset", "images=nan"], "expected SOURCE=SECONDS"),
        (["--images", "IMAGES", "--offset", "images=-5"], "from -1 s on"),
        (["--images", "IMAGES", "--offset", "images=1e12"], "up to 3e+08 s"),
        (["--images", "IMAGES", "--fps", "0"], "expected above 0"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    folder = _images(tmp_path / "images", 1)
    arguments = [str(folder) if option == "IMAGES" else option for option in options]
    assert main(["import", str(tmp_path / "out.mcap"), *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def _part(name: str, moments: list[Moment]) -> Part:
    return Part(name=name, origin="made up", moments=iter(moments), count=len(moments), end_ns=0)


def test_parts_are_merged_in_the_order_of_arrival(tmp_path: Path) -> None:
    window = Window(samples=np.zeros((16, 2), np.int16), sample_rate_hz=1e6, centre_hz=0.0)
    radio = [Moment(capture_ns=n, arrival_ns=n + 5, content=window) for n in (0, 10, 20)]
    truth = [Moment(capture_ns=n, arrival_ns=n, content=Truth(capture_ns=n, class_id=0, label="x")) for n in (5, 12)]
    watched: list[int] = []
    path = tmp_path / "out.mcap"
    written = compose(
        path,
        [_part("radio", radio), _part("truth", truth)],
        metadata={"a": "b"},
        utc_offset_ns=7,
        watch=watched.append,
    )
    recording = open_recording(path)
    assert written == {"radio": 3, "truth": 2}
    assert watched == [1, 2, 3, 4, 5]
    assert [(event.stream, event.log_ns) for event in recording.events()] == [
        ("radio", 5),
        ("truth", 5),
        ("truth", 12),
        ("radio", 15),
        ("radio", 25),
    ]
    assert recording.metadata == {
        "a": "b",
        "composite": "parts that were not recorded together, put on one clock",
        "radio": "made up",
        "truth": "made up",
        "format": str(FORMAT),
        "utc_offset_ns": "7",
    }


def test_composing_again_replaces_the_recording(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 2)
    assert _imported(tmp_path, "--images", folder).event_count == 2
    (folder / "001.png").unlink()
    assert _imported(tmp_path, "--images", folder).event_count == 1


def test_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="choose another"):
        compose(tmp_path / "absent" / "out.mcap", [], metadata={}, utc_offset_ns=0)


def test_real_parts_become_one_flight(tmp_path: Path, shared_data: Path) -> None:
    radio = shared_data / "rf_ism433" / "recordings"
    recording = _imported(
        tmp_path,
        *("--sigmf", radio / "UPM.sigmf-meta", "--sigmf", radio / "auriol.sigmf-meta"),
        *("--images", shared_data / "flights" / "brighton_beach", "--fps", "5"),
        *("--pose", shared_data / "flights" / "log171.bin"),
    )
    assert {name: stream.count for name, stream in recording.streams.items()} == {"radio": 48, "camera": 18, "pose": 19}
    assert "161 fixes left out (no 3D fix)" in recording.metadata["pose"]
    poses = [event.message for event in recording.events() if isinstance(event.message, Pose)]
    assert poses[0].capture_ns == START_NS
    assert {round(pose.altitude_m) for pose in poses} == {590}
    utc_s = (int(recording.metadata["utc_offset_ns"]) + START_NS) / 1e9
    assert utc_s == pytest.approx(1_448_149_464.4)


def test_real_video_becomes_frames(tmp_path: Path, shared_data: Path) -> None:
    recording = _imported(tmp_path, "--video", shared_data / "sky_multisensor" / "clips" / "V_DRONE_024.mp4")
    camera = recording.streams["camera"]
    assert (camera.count, round(camera.rate_hz, 3)) == (302, 30.0)

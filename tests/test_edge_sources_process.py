"""Sources as users start them: a process each, publishing over ipc."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playing import FRAMES, LEVELS, Received, write_video
from test_edge_sources_sigmf import numbered, write_recording

from edge.cli import main
from edge.sources.synthetic import SyntheticFlight
from edge.transport.messages import Kind
from edge.transport.sockets import Subscriber
from edge.transport.wire import Reason, as_array, decode_message

TIMEOUT_S = 30
FLIGHT = """\
bundle: .
results: ipc://{folder}/results
streams:
  radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: 100}}
  camera: {{modality: image, endpoint: "ipc://{folder}/camera", rate_hz: 30}}
  spare: {{modality: image, endpoint: "ipc://{folder}/spare", rate_hz: 30}}
sources:
  - {radio}
  - {camera}
"""
RADIO = "{kind: synthetic, stream: radio, sensor: radio, seed: 6, dwell_s: 0.5}"
CAMERA = "{kind: synthetic, stream: camera, sensor: camera, seed: 6, dwell_s: 0.5}"


def write_flight(folder: Path, radio: str = RADIO, camera: str = CAMERA) -> Path:
    path = folder / "flight.yaml"
    path.write_text(FLIGHT.format(folder=folder, radio=radio, camera=camera))
    return path


def start(config: Path, stream: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edge.cli", "source", "--config", str(config), "--stream", stream, *options]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def listen(config: Path, stream: str, count: int) -> Received:
    """Return the next messages of a stream, which all must decode."""
    messages = []
    with Subscriber(f"ipc://{config.parent}/{stream}") as subscriber:
        for _ in range(count):
            message = decode_message(subscriber.receive(TIMEOUT_S * 1000) or [])
            if isinstance(message, Reason):
                raise AssertionError(message)
            messages.append(message)
    return messages


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """Give the test runner its signal handlers back, which a command run in this process replaces."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_radio_and_camera_in_two_processes_fly_over_the_same_sites_and_end_at_sigterm(tmp_path: Path) -> None:
    config = write_flight(tmp_path)
    processes = [start(config, "radio"), start(config, "camera")]
    radio, camera = listen(config, "radio", 40), listen(config, "camera", 10)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0

    for messages, kind in ((radio, Kind.IQ), (camera, Kind.FRAME)):
        headers = [header for header, _ in messages]
        assert {header.kind for header in headers} == {kind}
        assert {header.epoch for header in headers} == {headers[0].epoch}
        first = headers[0].sequence
        assert [header.sequence for header in headers] == list(range(first, first + len(headers)))
        assert all(header.capture_ns <= header.send_ns for header in headers)
    assert radio[0][0].stream_id != camera[0][0].stream_id

    flight = SyntheticFlight(6, 0.5)
    window, frame = radio[7], camera[5]
    np.testing.assert_array_equal(as_array(*window), flight.radio_chunk(round(window[0].capture_ns / 1e7)))
    np.testing.assert_array_equal(as_array(*frame), flight.frame(round(frame[0].capture_ns * 30 / 1e9)))


def test_a_radio_recording_is_found_beside_the_configuration_and_played(tmp_path: Path) -> None:
    write_recording(tmp_path, numbered(60_000))
    config = write_flight(tmp_path, radio="{kind: sdr_file, stream: radio, path: r.sigmf-meta}")
    process = start(config, "radio")
    messages = listen(config, "radio", 8)
    process.terminate()
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    firsts = [int(as_array(header, payload)[0, 0]) for header, payload in messages]
    assert all((after - before) % 30_000 == 10_000 for before, after in itertools.pairwise(firsts))
    steps_ns = np.diff([header.capture_ns for header, _ in messages])
    np.testing.assert_array_equal(steps_ns, 10_000_000)


def test_a_video_played_once_waits_for_its_listener_and_arrives_whole(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi")
    process = start(write_flight(tmp_path, camera="{kind: camera, stream: camera, device: v.avi}"), "camera")
    messages = listen(tmp_path / "flight.yaml", "camera", FRAMES)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert [header.sequence for header, _ in messages] == list(range(FRAMES))
    np.testing.assert_allclose([as_array(*message).mean() for message in messages], LEVELS, atol=3)


def test_a_source_that_waits_for_a_listener_still_ends_at_sigterm(tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi")
    process = start(write_flight(tmp_path, camera="{kind: camera, stream: camera, device: v.avi}"), "camera")
    while process.poll() is None and not (tmp_path / "camera").exists():
        pass
    process.terminate()
    process.communicate(timeout=5)
    assert process.returncode == 0


def test_a_try_out_ends_by_itself_and_says_how_much_it_sent(tmp_path: Path) -> None:
    process = start(write_flight(tmp_path), "radio", "--seconds", "0.3")
    errors = process.communicate(timeout=TIMEOUT_S)[1]
    assert process.returncode == 0
    assert "messages sent" in errors
    assert "messages/s" not in errors  # the rate is for terminals


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize(
    ("source", "stream", "code", "message"),
    [
        (CAMERA, "sonar", 2, "has no stream 'sonar': known are radio, camera, spare"),
        (CAMERA, "spare", 2, "0 sources feed stream 'spare'"),
        ("{kind: camera, stream: camera, device: '97'}", "camera", 4, "is /dev/video97 there"),
        ("{kind: camera, stream: camera, device: absent.mp4}", "camera", 4, "is the file there"),
        ("{kind: sdr_file, stream: camera, path: absent.sigmf-meta}", "camera", 6, "absent.sigmf-meta: cannot be read"),
        (
            "{kind: soapy, stream: camera, device: driver=none, sample_rate_hz: 1000000, centre_hz: 1.0e+9}",
            "camera",
            4,
            "SoapySDR is not installed",
        ),
    ],
)
def test_a_source_that_cannot_start_says_why_in_one_line_and_exits_with_its_code(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    stream: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "SoapySDR", None)
    config = write_flight(tmp_path, camera=source)
    assert main(["source", "--config", str(config), "--stream", stream]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("uav-edge:")]
    assert len(errors) == 1
    assert message in errors[0]

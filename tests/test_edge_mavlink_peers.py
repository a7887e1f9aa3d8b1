"""Real peers: the published results arrive, whole, at programs that are not ours."""

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
from pymavlink.dialects.v20 import common

from edge.cli import main
from edge.mavlink.station.ground import GroundStation
from edge.mavlink.wire import codec, dialect
from edge.transport.sockets import BlockingPublisher

ANSWERS = 200
MAX_RATE_HZ = 1000
PATIENCE_S = 30
CONFIG = """
bundle: none.uavb
results: {results}
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
  camera: {{modality: image, endpoint: "ipc:///tmp/unused-camera", rate_hz: 30}}
mavlink: {{links: {links}, max_rate_hz: {rate_hz}}}
"""


@pytest.fixture
def results(tmp_path: Path) -> Iterator[BlockingPublisher]:
    """Stands for the pipeline."""
    with BlockingPublisher(f"ipc://{tmp_path}/results") as publisher:
        yield publisher


@contextlib.contextmanager
def publishing(folder: Path, results: BlockingPublisher, *links: str) -> Iterator[subprocess.Popen]:
    """Run `uav-edge mavlink`, listening to the pipeline."""
    config = folder / "flight.yaml"
    config.write_text(CONFIG.format(results=results.endpoint, links=list(links), rate_hz=MAX_RATE_HZ))
    command = [sys.executable, "-m", "edge.cli", "mavlink", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert results.wait_for_listeners(1, PATIENCE_S), "uav-edge mavlink does not listen"
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


def fly(results: BlockingPublisher) -> None:
    """Publish a status and many answers, below the highest rate that may be sent; the last is of another class."""
    results.send(samples.on_wire(samples.status()))
    for sequence in range(ANSWERS - 1):
        results.send(samples.on_wire(samples.answer(sequence=sequence)))
        time.sleep(2 / MAX_RATE_HZ)
    results.send(samples.on_wire(samples.answer(sequence=ANSWERS - 1, class_id=2, label="bird")))


def check(messages: list[Any]) -> None:
    """Every answer is there, in order, and says what was flown."""
    reports = [codec.classification_report(message) for message in messages]
    assert [report.sequence for report in reports] == list(range(ANSWERS))
    assert {report.label for report in reports[:-1]} == {"drone"}
    assert reports[-1].label == "bird"
    assert {message.get_srcComponent() for message in messages} == {191}


@pytest.fixture
def mavutil(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pymavlink's connections, told of our messages."""
    monkeypatch.setenv("MAVLINK20", "1")
    from pymavlink import mavutil

    for number, message in dialect.mavlink_map.items():
        monkeypatch.setitem(common.mavlink_map, number, message)
    mavutil.set_dialect("common")
    return mavutil


def test_every_result_arrives_at_a_pymavlink_ground_station(
    tmp_path: Path, results: BlockingPublisher, mavutil: Any
) -> None:
    connection = mavutil.mavlink_connection("udpin:127.0.0.1:0", dialect="common")
    port = connection.port.getsockname()[1]
    received: list[Any] = []
    deadline_s = time.monotonic() + PATIENCE_S

    with publishing(tmp_path, results, f"udpout:127.0.0.1:{port}") as process:
        fly(results)
        while samples.names(received)["FUSION_CLASSIFICATION"] < ANSWERS and time.monotonic() < deadline_s:
            message = connection.recv_match(blocking=True, timeout=1)
            received += [message] if message is not None else []
    connection.close()

    check([message for message in received if message.get_type() == "FUSION_CLASSIFICATION"])
    assert {"HEARTBEAT", "STATUSTEXT", "NAMED_VALUE_FLOAT", "FUSION_STATUS", "FUSION_CLASS_INFO"} <= set(
        samples.names(received)
    )
    assert process.returncode == 0


def test_every_result_arrives_at_our_own_ground_station_on_both_kinds_of_udp_link(
    tmp_path: Path, results: BlockingPublisher
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()[1]
    with (
        GroundStation("udpin:127.0.0.1:0") as waiting,
        GroundStation(f"udpout:127.0.0.1:{free}") as calling,
        publishing(tmp_path, results, f"udpout:127.0.0.1:{waiting.port}", f"udpin:127.0.0.1:{free}"),
    ):
        deadline_s = time.monotonic() + PATIENCE_S
        while not calling.counts.frames.messages and time.monotonic() < deadline_s:
            calling.poll(timeout_ms=200)
        fly(results)
        while min(waiting.counts.results, calling.counts.results) < ANSWERS and time.monotonic() < deadline_s:
            waiting.poll(timeout_ms=10)
            calling.poll(timeout_ms=10)

        for ground in (waiting, calling):
            assert ground.counts.results == ANSWERS
            assert (ground.counts.results_missing, ground.counts.frames_lost) == (0, 0)
            assert (ground.counts.frames.bad, ground.counts.frames.unknown) == (0, 0)
            assert ground.labels == dict(enumerate(samples.LABELS))


def test_every_result_arrives_at_mavproxy_and_reads_back_from_its_log(
    tmp_path: Path, results: BlockingPublisher, mavutil: Any
) -> None:
    program = Path(sys.executable).parent / "mavproxy.py"
    if not program.exists():
        pytest.skip("needs MAVProxy: pip install 'MAVProxy<1.8.75' future")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    log = tmp_path / "mp.tlog"
    command = [
        sys.executable, str(program), f"--master=udpin:127.0.0.1:{port}", "--non-interactive", f"--logfile={log}",
        "--default-modules=link,cmdlong,log", f"--state-basedir={tmp_path}", "--cmd=set flushlogs True",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "HOME": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    ) as mavproxy:  # fmt: skip
        assert mavproxy.stdout is not None
        watchdog = threading.Timer(PATIENCE_S, mavproxy.kill)
        watchdog.start()
        assert any("Waiting for heartbeat" in line for line in mavproxy.stdout)
        with publishing(tmp_path, results, f"udpout:127.0.0.1:{port}"):
            fly(results)
            assert any("FUSION: bird" in line for line in mavproxy.stdout)
            results.send(samples.on_wire(samples.answer(sequence=ANSWERS, class_id=0, label="empty")))
            assert any("FUSION: empty" in line for line in mavproxy.stdout), "MAVProxy ended early"
        mavproxy.terminate()
        mavproxy.communicate(timeout=PATIENCE_S)
        watchdog.cancel()

    reader = mavutil.mavlink_connection(str(log), dialect="common")
    messages = list(iter(lambda: reader.recv_match(type="FUSION_CLASSIFICATION"), None))
    reader.close()
    check(messages[:ANSWERS])


def test_every_result_arrives_at_mavsdk_which_learns_our_messages_at_run_time(
    tmp_path: Path, results: BlockingPublisher
) -> None:
    if importlib.util.find_spec("mavsdk") is None or importlib.util.find_spec("mavsdk.plugins") is None:
        pytest.skip("needs MAVSDK 4: pip install 'mavsdk>=4,<5'")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    definitions = tmp_path / "fusion.xml"
    assert main(["mavlink", "dump-dialect", "--no-include", "--out", str(definitions)]) == 0
    listener = [sys.executable, str(Path(__file__).parent / "mavsdk_listener.py"), f"udpin://127.0.0.1:{port}"]
    with subprocess.Popen(
        [*listener, str(definitions), str(ANSWERS)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as mavsdk:
        assert mavsdk.stdout is not None
        watchdog = threading.Timer(2 * PATIENCE_S, mavsdk.kill)
        watchdog.start()
        with publishing(tmp_path, results, f"udpout:127.0.0.1:{port}"):
            assert any(line.strip() == "subscribed" for line in mavsdk.stdout), "MAVSDK met nobody"
            fly(results)
            heard = [json.loads(line) for line in mavsdk.stdout if line.startswith('{"component"')]
        watchdog.cancel()

    assert {message["component"] for message in heard} == {191}
    assert [message["fields"]["sequence"] for message in heard] == list(range(ANSWERS))
    assert [message["fields"]["label"].rstrip("\0") for message in heard] == ["drone"] * (ANSWERS - 1) + ["bird"]
    assert heard[0]["fields"]["class_id"][:2] == [1, 2]

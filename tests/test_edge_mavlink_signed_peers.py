"""Signed links between `uav-edge mavlink` as a process and pymavlink, across a kill of ours."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from signatures import KEY, OTHER_KEY, heartbeat

from edge.transport.sockets import BlockingPublisher

PATIENCE_S = 30
CONFIG = """
bundle: none.uavb
results: {results}
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
mavlink: {{links: [{{link: "udpin:{port}", key: key, require_signed: all}}]}}
"""


class Vehicle:
    """`uav-edge mavlink` with a link where everything must be signed."""

    def __init__(self, folder: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        (folder / "key").write_bytes(KEY)
        (folder / "key").chmod(0o600)
        self._config = folder / "flight.yaml"
        self._config.write_text(CONFIG.format(results=f"ipc://{folder}/results", port=self.port))
        self.log: list[str] = []

    def start(self) -> None:
        """Run it, and read its log."""
        self.log.clear()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", "mavlink", "--config", str(self._config)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def kill(self) -> None:
        """Let it end without a last word."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)

    def says(self, text: str) -> bool:
        """Say whether its log says something."""
        return any(text in line for line in self.log)

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.log.append(line)


class Ground:
    """A ground station of pymavlink that signs, and takes nothing unsigned."""

    def __init__(self, port: int, secret: bytes) -> None:
        from pymavlink import mavutil

        self.connection = mavutil.mavlink_connection(
            f"udpout:127.0.0.1:{port}", source_system=255, source_component=190, dialect="common"
        )
        self.connection.setup_signing(secret, sign_outgoing=True)
        self.sent: list[bytes] = []
        self.heard: list[Any] = []

    def turn(self) -> None:
        """Send a heartbeat, and take what came."""
        frame = bytes(heartbeat().pack(self.connection.mav))
        self.sent.append(frame)
        self.connection.write(frame)
        while (message := self.connection.recv_match(blocking=True, timeout=0.1)) is not None:
            self.heard += [message] if message.get_type() == "HEARTBEAT" else []


def until(is_true: Callable[[], bool], turn: Callable[[], None]) -> None:
    """Take turns until something is true."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline_s, "waited too long"
        turn()


def test_pymavlink_and_we_hear_each_other_and_a_recording_of_it_is_refused_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAVLINK20", "1")
    vehicle = Vehicle(tmp_path)
    stations = ground, stranger = Ground(vehicle.port, KEY), Ground(vehicle.port, OTHER_KEY)
    with BlockingPublisher(f"ipc://{tmp_path}/results"):
        vehicle.start()
        try:
            until(lambda: bool(ground.heard) and vehicle.says(": up"), ground.turn)
            vehicle.kill()
            recorded = list(ground.sent)
            vehicle.start()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
                address = ("127.0.0.1", vehicle.port)

                def replay() -> None:
                    for frame in recorded:
                        attacker.sendto(frame, address)
                    time.sleep(0.1)

                until(lambda: vehicle.says("refused (too_old)"), replay)
            was_up = vehicle.says(": up")
            ground.heard.clear()
            until(lambda: bool(ground.heard) and vehicle.says(": up"), ground.turn)
            until(lambda: vehicle.says("refused (wrong_signature)"), stranger.turn)
        finally:
            vehicle.kill()
            for station in stations:
                station.connection.close()

    assert not was_up
    assert {(message.get_srcComponent(), message.get_signed()) for message in ground.heard} == {(191, True)}
    assert stranger.heard == []

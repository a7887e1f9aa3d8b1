"""What tests with peers that are not ours share: `uav-edge mavlink` as a process, and a ground station of pymavlink."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
from mavlink_vehicle import OURS, long
from pymavlink.dialects.v20 import common
from signatures import heartbeat

from edge.mavlink.outgoing import bearers
from edge.mavlink.wire import dialect
from edge.transport.sockets import BlockingPublisher

PATIENCE_S = 90.0
AGAIN_S = 2.0
"""A question that was not answered is asked again."""
HEARTBEAT_S = 0.5
CONFIG = """
bundle: none.uavb
results: {results}
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
  camera: {{modality: image, endpoint: "ipc:///tmp/unused-camera", rate_hz: 30}}
mavlink: {mavlink}
"""


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """Return a port of this machine that nobody uses."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(*command: str, cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; what it says goes into a file."""
    with log.open("ab") as out, subprocess.Popen(command, cwd=cwd, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def publishing(folder: Path, results: BlockingPublisher, mavlink: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `uav-edge mavlink` with a deployment's `mavlink`, listening to the pipeline."""
    config = folder / "flight.yaml"
    config.write_text(CONFIG.format(results=results.endpoint, mavlink=json.dumps(mavlink)))
    command = (sys.executable, "-m", "edge.cli", "mavlink", "--config", str(config))
    with running(*command, cwd=folder, log=folder / "edge.log") as process:
        assert results.wait_for_listeners(1, PATIENCE_S), "uav-edge mavlink does not listen"
        yield process


class Ground:
    """A ground station of pymavlink, which knows our messages. Says who it is, and keeps what it hears.

    Args:
        link: as pymavlink writes it, such as udpin:127.0.0.1:14550.
        key: signs what is sent.
    """

    def __init__(self, link: str, key: bytes | None = None) -> None:
        from pymavlink import mavutil

        self.connection = mavutil.mavlink_connection(link, source_system=255, source_component=190, dialect="common")
        if key is not None:
            self.connection.setup_signing(key, sign_outgoing=True)
        self.heard: list[Any] = []
        self._said_s = 0.0

    def send(self, message: Any) -> None:
        """Send a message."""
        self.connection.write(message.pack(self.connection.mav))

    def hear(self) -> list[Any]:
        """Say who it is where that is due, and return what came, waiting for it a moment."""
        if time.monotonic() - self._said_s > HEARTBEAT_S:
            self._said_s = time.monotonic()
            self.send(heartbeat())
        found = []
        message = self.connection.recv_match(blocking=True, timeout=0.1)
        while message is not None:
            found.append(message)
            message = self.connection.recv_match(blocking=False)
        found = [message for message in found if message.get_type() != "BAD_DATA"]
        self.heard += found
        return found

    def until(self, is_true: Callable[[], Any], what: str) -> None:
        """Hear until something is true."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_true():
            assert time.monotonic() < deadline_s, f"waited too long: {what}; heard {self.names()}"
            self.hear()

    def answer(self, question: Any, kind: str, is_it: Callable[[Any], Any] = lambda _: True, source: int = 191) -> Any:
        """Send a question until its answer comes, and return that."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            self.send(question)
            again_s = time.monotonic() + AGAIN_S
            while time.monotonic() < again_s:
                for message in self.hear():
                    if message.get_type() == kind and message.get_srcComponent() == source and is_it(message):
                        return message
        raise AssertionError(f"no {kind} of component {source}; heard {self.names()}")

    def command(self, number: int, *params: float, target: tuple[int, int] = OURS, source: int = 191) -> int:
        """Send a command; return its final result."""
        is_it = lambda ack: ack.command == number and ack.result != common.MAV_RESULT_IN_PROGRESS  # noqa: E731
        return int(self.answer(long(number, *params, target=target), "COMMAND_ACK", is_it, source).result)

    def parameters(self) -> dict[str, float]:
        """Return all our parameters, in their order."""
        found: dict[int, Any] = {}

        def is_whole(value: Any) -> bool:
            found[value.param_index] = value
            return len(found) == value.param_count

        self.answer(common.MAVLink_param_request_list_message(*OURS), "PARAM_VALUE", is_whole)
        return {found[index].param_id: found[index].param_value for index in sorted(found)}

    def put(self, name: str, value: float) -> float:
        """Set one of our parameters; return what is in force."""
        message = common.MAVLink_param_set_message(*OURS, name.encode(), value, common.MAV_PARAM_TYPE_REAL32)
        return float(self.answer(message, "PARAM_VALUE", lambda told: told.param_id == name).param_value)

    def of_us(self, name: str) -> list[Any]:
        """Return what was heard of us by a name."""
        return [one for one in self.heard if one.get_type() == name and one.get_srcComponent() == OURS[1]]

    def inside(self, name: str) -> list[Any]:
        """Return what came of us in TUNNEL by a name."""
        opened = (message for tunnel in self.of_us("TUNNEL") for message in bearers.opened(tunnel))
        return [message for message in opened if message.get_type() == name]

    def names(self) -> Counter[str]:
        """Return how many of each message were heard."""
        return samples.names(self.heard)

    def __enter__(self) -> "Ground":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def teach_pymavlink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pymavlink speak MAVLink 2 and know our messages."""
    monkeypatch.setenv("MAVLINK20", "1")
    from pymavlink import mavutil

    for number, message in dialect.mavlink_map.items():
        monkeypatch.setitem(common.mavlink_map, number, message)
    mavutil.set_dialect("common")


def sequences(messages: Sequence[Any]) -> list[int]:
    """Return the numbers of answers, in the order of arrival."""
    return [message.sequence for message in messages]

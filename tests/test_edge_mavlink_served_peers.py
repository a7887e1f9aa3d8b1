"""A ground station of pymavlink, over UDP, that sets and asks `uav-edge mavlink` as a process."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mavlink_samples as samples
import pytest
from mavlink_vehicle import ACCEPTED, DENIED, OURS, UNSUPPORTED, long
from pymavlink.dialects.v20 import common
from signatures import KEY, heartbeat

from edge.mavlink.component import CAPABILITIES
from edge.mavlink.parameters import PARAMETERS
from edge.transport.sockets import BlockingPublisher

PATIENCE_S = 60
CONFIG = """
bundle: none.uavb
results: {results}
streams:
  radio: {{modality: iq, endpoint: "ipc:///tmp/unused-radio", rate_hz: 100}}
mavlink:
  links: [{{link: "udpin:{port}", key: key}}]
  parameters: parameters.json
"""
REQUEST, USER_1, STORAGE = common.MAV_CMD_REQUEST_MESSAGE, common.MAV_CMD_USER_1, common.MAV_CMD_PREFLIGHT_STORAGE


class Ground:
    """Asks, and asks again until it is answered."""

    def __init__(self, port: int) -> None:
        from pymavlink import mavutil

        self._connection = mavutil.mavlink_connection(
            f"udpout:127.0.0.1:{port}", source_system=255, source_component=190, dialect="common"
        )
        self._connection.setup_signing(KEY, sign_outgoing=True)

    def answer(self, question: Any, kind: str, is_it: Callable[[Any], bool] = lambda _: True) -> Any:
        """Send a question until the answer comes, and return that."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            for message in (heartbeat(), question):
                self._connection.write(message.pack(self._connection.mav))
            again_s = time.monotonic() + 2
            while time.monotonic() < again_s:
                found = self._connection.recv_match(type=kind, blocking=True, timeout=0.5)
                if found is not None and found.get_srcComponent() == 191 and is_it(found):
                    return found
        raise AssertionError(f"no {kind} in {PATIENCE_S} s")

    def command(self, number: int, *params: float) -> int:
        """Send a command; return its final result."""
        acks = lambda ack: ack.command == number and ack.result != common.MAV_RESULT_IN_PROGRESS  # noqa: E731
        return int(self.answer(long(number, *params), "COMMAND_ACK", acks).result)

    def parameters(self) -> dict[str, float]:
        """Ask for all parameters."""
        found: dict[str, float] = {}

        def take(value: Any) -> bool:
            found[value.param_id] = value.param_value
            return len(found) == value.param_count

        self.answer(common.MAVLink_param_request_list_message(*OURS), "PARAM_VALUE", take)
        return found

    def close(self) -> None:
        """Give the port back."""
        self._connection.close()


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """A ground station, and the process that it speaks to."""
    monkeypatch.setenv("MAVLINK20", "1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    config = tmp_path / "flight.yaml"
    config.write_text(CONFIG.format(results=f"ipc://{tmp_path}/results", port=port))
    command = [sys.executable, "-m", "edge.cli", "mavlink", "--config", str(config)]
    with BlockingPublisher(f"ipc://{tmp_path}/results") as results, subprocess.Popen(command) as process:
        try:
            assert results.wait_for_listeners(1, PATIENCE_S)
            results.send(samples.on_wire(samples.status()))
            station = Ground(port)
            yield station
            station.close()
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def test_pymavlink_reads_sets_and_saves_parameters_and_asks_who_we_are(ground: Ground, tmp_path: Path) -> None:
    version = ground.answer(long(REQUEST, common.MAVLINK_MSG_ID_AUTOPILOT_VERSION), "AUTOPILOT_VERSION")
    assert version.capabilities == CAPABILITIES
    assert list(ground.parameters()) == [known.name for known in PARAMETERS]

    rate = common.MAVLink_param_set_message(*OURS, b"FUS_RATE_HZ", 5.0, common.MAV_PARAM_TYPE_REAL32)
    assert ground.answer(rate, "PARAM_VALUE", lambda value: value.param_id == "FUS_RATE_HZ").param_value == 5.0
    wrong = common.MAVLink_param_set_message(*OURS, b"FUS_TEXT", float("nan"), common.MAV_PARAM_TYPE_REAL32)
    assert ground.answer(wrong, "PARAM_VALUE", lambda value: value.param_id == "FUS_TEXT").param_value == 1.0
    assert ground.parameters()["FUS_RATE_HZ"] == 5.0
    assert ground.command(STORAGE, 1) == ACCEPTED
    assert "FUS_RATE_HZ" in (tmp_path / "parameters.json").read_text()

    assert [ground.command(USER_1, order) for order in (2, 9, 3)] == [ACCEPTED, DENIED, ACCEPTED]
    assert ground.command(common.MAV_CMD_USER_2, 1) == UNSUPPORTED
    status = ground.answer(long(REQUEST, common.MAVLINK_MSG_ID_ONBOARD_COMPUTER_STATUS), "ONBOARD_COMPUTER_STATUS")
    assert 0 < status.ram_total < 2**32 - 1

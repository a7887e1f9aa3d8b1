"""Through mavlink-router, where it is installed: what we send and what we are asked passes as it is, signed too."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import mavlink_samples as samples
import pytest
from mavlink_peers import Ground, free_port, publishing, running, sequences, teach_pymavlink
from mavlink_vehicle import ACCEPTED, OURS, long
from pymavlink.dialects.v20 import common
from signatures import KEY

from edge.mavlink.control.parameters import PARAMETERS
from edge.mavlink.wire import dialect
from edge.transport.sockets import BlockingPublisher

ANSWERS = 50
ROUTER = shutil.which("mavlink-routerd")
CONFIG = """
[General]
TcpServerPort = 0
MavlinkDialect = common
[UdpEndpoint ground]
Mode = Normal
Address = 127.0.0.1
Port = {ground}
{vehicle}
"""
OVER_UDP = "[UdpEndpoint vehicle]\nMode = Server\nAddress = 127.0.0.1\nPort = {port}"
OVER_TCP = "[TcpEndpoint vehicle]\nAddress = 127.0.0.1\nPort = {port}\nRetryTimeout = 1"

pytestmark = pytest.mark.skipif(ROUTER is None, reason="needs mavlink-routerd on the PATH")


class Network:
    """A ground station, and the router between it and us."""

    def __init__(self, folder: Path, vehicle: str, kind: socket.SocketKind) -> None:
        self.ground_port, self.port = free_port(), free_port(kind)
        self._folder, self._config = folder, folder / "router.conf"
        self._config.write_text(CONFIG.format(ground=self.ground_port, vehicle=vehicle.format(port=self.port)))

    def routing(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run the router."""
        assert ROUTER is not None
        return running(ROUTER, "-c", str(self._config), cwd=self._folder, log=self._folder / "router.log")

    def ground(self, key: bytes | None = None) -> Ground:
        """Return the ground station."""
        return Ground(f"udpin:127.0.0.1:{self.ground_port}", key)


@pytest.fixture(autouse=True)
def mavutil(monkeypatch: pytest.MonkeyPatch) -> None:
    teach_pymavlink(monkeypatch)


@pytest.fixture
def results(tmp_path: Path) -> Iterator[BlockingPublisher]:
    """Stands for the pipeline."""
    with BlockingPublisher(f"ipc://{tmp_path}/results") as publisher:
        yield publisher


def fly(results: BlockingPublisher, first: int = 0) -> None:
    """Publish a status and answers."""
    results.send(samples.on_wire(samples.status()))
    for sequence in range(first, first + ANSWERS):
        results.send(samples.on_wire(samples.answer(sequence=sequence)))
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("vehicle", "kind", "link"),
    [(OVER_UDP, socket.SOCK_DGRAM, "udpout"), (OVER_TCP, socket.SOCK_STREAM, "tcpin")],
    ids=["udp", "tcp"],
)
def test_every_answer_passes_the_router_as_it_is_and_in_tunnels_and_again_after_its_restart(
    tmp_path: Path, results: BlockingPublisher, vehicle: str, kind: socket.SocketKind, link: str
) -> None:
    network = Network(tmp_path, vehicle, kind)
    mavlink = {
        "links": [{"link": f"{link}:127.0.0.1:{network.port}", "bearer": ["native", "tunnel", "summary"]}],
        "max_rate_hz": 1000,
    }
    with network.ground() as ground, publishing(tmp_path, results, mavlink):
        for flight in range(2):
            ground.heard.clear()
            with network.routing():
                ground.until(lambda: ground.of_us("HEARTBEAT"), "our heartbeat through the router")
                fly(results, flight * ANSWERS)
                ground.until(lambda: len(ground.inside("FUSION_CLASSIFICATION")) >= ANSWERS, "all answers in TUNNEL")
            expected = list(range(flight * ANSWERS, (flight + 1) * ANSWERS))
            native, inside = ground.of_us("FUSION_CLASSIFICATION"), ground.inside("FUSION_CLASSIFICATION")
            assert sequences(native) == sequences(inside) == expected
            assert [message.to_dict() for message in native] == [message.to_dict() for message in inside]
            assert {"FUSION_STATUS", "NAMED_VALUE_FLOAT"} <= set(ground.names())


def test_a_signed_ground_station_commands_sets_and_asks_through_the_router_and_one_that_does_not_sign_is_refused(
    tmp_path: Path, results: BlockingPublisher
) -> None:
    network = Network(tmp_path, OVER_UDP, socket.SOCK_DGRAM)
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    mavlink = {"links": [{"link": f"udpout:127.0.0.1:{network.port}", "key": "key"}]}
    with network.ground(KEY) as ground, publishing(tmp_path, results, mavlink), network.routing():
        results.send(samples.on_wire(samples.status()))
        ground.until(lambda: ground.of_us("HEARTBEAT"), "our heartbeat through the router")
        assert all(message.get_signed() for message in ground.of_us("HEARTBEAT"))

        assert list(ground.parameters()) == [known.name for known in PARAMETERS]
        assert ground.put("FUS_RATE_HZ", 7.0) == 7.0
        assert ground.command(common.MAV_CMD_USER_1, 2) == ACCEPTED
        number = dialect.MAVLINK_MSG_ID_FUSION_STATUS
        assert ground.command(common.MAV_CMD_SET_MESSAGE_INTERVAL, number, 3e6) == ACCEPTED
        asked = long(common.MAV_CMD_REQUEST_MESSAGE, common.MAVLINK_MSG_ID_MESSAGE_INTERVAL, number)
        assert ground.answer(asked, "MESSAGE_INTERVAL").interval_us == 3_000_000

        question = common.MAVLink_timesync_message(tc1=0, ts1=time.monotonic_ns())
        told = ground.answer(question, "TIMESYNC", lambda told: told.ts1 == question.ts1)
        assert question.ts1 <= told.tc1 <= time.monotonic_ns(), "our clock is this machine's"

        ground.connection.mav.signing.sign_outgoing = False
        unsigned = common.MAVLink_param_set_message(*OURS, b"FUS_RATE_HZ", 3.0, common.MAV_PARAM_TYPE_REAL32)
        ground.answer(unsigned, "STATUSTEXT", lambda text: "refused 255/190: unsigned" in text.text)
        ground.connection.mav.signing.sign_outgoing = True
        assert ground.parameters()["FUS_RATE_HZ"] == 7.0

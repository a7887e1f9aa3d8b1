"""What faults have made reaches no vehicle, unless somebody says so, and an armed one never."""

import os

import pytest
from faulty_flights import BEGIN_NS
from pymavlink.dialects.v20 import common
from test_edge_faults_live import Port, deployment, orders

from edge.clock import VirtualClock
from edge.config import MavlinkConfig, RecordingConfig
from edge.faults.deployment import check_deployment
from edge.faults.fault import parse_fault
from edge.faults.injector import FaultPlan
from edge.faults.lost_link import LostLink
from edge.mavlink.network.vehicle_watch import MAX_PARSERS
from edge.operations.faulty_run import FaultyRun
from edge.operations.supervisor import MAVLINK, PIPELINE
from models.errors import ConfigError

S = 1_000_000_000
EVERY = [
    parse_fault(text) for text in ("radio:off@1s", "disk:full@1s", "process:kill@1s", "clock:jump@2s", "link:loss@1s")
]


def linked(*links: str):
    return deployment(mavlink=MavlinkConfig(links=links), recording=RecordingConfig(directory="."))


@pytest.mark.parametrize(
    "link",
    [
        "serial:/dev/ttyS1:57600",
        "udpout:192.168.0.1:14550",
        "udpout:router.local:14550",
        "tcpout:10.1.1.1:5760",
        "udpin:0.0.0.0:14550",
        "udpin::::14550",
        "tcpin:192.168.0.2:5760",
        f"file:{os.devnull}",
    ],
)
def test_a_link_that_may_lead_to_a_vehicle_is_refused_until_somebody_says_that_it_may(link):
    with pytest.raises(ConfigError, match=r"may lead to an autopilot.*--faults-reach-vehicle"):
        check_deployment(EVERY, linked("udpout:127.0.0.1:14550", link), is_vehicle_safe=False)
    check_deployment(EVERY, linked("udpout:127.0.0.1:14550", link), is_vehicle_safe=True)


def test_links_that_end_on_this_computer_and_logs_are_safe(tmp_path):
    here = ("udpout:127.0.0.1:14550", "udpin:localhost:14551", "udpin:14552", "tcpin:::1:5760")
    check_deployment(EVERY, linked(*here, f"file:{tmp_path}/flight.tlog"), is_vehicle_safe=False)


def heartbeat(autopilot: int, *, is_armed: bool = False, version: int = 2, system: int = 7) -> bytes:
    mode = common.MAV_MODE_FLAG_SAFETY_ARMED if is_armed else 0
    message = common.MAVLink_heartbeat_message(common.MAV_TYPE_QUADROTOR, autopilot, mode, 0, 4, 3)
    return message.pack(common.MAVLink(None, srcSystem=system, srcComponent=1), force_mavlink1=version == 1)


PX4, NONE = common.MAV_AUTOPILOT_PX4, common.MAV_AUTOPILOT_INVALID


class Crowd(Port):
    """A port on which others speak."""

    def __init__(self) -> None:
        super().__init__()
        self.arriving: list[tuple[str, bytes]] = []

    def receive(self) -> list[tuple[str, bytes]]:
        arrived, self.arriving = self.arriving, []
        return arrived


def sent_after(tmp_path, caplog, *arriving: bytes, is_safe: bool, faults=()) -> list[bytes]:
    """Return what a link still sends once others have spoken, one piece of bytes at a time."""
    clock, port = VirtualClock(BEGIN_NS + S), Crowd()
    link = LostLink(port, orders(tmp_path, *faults, clock=clock), is_vehicle_safe=is_safe)
    link.send(b"before")
    for data in arriving:
        port.arriving = [("peer", data)]
        link.receive()
        link.send(b"after")
    assert link.counts.frames_dropped == 1 + len(arriving) - len(port.sent)
    assert caplog.text.count("NOTHING MORE IS SENT") == int(len(port.sent) < 1 + len(arriving))
    return port.sent[1:]


@pytest.mark.parametrize(
    ("beat", "is_safe", "is_sent"),
    [
        (heartbeat(NONE), False, True),
        (heartbeat(NONE, is_armed=True), False, True),
        (heartbeat(PX4), False, False),
        (heartbeat(PX4, version=1), False, False),
        (heartbeat(PX4), True, True),
        (heartbeat(PX4, is_armed=True), True, False),
        (heartbeat(PX4, is_armed=True), False, False),
    ],
)
def test_a_link_falls_silent_where_an_autopilot_is_heard_that_must_not_hear_of_faults(
    tmp_path, caplog, beat, is_safe, is_sent
):
    assert sent_after(tmp_path, caplog, beat, beat, is_safe=is_safe) == [b"after"] * (2 * is_sent)


def test_an_autopilot_is_heard_in_pieces_and_one_that_lands_is_not_spoken_to_again(tmp_path, caplog):
    armed, landed = heartbeat(PX4, is_armed=True), heartbeat(PX4)
    sent = sent_after(tmp_path, caplog, b"noise" + armed[:9], armed[9:], landed, is_safe=True)
    assert sent == [b"after"]
    assert "an armed autopilot is heard, system 7" in caplog.text


def test_an_autopilot_is_heard_where_nothing_else_is(tmp_path):
    """The link is lost by a fault, and crowded."""
    clock, port = VirtualClock(BEGIN_NS), Crowd()
    link = LostLink(port, orders(tmp_path, "link:loss@0s+1s", clock=clock))
    port.arriving = [(f"peer {n}", heartbeat(NONE)) for n in range(2 * MAX_PARSERS)] + [("last", heartbeat(PX4))]
    assert link.receive() == []
    clock.advance_to(BEGIN_NS + 2 * S)
    link.send(b"after")
    assert port.sent == []


@pytest.mark.parametrize("is_safe", [True, False])
def test_the_mavlink_process_is_told_whether_a_vehicle_is_safe(tmp_path, is_safe):
    faulty = FaultyRun(deployment(), FaultPlan(faults=tuple(EVERY)), tmp_path, None, is_vehicle_safe=is_safe)
    told = faulty.told({MAVLINK: ["mavlink"], PIPELINE: ["pipeline"]})
    assert ("--faults-reach-vehicle" in told[MAVLINK]) == is_safe
    assert "--faults-reach-vehicle" not in told[PIPELINE]

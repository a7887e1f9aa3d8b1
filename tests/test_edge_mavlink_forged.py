"""What somebody can do who has no key: forged frames against commands, identity, places and pace of a link."""

import contextlib
import socket
from typing import Any

import mavlink_samples as samples
import pytest
import signatures
from attacked import Air, at_us, keyed
from fake_autopilot import FakeAutopilot, S
from mavlink_vehicle import OURS, Vehicle
from pymavlink.dialects.v20 import common
from signatures import GROUND, NOW, command, heartbeat, plain, signed

from edge.clock import VirtualClock
from edge.mavlink.deployment import LinkConfig, MavlinkConfig
from edge.mavlink.network.link import Link
from edge.mavlink.network.links import open_links
from edge.mavlink.network.peers import MAX_REFUSED
from edge.mavlink.ports.transport import NetworkAddress
from edge.mavlink.ports.udp import MAX_CLIENTS, UdpServer
from edge.mavlink.trust.security import COMMANDS
from edge.mavlink.wire.frames import MESSAGES

AUTOPILOT = FakeAutopilot()


def test_forged_questions_for_parameters_use_up_no_answers_to_others() -> None:
    vehicle = Vehicle(security=keyed())
    asked = common.MAVLink_param_request_list_message(*OURS)
    vehicle.hear_frames(*[plain(asked)] * 50)
    forged = len(vehicle.take("PARAM_VALUE"))
    vehicle.hear_frames(signed(asked, NOW))

    assert forged == len(vehicle.take("PARAM_VALUE")) == len(vehicle.services.parameters)


def test_forged_commands_use_up_no_answers_to_others_where_none_must_be_signed() -> None:
    vehicle = Vehicle(security=keyed(require_signed="none"))
    vehicle.hear_frames(*[plain(command())] * 100)
    forged = len(vehicle.take("COMMAND_ACK"))
    vehicle.hear_frames(signed(command(), NOW))

    assert forged < 100
    assert len(vehicle.take("COMMAND_ACK")) == 1


@pytest.mark.parametrize("required", ["none", "commands", "all"])
def test_a_forged_heartbeat_of_ours_does_not_silence_us(required: Any) -> None:
    vehicle = Vehicle(security=keyed(require_signed=required))
    for _ in range(5):
        vehicle.hear_frames(plain(AUTOPILOT.heartbeat(), OURS), plain(heartbeat(), OURS)).wait(1)

    heartbeats = vehicle.take("HEARTBEAT")
    assert len(heartbeats) >= 5
    assert {(one.get_srcSystem(), one.get_srcComponent()) for one in heartbeats} == {OURS}


def test_a_forged_command_does_not_hide_that_the_ground_forgot_to_sign(caplog: pytest.LogCaptureFixture) -> None:
    air = Air(keyed())
    for n in range(100):
        air.hear(0, command(), sender=(n % 3 + 7, 190))
    air.hear(0, command(), sender=GROUND)
    for n in range(100):
        air.hear(0, command(), sender=(n + 1, 77))

    told = [news.status_text for news in air.links[0].take_news()]
    assert len(told) == len(caplog.records) == MAX_REFUSED
    assert "FUSION: refused 255/190: unsigned" in told


@pytest.mark.parametrize(("required", "is_obeyed"), [("commands", False), ("all", False), ("none", True)])
def test_nothing_unsigned_changes_what_we_do(required: Any, is_obeyed: bool) -> None:
    vehicle = Vehicle(security=keyed(require_signed=required))
    before = state(vehicle)
    for number in MESSAGES:
        vehicle.hear_frames(plain(at_us(number)))

    assert (state(vehicle) != before) == is_obeyed
    assert bool(vehicle.take("COMMAND_ACK")) == is_obeyed


def state(vehicle: Vehicle) -> tuple[Any, ...]:
    intervals = [vehicle.services._intervals[0].of(number) for number in MESSAGES]
    return dict(vehicle.services.parameters), vehicle.publisher.publishing, intervals


@pytest.mark.parametrize("name", sorted(COMMANDS - {"SETUP_SIGNING"}))
def test_the_list_of_those_who_may_command_counts_for_everything_that_commands(name: str) -> None:
    message = at_us(next(number for number, kind in MESSAGES.items() if kind.msgname == name))
    air = Air(keyed(allow=frozenset({(255, 190)})))
    air.hear(0, message, sender=(255, 190), is_signed=True)
    air.hear(0, message, sender=(255, 191), is_signed=True)
    air.hear(0, message, sender=(254, 190), is_signed=True)

    assert dict(air.links[0].refused) == {"not_allowed": 2}


@pytest.mark.parametrize(
    ("is_serial", "required", "is_heard"),
    [(True, "all", True), (True, "commands", True), (False, "commands", True), (False, "all", False)],
)
def test_the_status_of_a_radio_which_cannot_sign_counts_on_its_port(
    is_serial: bool, required: Any, is_heard: bool
) -> None:
    air = Air(keyed(require_signed=required, is_serial=is_serial))
    air.hear(0, common.MAVLink_radio_status_message(0, 0, 5, 0, 0, 0, 0), heartbeat(), sender=(51, 68))

    assert air.links[0].refused["unsigned"] == (not is_heard) + (required == "all")


def test_unsigned_heartbeats_take_no_place_of_who_has_the_key() -> None:
    clock = VirtualClock(S)
    server = UdpServer("udpin", NetworkAddress(kind="udpin", host="127.0.0.1", port=0), clock)
    link = Link(server, *OURS, clock, keyed())
    with contextlib.ExitStack() as stack:
        stack.callback(server.close)
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(MAX_CLIENTS + 1)
        ]
        for sock in sockets:
            frame = signed(heartbeat(), NOW) if sock is sockets[-1] else plain(heartbeat())
            sock.settimeout(5)
            sock.sendto(frame, ("127.0.0.1", server.port))
            server.wait(5)
            assert len(link.receive()) == 1
        link.send(heartbeat())

        assert sockets[-1].recv(300)[7:10] == b"\0\0\0"


@pytest.mark.parametrize(
    ("config", "is_wire"),
    [
        (LinkConfig(link="udpin:0"), False),
        (LinkConfig(link="udpin:0", require_signed="none"), False),
        (LinkConfig(link="serial:{}:57600"), True),
        (LinkConfig(link="serial:{}:57600", require_signed="commands"), False),
    ],
)
def test_a_wire_is_a_serial_port_of_which_nothing_is_demanded(
    config: LinkConfig, is_wire: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.mavlink.network.link.open_transport", lambda link, clock: samples.FakeTransport())
    with open_links(MavlinkConfig(links=(config,)), VirtualClock(1)) as (links, _):
        links[0].transport.incoming = [("peer", plain(heartbeat()))]  # type: ignore[attr-defined]

        assert [item.is_proven for item in links[0].receive()] == [is_wire]


def test_a_command_that_must_not_be_signed_is_not_proven_by_a_wrong_signature() -> None:
    air = Air(keyed(require_signed="none"))
    air.ports[0].incoming = [("peer", signed(command(), NOW, secret=signatures.OTHER_KEY))]

    assert [item.is_proven for item in air.links[0].receive()] == [False]

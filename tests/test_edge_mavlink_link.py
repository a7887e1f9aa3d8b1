import logging
import socket
from typing import Any

import mavlink_samples as samples
import pytest
from pymavlink.dialects.v20 import common

from edge.clock import VirtualClock
from edge.mavlink.network.link import MAX_PARSERS, Link
from edge.mavlink.network.link_state import State
from edge.mavlink.network.peers import GONE_NS, MAX_AUTOPILOTS
from edge.mavlink.pace import NS_PER_S
from edge.mavlink.station.ground import GroundStation
from edge.mavlink.wire import codec, standard


def frame(message: Any, system_id: int, component_id: int) -> bytes:
    transport = samples.FakeTransport()
    Link(transport, system_id, component_id).send(message)
    return transport.sent[0]


def autopilot_heartbeat() -> Any:
    return common.MAVLink_heartbeat_message(
        common.MAV_TYPE_QUADROTOR, common.MAV_AUTOPILOT_ARDUPILOTMEGA, 0, 0, common.MAV_STATE_ACTIVE, 3
    )


def test_frames_carry_our_identity_and_count_up() -> None:
    transport = samples.FakeTransport()
    link = Link(transport, 42, 191)

    for _ in range(257):
        link.send(standard.heartbeat(4))

    sent = [samples.decode_frame(data, 50, 9) for data in transport.sent]
    assert [item.sequence for item in sent] == [*range(256), 0]
    assert {(item.system_id, item.component_id) for item in sent} == {(42, 191)}


def test_peers_do_not_disturb_each_others_frames() -> None:
    transport = samples.FakeTransport()
    link = Link(transport, 1, 191)
    one, other = frame(standard.heartbeat(4), 7, 1), frame(standard.status_text(6, "hello"), 8, 1)

    transport.incoming = [("a", one[:9]), ("b", other[:20]), ("a", one[9:]), ("b", other[20:])]

    assert {(item.system_id, item.name) for item in link.receive()} == {(7, "HEARTBEAT"), (8, "STATUSTEXT")}


def test_a_crowd_of_peers_does_not_pile_up_unfinished_frames() -> None:
    transport = samples.FakeTransport()
    link = Link(transport, 1, 191)

    transport.incoming = [(str(peer), b"\xfd\xff") for peer in range(1000)]
    link.receive()

    assert len(link._parsers) <= MAX_PARSERS


def hear(link: Link, clock: VirtualClock, seconds: float, *systems: int) -> list[str]:
    """Let autopilots speak once a second each, one after the other; return what the ground is told."""
    told = []
    for _ in range(round(seconds)):
        for system in systems or (0,):
            if system:
                transport_of(link).incoming = [("peer", frame(autopilot_heartbeat(), system, 1))]
            link.receive()
            told += [item.status_text for item in link.take_news()]
            clock.advance_to(clock.now_ns() + NS_PER_S // max(len(systems), 1))
    return told


def transport_of(link: Link) -> samples.FakeTransport:
    assert isinstance(link.transport, samples.FakeTransport)
    return link.transport


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings since the last call."""
    found = [record.message.removeprefix("link fake: ") for record in caplog.records if record.levelname == "WARNING"]
    caplog.clear()
    return found


def test_a_double_of_ours_is_told_of_once_each_time_that_it_comes_and_we_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, transport = VirtualClock(1), samples.FakeTransport()
    link = Link(transport, 1, 191, clock)
    double = [("peer", frame(standard.heartbeat(4), 1, 191))]
    news = []
    for second in [*range(3), *range(20, 23)]:
        clock.advance_to(second * NS_PER_S)
        link.receive()  # it is gone
        transport.incoming = double * 3
        link.receive()
        news += link.take_news()
        link.send(standard.heartbeat(4))

    here, gone = "FUSION: another 1/191 is here", "FUSION: the other 1/191 is gone"
    assert [item.status_text for item in news] == [here, gone, here]
    assert len(transport.sent) == 6
    assert (
        warnings(caplog) == ["another sender calls itself system 1 component 191 too: give one of them another id"] * 2
    )


@pytest.mark.parametrize(
    ("systems", "told", "ground"),
    [
        ([1, 1], [], []),
        (
            [5, 5],
            ["the autopilot is system 5, we are 1: set mavlink.system_id to 5 to belong to it"],
            ["FUSION: autopilot is system 5, we are 1"],
        ),
        ([1, 5], ["autopilots of systems 1 and 5 are here: ours is 1 (mavlink.system_id)"], []),
    ],
    ids=["ours", "another", "two"],
)
def test_autopilots_are_told_of_once_with_what_is_strange(
    systems: list[int], told: list[str], ground: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = VirtualClock(1)
    link = Link(samples.FakeTransport(), 1, 191, clock)

    assert hear(link, clock, 30, *systems) == ground
    assert len([record for record in caplog.records if "is here" in record.message]) == len(set(systems))
    assert warnings(caplog) == told


def test_an_autopilot_that_comes_late_brings_the_link_up(caplog: pytest.LogCaptureFixture) -> None:
    clock, transport = VirtualClock(1), samples.FakeTransport()
    link = Link(transport, 1, 191, clock)
    clock.advance_to(3600 * NS_PER_S)
    link.receive()
    assert link.state == State.OPEN

    transport.incoming = [("peer", frame(autopilot_heartbeat(), 1, 1))]
    link.receive()

    assert link.state == State.UP
    assert not caplog.records


def test_an_autopilot_that_changes_its_system_and_back_is_told_of_each_time(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(1)
    link = Link(samples.FakeTransport(), 1, 191, clock)

    assert hear(link, clock, 5, 1) == []
    assert hear(link, clock, 15, 7) == ["FUSION: autopilot is system 7, we are 1"]
    assert warnings(caplog) == [
        "the autopilot of system 1 is gone, that of system 7 is here",
        "the autopilot is system 7, we are 1: set mavlink.system_id to 7 to belong to it",
    ]
    assert hear(link, clock, 15, 1) == ["FUSION: the autopilot is system 1, as we are"]
    assert warnings(caplog) == ["the autopilot of system 7 is gone, that of system 1 is here"]


def test_a_second_autopilot_is_told_of_each_time_that_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(1)
    link = Link(samples.FakeTransport(), 1, 191, clock)
    both = "autopilots of systems 1 and 5 are here: ours is 1 (mavlink.system_id)"
    alone = "the autopilot of system 5 is gone, that of system 1 is here"

    hear(link, clock, 5, 1, 5)
    hear(link, clock, 15, 1)
    hear(link, clock, 5, 1, 5)

    assert warnings(caplog) == [both, alone, both]


def test_an_autopilot_that_restarts_is_told_of_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = VirtualClock(1)
    link = Link(samples.FakeTransport(), 1, 191, clock)
    hear(link, clock, 3, 1)
    hear(link, clock, GONE_NS / NS_PER_S + 1)
    hear(link, clock, 3, 1)

    assert [record.message.removeprefix("link fake: ") for record in caplog.records] == [
        "autopilot of system 1 is here", "up", "autopilot of system 1 is gone", "nobody's heartbeat for 10 s",
        "autopilot of system 1 is here", "up",
    ]  # fmt: skip


def test_a_link_that_falls_silent_is_opened_anew_once_and_told_of_once_as_its_return_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, transport = VirtualClock(1), samples.FakeTransport()
    link = Link(transport, 1, 191, clock)
    reopened = []
    transport.reopen = lambda: reopened.append(clock.now_ns())  # type: ignore[method-assign]
    transport.incoming = [("peer", frame(autopilot_heartbeat(), 1, 1))]
    link.receive()
    for second in range(2, 60):
        clock.advance_to(second * NS_PER_S)
        link.receive()

    assert reopened == [11 * NS_PER_S]
    transport.incoming = [("peer", frame(autopilot_heartbeat(), 1, 1))]
    link.receive()

    assert [record.message for record in caplog.records] == ["link fake: nobody's heartbeat for 10 s"]
    assert [item.status_text for item in link.take_news()] == ["FUSION: lost: fake", "FUSION: back: fake"]


RADIO = common.MAVLink_radio_status_message(200, 200, 100, 50, 50, 0, 0)


@pytest.mark.parametrize(
    ("arrived", "why"),
    [
        (b"", "no heartbeat, next to nothing: are TX and RX crossed"),
        (b"\0\xff", "no heartbeat, next to nothing: are TX and RX crossed"),
        (b"\0\xff" * 50, "no heartbeat, but 100 bytes that are no frames: try another baud rate"),
        (frame(RADIO, 51, 68), "frames, but no heartbeat that counts: a radio, and nobody at its other end"),
    ],
    ids=["silence", "a click", "noise", "radio"],
)
def test_a_serial_port_that_never_brings_a_heartbeat_is_told_of_once_with_what_may_be_wrong(
    arrived: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = VirtualClock(1)
    link = Link(samples.FakeTransport(), 1, 191, clock)
    transport_of(link).name = "serial:/dev/ttyTHS1:921600"
    transport_of(link).incoming = [("peer", arrived)]
    told = hear(link, clock, 60)
    told += hear(link, clock, 3, 1)

    assert told == ["FUSION: no heartbeat: serial:/dev/ttyTHS1:921600", "FUSION: back: serial:/dev/ttyTHS1:921600"]
    assert [why in text for text in warnings(caplog)] == [True]


def test_a_serial_port_that_worked_is_not_told_to_have_another_rate(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(1)
    link = Link(samples.FakeTransport(), 1, 191, clock)
    transport_of(link).name = "serial:/dev/ttyTHS1:921600"
    hear(link, clock, 3, 1)
    transport_of(link).is_open = False
    hear(link, clock, 3)
    transport_of(link).is_open = True
    transport_of(link).incoming = [("peer", bytes(100))]

    assert hear(link, clock, 60) == []
    assert warnings(caplog) == []


def test_what_is_damaged_or_unknown_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = VirtualClock(1)
    link = Link(samples.FakeTransport(), 1, 191, clock)
    whole = frame(standard.heartbeat(4), 7, 1)
    damaged, unknown = whole[:-1] + bytes([whole[-1] ^ 1]), b"\xfd\x01\0\0\0\x01\x01\x98\0\0" + bytes(3)
    for _ in range(3):
        transport_of(link).incoming = [("a", damaged + whole), ("b", unknown)]
        link.receive()

    assert (link.counts.bad, link.counts.unknown) == (3, 3)
    assert [(record.levelname, record.message) for record in caplog.records if "counted" in record.message] == [
        (
            "WARNING",
            "link fake: a damaged frame (checksum, length or flags): noise, or somebody forges; the rest is counted",
        ),
        ("INFO", "link fake: a message that is neither of common.xml nor of ours: left alone; the rest is counted"),
    ]


def test_a_network_on_which_nobody_speaks_is_nothing_strange(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(1)

    assert hear(Link(samples.FakeTransport(), 1, 191, clock), clock, 60) == []
    assert warnings(caplog) == []


def test_hundreds_of_forged_autopilots_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(1)
    link = Link(samples.FakeTransport(), 1, 191, clock)

    hear(link, clock, 3, *range(2, 250))

    assert len(warnings(caplog)) <= MAX_AUTOPILOTS + 1


def test_the_ground_counts_lost_frames_and_missing_results() -> None:
    sender = samples.FakeTransport()
    link = Link(sender, 1, 191)
    for sequence in range(10):
        link.send(classification(sequence))
    arriving = [data for n, data in enumerate(sender.sent) if n not in (3, 4, 8)]
    with (
        GroundStation("udpin:127.0.0.1:0") as ground,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as vehicle,
    ):
        for data in arriving:
            vehicle.sendto(data, ("127.0.0.1", ground.port))

        received = ground.poll(timeout_ms=5000)

        assert len(received) == 7
        assert (ground.counts.results, ground.counts.results_missing, ground.counts.frames_lost) == (7, 3, 3)
        assert ground.counts.senders == {(1, 191): 7}


def classification(sequence: int) -> Any:
    return codec.classification_message(
        codec.report_of(samples.answer(sequence=sequence), model_id=0, now_ns=0, max_age_ms=1.0, is_replay=False)
    )

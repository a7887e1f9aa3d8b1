import logging
import socket
from typing import Any

import mavlink_samples as samples
import pytest
from pymavlink.dialects.v20 import common

from edge.clock import VirtualClock
from edge.mavlink import codec, standard
from edge.mavlink.ground import GroundStation
from edge.mavlink.link import MAX_PARSERS, Link
from edge.mavlink.link_state import State
from edge.mavlink.pace import NS_PER_S
from edge.mavlink.peers import MAX_PEERS


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


def test_a_double_of_ours_is_warned_of_once_on_board_and_on_the_ground_and_we_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transport = samples.FakeTransport()
    link = Link(transport, 1, 191)
    news = []
    for _ in range(3):
        transport.incoming = [("peer", frame(standard.heartbeat(4), 1, 191))] * 3
        link.receive()
        news += link.take_news()
    link.send(standard.heartbeat(4))

    assert [item.status_text for item in news] == ["FUSION: another 1/191 is here"]
    assert len(transport.sent) == 1
    assert [record.message for record in caplog.records if "calls itself" in record.message] == [
        "link fake: another sender calls itself system 1 component 191 too: give one of them another id"
    ]


@pytest.mark.parametrize(
    ("systems", "warnings"),
    [
        ([1, 1], []),
        ([5, 5], ["the autopilot is system 5, we are 1: set mavlink.system_id to 5 to belong to it"]),
        ([1, 5], ["autopilots of systems 1 and 5 are here: ours is 1 (mavlink.system_id)"]),
    ],
    ids=["ours", "another", "two"],
)
def test_autopilots_are_told_of_once_with_what_is_strange(
    systems: list[int], warnings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    transport = samples.FakeTransport()
    link = Link(transport, 1, 191, VirtualClock(1))
    for _ in range(3):
        transport.incoming = [("peer", frame(autopilot_heartbeat(), system, 1)) for system in systems]
        link.receive()

    here = [record.message for record in caplog.records if "is here" in record.message]
    assert len(here) == len(set(systems))
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"link fake: {warning}" for warning in warnings
    ]


def test_an_autopilot_that_comes_late_brings_the_link_up(caplog: pytest.LogCaptureFixture) -> None:
    clock, transport = VirtualClock(1), samples.FakeTransport()
    link = Link(transport, 1, 191, clock)
    clock.advance_to(3600 * NS_PER_S)
    link.receive()
    assert link.state == State.OPEN

    transport.incoming = [("peer", frame(autopilot_heartbeat(), 1, 1))]
    link.receive()

    assert link.state == State.UP
    assert link.peers.present(clock.now_ns()) == ((1, 1),)
    assert not caplog.records


def test_an_autopilot_that_changes_its_system_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    clock, transport = VirtualClock(1), samples.FakeTransport()
    link = Link(transport, 1, 191, clock)
    transport.incoming = [("peer", frame(autopilot_heartbeat(), 1, 1))]
    link.receive()
    clock.advance_to(20 * NS_PER_S)
    transport.incoming = [("peer", frame(autopilot_heartbeat(), 7, 1))]
    link.receive()

    assert "the autopilot was system 1, and now is system 7" in caplog.text
    assert "set mavlink.system_id to 7" in caplog.text
    assert link.peers.present(clock.now_ns()) == ((7, 1),)


def test_a_link_that_falls_silent_is_opened_anew_once_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
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
    assert [record.message for record in caplog.records] == ["link fake: nobody's heartbeat for 10 s"]


def test_thousands_of_heartbeats_of_strangers_are_not_all_remembered() -> None:
    transport = samples.FakeTransport()
    link = Link(transport, 1, 191, VirtualClock(1))
    transport.incoming = [
        ("peer", frame(autopilot_heartbeat(), system, component)) for system in range(2, 40) for component in range(40)
    ]
    link.receive()

    assert len(link.peers.present(1)) == MAX_PEERS


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

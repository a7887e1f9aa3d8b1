"""What is judged of a live flight with faults beside its messages: memory, descriptors and heartbeats."""

import os

import pytest
from faulty_flights import BEGIN_NS
from pymavlink.dialects.v20 import common
from test_edge_faults_live import Port, orders

from edge.clock import VirtualClock
from edge.faults.fault import parse_fault
from edge.faults.heartbeats import Beating, Heartbeats, judge_heartbeats
from edge.faults.lost_link import LostLink
from edge.judging.verdict import Verdict
from edge.mavlink.wire import standard
from edge.operations.footprint import Footprint, Held, held_by

S = 1_000_000_000
MIB = 1 << 20


def heartbeat() -> bytes:
    return standard.heartbeat(common.MAV_STATE_ACTIVE).pack(common.MAVLink(None, srcSystem=1, srcComponent=191))


def beaten(tmp_path, beats_s, faults=(), port=None) -> LostLink:
    """Return a link that has carried heartbeats at times, and other frames."""
    clock, port = VirtualClock(BEGIN_NS), port or Port()
    link = LostLink(port, orders(tmp_path, *faults, clock=clock))
    for second in beats_s:
        clock.advance_to(BEGIN_NS + round(second * S))
        link.receive()
        link.send(heartbeat())
        link.send(b"\xfd anything else")
    return link


def judged(tmp_path, seconds: float, faults=(), links=("udpout:127.0.0.1:14550",)) -> Verdict:
    losses = tuple(parse_fault(text).window_ns(BEGIN_NS) for text in faults)
    end_ns, verdict = BEGIN_NS + round(seconds * S), Verdict(promise="", not_judged="not looked at")
    judge_heartbeats(tmp_path, Beating(links=links, begin_ns=BEGIN_NS, end_ns=end_ns, losses_ns=losses), verdict)
    return verdict


@pytest.mark.parametrize(
    ("beats_s", "faults", "said"),
    [
        ((0, 1, 2, 3.2, 5.6), (), []),
        ((0, 1, 3.6, 5, 7), (), [(3.5, "2.60")]),
        ((0, 1, 1.5, 5, 6), ("link:loss@1.2s+2s",), []),
        ((0, 1, 3, 5, 8), ("link:loss@1.2s+2s",), [(7.5, "3.00")]),
        ((0, 1, 2, 3), (), [(5.5, "5.00")]),
        ((3, 4, 5, 6, 7), (), [(2.5, "3.00")]),
        ((0, 1, 2), ("link:loss@2.5s",), []),
        ((0, 1, 7), ("link:loss@2s+1s", "link:loss@4s+1s"), []),
        ((), (), [(2.5, "8.00")]),
    ],
)
def test_pauses_of_the_heartbeat_are_judged_where_the_link_is_not_lost(tmp_path, beats_s, faults, said):
    """To the end of the flight, 8 s after its beginning."""
    link = beaten(tmp_path, beats_s, faults)
    link.close()
    verdict = judged(tmp_path, 8.0, faults)
    texts = [(after_s, f"{link.name}: no HEARTBEAT for {pause} s") for after_s, pause in said]
    assert [(one.after_s, one.text) for one in verdict.first] == texts
    assert verdict.word == ("violated" if said else "held")
    assert verdict.judged == max(len(link._transport.sent) // 2, 1)


def test_a_link_that_has_told_of_no_heartbeats_has_broken_the_promise(tmp_path):
    """Its process has ended without a word."""
    beaten(tmp_path, range(9)).close()
    verdict = judged(tmp_path, 8.0, links=("udpout:127.0.0.1:14550", "udpin:127.0.0.1:14551"))
    assert [one.text for one in verdict.first] == ["udpin:127.0.0.1:14551: no HEARTBEAT for 8.00 s"]


def test_without_a_link_no_heartbeat_is_judged(tmp_path):
    verdict = judged(tmp_path, 8.0, links=())
    assert (verdict.word, verdict.not_judged) == ("not judged", "there is no link")


def test_heartbeats_that_cannot_be_left_are_told(tmp_path, caplog):
    Heartbeats(link="a").write(tmp_path / "absent")
    assert "heartbeats of a will not be judged" in caplog.text


class Jammed(Port):
    """A port that takes nothing from a time on."""

    def __init__(self, free: int) -> None:
        super().__init__()
        self._free = free

    def send(self, frame: bytes) -> None:
        if len(self.sent) < self._free:
            super().send(frame)
        else:
            self.counts.frames_dropped += 1


def test_a_heartbeat_that_the_port_does_not_take_is_none(tmp_path):
    beaten(tmp_path, range(9), port=Jammed(8)).close()
    assert [one.text.partition(": ")[2] for one in judged(tmp_path, 8.0).first] == ["no HEARTBEAT for 5.00 s"]


class Armed(Port):
    """A port on which an armed autopilot speaks from the fifth look on."""

    def receive(self) -> list[tuple[str, bytes]]:
        self.calls.append("receive")
        beat = common.MAVLink_heartbeat_message(2, common.MAV_AUTOPILOT_PX4, common.MAV_MODE_FLAG_SAFETY_ARMED, 0, 4, 3)
        return [("peer", beat.pack(common.MAVLink(None, 1, 1)))] if len(self.calls) >= 5 else []


def test_a_link_that_falls_silent_for_a_vehicle_has_broken_no_promise(tmp_path):
    link = beaten(tmp_path, range(9), port=Armed())
    link.close()
    assert len(link._transport.sent) == 8
    assert judged(tmp_path, 8.0).word == "held"


def footprint(monkeypatch, after: Held | None, fault: str = "radio:off@6s+1s", held=(100 * MIB, 30)) -> Verdict:
    """Return the verdict on a pipeline that held so much before a fault and something else after it."""
    looks = Footprint([parse_fault(fault)], BEGIN_NS)
    before = Held(at_ns=BEGIN_NS + 5 * S, process_id=7, resident_bytes=held[0], files=held[1])
    monkeypatch.setattr(
        "edge.operations.footprint.held_by", lambda _, at_ns: before if at_ns < 6 * S + BEGIN_NS else after
    )
    for second in range(12):
        looks.look(7, BEGIN_NS + second * S)
    verdict = Verdict(promise="", not_judged="not looked at")
    looks.judge(verdict)
    return verdict


@pytest.mark.parametrize(
    ("more_bytes", "more_files", "said"),
    [(0, 0, []), (15 * MIB, -1, []), (17 * MIB, 0, ["17.0 MiB more"]), (0, 1, ["1 descriptors more"])],
)
def test_what_a_pipeline_holds_after_faults_is_compared_with_before(monkeypatch, more_bytes, more_files, said):
    after = Held(at_ns=BEGIN_NS + 9 * S, process_id=7, resident_bytes=100 * MIB + more_bytes, files=30 + more_files)
    verdict = footprint(monkeypatch, after)
    assert verdict.word == ("violated" if said else "held")
    assert [text for one, text in zip(verdict.first, said, strict=True) if text not in one.text] == []


def test_what_a_pipeline_holds_is_not_judged_where_it_cannot_be(monkeypatch):
    after = Held(at_ns=BEGIN_NS + 9 * S, process_id=7, resident_bytes=100 * MIB, files=30)
    another = Held(at_ns=BEGIN_NS + 9 * S, process_id=8, resident_bytes=900 * MIB, files=90)
    found = [
        footprint(monkeypatch, another),
        footprint(monkeypatch, None),
        footprint(monkeypatch, after, "radio:off@1s+1s"),
        footprint(monkeypatch, after, "radio:off@6s"),
        footprint(monkeypatch, after, "radio:off@6s+5s"),
    ]
    assert [verdict.word for verdict in found] == ["not judged"] * 5
    assert "another process" in found[0].not_judged
    assert "expected 5 s before the first fault" in found[1].not_judged


def test_what_a_process_holds_is_read_from_the_system():
    mine = held_by(os.getpid(), 3)
    assert (mine.at_ns, mine.process_id) == (3, os.getpid())
    assert mine.resident_bytes > MIB
    assert mine.files >= 3
    assert held_by(2**22 + 1, 3) is None

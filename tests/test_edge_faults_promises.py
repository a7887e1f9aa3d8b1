"""What is judged of a live flight with faults beside its messages: memory, descriptors and heartbeats."""

import os

import pytest
from faulty_flights import BEGIN_NS
from pymavlink.dialects.v20 import common
from test_edge_faults_live import Port, orders

from edge.clock import VirtualClock
from edge.faults.fault import parse_fault
from edge.faults.heartbeats import Heartbeats, judge_heartbeats
from edge.faults.lost_link import LostLink
from edge.judging.verdict import Verdict
from edge.mavlink import standard
from edge.operations.footprint import Footprint, Held, held_by

S = 1_000_000_000
MIB = 1 << 20


def heartbeat() -> bytes:
    return standard.heartbeat(common.MAV_STATE_ACTIVE).pack(common.MAVLink(None, srcSystem=1, srcComponent=191))


@pytest.mark.parametrize(
    ("beats_s", "faults", "said"),
    [
        ((0, 1, 2, 3.2, 5.6), (), []),
        ((0, 1, 3.6, 5), (), ["no HEARTBEAT for 2.60 s"]),
        ((0, 1, 1.5, 5, 6), ("link:loss@1.2s+2s",), []),
        ((0, 1, 1.5, 5, 8), ("link:loss@1.2s+2s",), ["no HEARTBEAT for 3.00 s"]),
    ],
)
def test_pauses_of_the_heartbeat_are_judged_where_the_link_is_not_lost(tmp_path, beats_s, faults, said):
    clock, port = VirtualClock(BEGIN_NS), Port()
    link = LostLink(port, orders(tmp_path, *faults, clock=clock))
    for second in beats_s:
        clock.advance_to(BEGIN_NS + round(second * S))
        link.send(heartbeat())
        link.send(b"\xfd anything else")
    link.close()
    verdict = Verdict(promise="")
    judge_heartbeats(tmp_path, BEGIN_NS, verdict)
    assert verdict.word == ("violated" if said else "held")
    assert [f"{port.name}: {text}" for text in said] == [one.text for one in verdict.first]
    assert verdict.judged == len(port.sent) // 2


def test_heartbeats_of_which_nobody_told_are_not_judged(tmp_path, caplog):
    verdict = Verdict(promise="")
    link = LostLink(Port(), orders(tmp_path))
    link.close()
    judge_heartbeats(tmp_path, BEGIN_NS, verdict)
    assert verdict.word == "not judged"
    assert "no link" in verdict.not_judged
    Heartbeats(link="a").write(tmp_path / "absent")
    assert "heartbeats of a will not be judged" in caplog.text


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

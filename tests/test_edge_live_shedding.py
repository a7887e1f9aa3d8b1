"""A board that slows down, in flight on real sockets: less is inferred, everybody is told, and it comes back."""

import itertools
import logging

from live_rig import LiveRig

WHY = "cpufreq-cpu0 is on"


def test_frames_are_left_out_while_the_board_is_hot_and_everybody_is_told(tmp_path, caplog):
    heat: list[str] = []
    rig = LiveRig(tmp_path, {"radio": "iq", "camera": "image"}, heat=lambda: heat[0] if heat else "")
    assert rig.pipeline.status().load.level == 0
    heat.append(WHY)
    rig.feed(lambda rig: rig.statuses[-1].load.level == 1)
    assert rig.statuses[-1].load.name == "image every 2nd"
    assert rig.statuses[-1].load.why == f"the board slows down: {WHY}"
    rig.feed(lambda rig: rig.stream("camera").shed >= 10)
    rig.feed(LiveRig.is_fused)
    heat.clear()
    rig.feed(lambda rig: rig.statuses[-1].load.level == 0)
    shed = rig.stream("camera").shed
    rig.feed(rig.more(20))
    assert rig.stream("camera").shed == shed
    status = rig.end()
    rig.close()
    assert status.streams["radio"].shed == 0
    told = [record.getMessage() for record in caplog.records if "shedding" in record.getMessage()]
    assert told[0] == f"shedding: image every 2nd: the board slows down: {WHY}"
    assert told[-1] == "shedding: nothing any more"
    changes = [a for a, b in itertools.pairwise(rig.statuses) if a.load != b.load]
    assert len(told) == len(changes)
    assert {record.levelno for record in caplog.records if "shedding" in record.getMessage()} == {logging.WARNING}


def test_nothing_is_rehearsed_while_the_board_is_hot(tmp_path, monkeypatch):
    heat: list[str] = [WHY]
    rig = LiveRig(tmp_path, {"radio": "iq", "camera": "image"}, heat=lambda: heat[0] if heat else "")
    rig.feed(lambda rig: rig.statuses[-1].load.level > 0)
    rehearsed: list[str] = []
    for name, branch in rig.pipeline._branches.items():
        monkeypatch.setattr(branch, "rehearse", lambda name=name: rehearsed.append(name))
    rig.pipeline._practise("radio")
    assert rehearsed == []
    heat.clear()
    rig.feed(lambda rig: rig.statuses[-1].load.level == 0)
    rig.pipeline._practise("radio")
    assert rehearsed == ["radio"]
    rig.end()
    rig.close()


def test_a_deployment_that_forbids_it_sheds_nothing_on_a_hot_board(tmp_path):
    rig = LiveRig(tmp_path, {"radio": "iq", "camera": "image"}, heat=lambda: WHY, shedding="off")
    told = len(rig.statuses)
    rig.feed(lambda rig: len(rig.statuses) >= told + 3)
    assert {status.load.level for status in rig.statuses} == {0}
    assert rig.end().streams["camera"].shed == 0
    rig.close()

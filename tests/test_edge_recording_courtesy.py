"""The recorder's threads go last, until they fall behind."""

import os
import threading
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from edge.recording import courtesy
from edge.recording.courtesy import BEHIND_NS, HURRY_NS, NICENESS, Courtesy


class System:
    """What would be asked of the kernel, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.asked: list[tuple[int, int]] = []
        self.is_forbidden = False

    def schedule(self, thread: int, policy: int, _: os.sched_param) -> None:
        if self.is_forbidden:
            raise PermissionError(1, "Operation not permitted")
        self.asked.append((thread, policy))


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    fake = System()
    monkeypatch.setattr(courtesy, "time", SimpleNamespace(monotonic_ns=lambda: fake.now_ns))
    monkeypatch.setattr(courtesy.os, "sched_setscheduler", fake.schedule)
    return fake


def joined(system: System) -> Courtesy:
    """Return the courtesy that this thread has joined, and forget what was asked so far."""
    ours = Courtesy()
    ours.join()
    assert system.asked[-1] == (threading.get_native_id(), os.SCHED_IDLE)
    system.asked.clear()
    return ours


def test_a_thread_that_keeps_up_goes_last(system: System) -> None:
    ours = joined(system)
    for _ in range(20):
        system.now_ns += BEHIND_NS // 2
        ours.note(BEHIND_NS // 2)
        ours.check()
    assert system.asked == []


@pytest.mark.parametrize("is_starved", [True, False], ids=["does not run", "runs late"])
def test_a_thread_that_falls_behind_hurries_and_later_goes_last_again(system: System, is_starved: bool) -> None:
    ours, me = joined(system), threading.get_native_id()
    system.now_ns += 2 * BEHIND_NS if is_starved else 1
    if not is_starved:
        ours.note(2 * BEHIND_NS)
    ours.check()
    ours.check()
    assert system.asked == [(me, os.SCHED_BATCH)]
    system.now_ns += HURRY_NS // 2
    ours.note()
    ours.check()
    assert len(system.asked) == 1
    system.now_ns += HURRY_NS
    ours.note()
    ours.check()
    assert system.asked[1:] == [(me, os.SCHED_IDLE)]


def test_what_was_sent_by_another_clock_is_no_reason_to_hurry(system: System) -> None:
    ours = joined(system)
    ours.note(10**18)
    ours.note(-(10**18))
    ours.check()
    assert system.asked == []


def test_a_thread_that_has_left_is_not_waited_for(system: System) -> None:
    ours = joined(system)
    ours.leave()
    system.now_ns += 100 * BEHIND_NS
    ours.check()
    assert system.asked == []


def test_a_recorder_that_is_to_end_hurries(system: System) -> None:
    ours = joined(system)
    ours.hurry()
    assert system.asked == [(threading.get_native_id(), os.SCHED_BATCH)]


def test_where_an_idle_job_cannot_come_back_threads_are_nice_instead(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(courtesy.os, "setpriority", lambda *wanted: asked.append(wanted))
    system.is_forbidden = True
    ours = Courtesy()
    ours.join()
    assert asked == [(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)]
    system.now_ns += 10 * BEHIND_NS
    ours.check()
    ours.hurry()
    assert system.asked == []


def test_a_container_that_forbids_it_changes_nothing_of_the_recording(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = joined(system)
    system.is_forbidden = True
    ours.hurry()
    ours.leave()
    monkeypatch.setattr(courtesy.os, "setpriority", Mock(side_effect=PermissionError(1, "Operation not permitted")))
    Courtesy().join()

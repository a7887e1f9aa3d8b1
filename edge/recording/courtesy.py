"""Lets others have the processor first, as long as nothing piles up: what records waits in queues, answers do not.

On two cores a recorder of 33 MB/s that runs as the pipeline does, even as a batch job, makes the pipeline's answers a
tenth slower: both wake up for the same message. As an idle job it costs them 2 to 3 percent, but such a job gets next
to nothing of a machine that is busy all the time. So a thread is one only until it falls behind.
"""

import contextlib
import logging
import os
import threading
import time

log = logging.getLogger(__name__)

BEHIND_NS = 250_000_000
"""A quarter of what the sockets' queues hold."""
LONGEST_LAG_NS = 5_000_000_000
"""What claims to have been sent longer ago than this came with another clock."""
HURRY_NS = 60_000_000_000
NICENESS = 10
"""Of threads that could not come back from being idle jobs: a tenth of a busy core, which is what they need."""


class Courtesy:
    """The threads that record, and how much they may hold up others. `join` and `note` are called by these threads."""

    def __init__(self) -> None:
        self._is_idle = _can_return()
        self._beats_ns: dict[int, int] = {}
        """When each thread was last seen, by its id in the system."""
        self._hurry_until_ns = 0
        self._is_late = False

    def join(self) -> None:
        """Let this thread go last from now on."""
        thread = threading.get_native_id()
        self._beats_ns[thread] = time.monotonic_ns()
        if self._is_idle:
            _schedule(thread, os.SCHED_IDLE)
        else:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread, NICENESS)

    def note(self, lag_ns: int = 0) -> None:
        """Note that this thread is running, and how long ago what it has in hand was sent."""
        self._beats_ns[threading.get_native_id()] = time.monotonic_ns()
        if BEHIND_NS < lag_ns < LONGEST_LAG_NS:
            self._is_late = True

    def leave(self) -> None:
        """Forget this thread."""
        self._beats_ns.pop(threading.get_native_id(), None)

    def check(self) -> None:
        """Hurry where a thread has fallen behind, and be courteous again later; call some 10 times a second."""
        now_ns = time.monotonic_ns()
        if not self._is_idle:
            return
        is_behind = self._is_late or any(now_ns - beat_ns > BEHIND_NS for beat_ns in tuple(self._beats_ns.values()))
        self._is_late = False
        if is_behind:
            self.hurry()
        elif self._hurry_until_ns and now_ns > self._hurry_until_ns:
            self._hurry_until_ns = 0
            self._schedule_all(os.SCHED_IDLE)

    def hurry(self) -> None:
        """Let no thread go last for HURRY_NS: it has fallen behind, or time is short."""
        if self._is_idle and not self._hurry_until_ns:
            log.info("the recorder no longer lets all others go first: it has fallen behind, or is to end")
            self._schedule_all(os.SCHED_BATCH)
        self._hurry_until_ns = time.monotonic_ns() + HURRY_NS

    def _schedule_all(self, policy: int) -> None:
        for thread in tuple(self._beats_ns):
            _schedule(thread, policy)


def _schedule(thread: int, policy: int) -> None:
    try:
        os.sched_setscheduler(thread, policy, os.sched_param(0))
    except OSError as error:  # it has ended, or a container forbids it: it is the same recording
        log.debug("thread %d keeps its scheduling: %s", thread, error.strerror)


def _can_return() -> bool:
    """Try in a thread of its own whether an idle job may become another one again, which takes a privilege."""
    found: list[bool] = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            found.append(True)
        except OSError:
            found.append(False)

    thread = threading.Thread(target=attempt, name="courtesy")
    thread.start()
    thread.join()
    return found == [True]

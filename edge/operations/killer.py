"""Kills the pipeline of a live replay at the times that its faults name."""

import logging
import os
import signal
from collections.abc import Callable, Sequence

from edge.clock import Clock
from edge.faults.fault import PROCESS_KILL, Fault
from edge.operations.supervisor import PIPELINE

log = logging.getLogger(__name__)


class Killer:
    """Carries out `process:kill`; call `check` some 20 times a second."""

    def __init__(
        self, faults: Sequence[Fault], rate: float, clock: Clock, process_ids: Callable[[], dict[str, int]]
    ) -> None:
        """Begin with the flight.

        Args:
            faults: of the flight, those of other kinds among them.
            rate: times real time at which it is played.
            clock: of the present.
            process_ids: of the processes that run, by name.
        """
        begin_ns = clock.now_ns()
        self._clock = clock
        self._process_ids = process_ids
        self._due_ns = sorted(fault.window_ns(begin_ns, rate)[0] for fault in faults if fault.name == PROCESS_KILL)

    def put_off(self, since_ns: int, by_ns: int) -> None:
        """Kill so much later what was to be killed after a moment: the flight was slowed down."""
        self._due_ns = [due_ns + by_ns if due_ns > since_ns else due_ns for due_ns in self._due_ns]

    def check(self) -> None:
        """Kill the pipeline if it is time; one that is not running at that moment is left alone."""
        while self._due_ns and self._clock.now_ns() >= self._due_ns[0]:
            del self._due_ns[0]
            process_id = self._process_ids().get(PIPELINE)
            if process_id is not None:
                log.warning("killed as the fault says: process %d, the pipeline", process_id)
                os.kill(process_id, signal.SIGKILL)

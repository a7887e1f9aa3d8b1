"""Who infers in exact replay: the calling thread, or threads of their own, a modality's messages always in the same."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType

from edge.pipeline.alignment import Feature
from edge.pipeline.branch import Branch
from edge.pipeline.scheduler import Arrival
from edge.transport.wire import Reason

Outcome = Feature | Reason
SWITCH_INTERVAL_S = 0.0005
"""Threads that come back from a graph wait so long for one that is busy in Python; by default it is 5 ms, which cost a
third of all processor time in a flight of small graphs."""
AHEAD = 8
"""Messages that may be in work, or wait for a thread, before the first one's outcome is needed."""


class Crew:
    """Infers messages in the order in which they come. Use as a context.

    Every modality stays with one thread, and a graph computes in one thread, whatever their number: what comes out does
    not depend on it.
    """

    def __init__(self, branches: Mapping[str, Branch], modalities: Sequence[str], threads: int) -> None:
        """Start threads.

        Args:
            branches: by stream.
            modalities: all that are inferred.
            threads: how many infer; with 1 the caller's own does, and nothing is done ahead.
        """
        self._branches = branches
        self._place = {name: n % threads for n, name in enumerate(modalities)}
        self._switch_interval_s = sys.getswitchinterval()
        self._pools = [ThreadPoolExecutor(1, f"infer-{n}") for n in range(threads)] if threads > 1 else []

    @property
    def ahead(self) -> int:
        """How many messages to submit before the first outcome is asked for."""
        return AHEAD if self._pools else 0

    def submit(self, arrival: Arrival) -> Callable[[], Outcome]:
        """Infer a message, now or soon; return what waits for its outcome."""
        branch = self._branches[arrival.stream]
        if not self._pools:
            return partial(_same, branch.process(arrival))
        return self._pools[self._place[branch.modality.name]].submit(branch.process, arrival).result

    def __enter__(self) -> "Crew":
        self._switch_interval_s = sys.getswitchinterval()
        if self._pools:
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._switch_interval_s)


def _same(outcome: Outcome) -> Outcome:
    return outcome

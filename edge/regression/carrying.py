"""Every flight flown with every model, in processes of this machine or on the machines of a cluster."""

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from edge.regression.flights import Flight, shown
from edge.regression.flying import Result, Task, fly, fly_and_keep, kept_result
from edge.regression.hashing import Hashes
from edge.regression.keeping import Keep
from models.workers import in_processes, on_cluster

TasksOf = Callable[[Flight, str], Sequence[Task]]
"""What there is to do about a flight with a hash: a task a model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """What it is done with."""

    jobs: int = 1
    """Processes of this machine."""
    cluster: str | None = None
    """Address of a Ray cluster that does it instead."""
    keep: Path | None = None
    """Folder of finished outcomes."""


def fly_all(
    flights: Sequence[Flight], tasks_of: TasksOf, means: Means, on_hash: Callable[[], object]
) -> Generator[Result, None, None]:
    """Fly whatever is not finished yet, and yield what comes of all, the models of a flight close to each other.

    Args:
        flights: whose files need not be there any more.
        tasks_of: the tasks of each.
        means: where.
        on_hash: called when a flight's hash is known, or cannot be.
    Raises:
        BundleError: a model does not fly on this machine.
        LinkError: the cluster does not answer.
        RecordingError: the disk does not take what is kept. What is finished stays kept.
    """
    keep = Keep(means.keep) if means.keep is not None else None
    with keep.locked() if keep is not None else nullcontext():
        hashes, sorting = Hashes(keep), _Sorting(tasks_of, on_hash)
        known = [(flight, sha256) for flight in flights if (sha256 := hashes.known(flight)) is not None]
        done = {flight.name for flight, _ in known}
        missing: list[Task] = []
        halves: dict[str, list[Task]] = {}
        for tasks in sorting.to_fly(known):
            kept = [result for task in tasks if (result := kept_result(keep, task)) is not None]
            if len(kept) == len(tasks):
                yield from kept
                continue
            halves[tasks[0].flight] = [result.task for result in kept]  # read again when the rest is there
            missing += [task for task in tasks if task not in halves[task.flight]]
        with closing(hashes.ahead(flight for flight in flights if flight.name not in done)) as hashed:
            for result in _flown(chain(missing, chain.from_iterable(sorting.to_fly(hashed))), means, keep):
                yield result
                yield from (_again(keep, task) for task in halves.pop(result.task.flight, ()))
                yield from sorting.set_aside()
        yield from sorting.set_aside()


class _Sorting:
    """Tells flights that are to be flown from those that need not be, or cannot."""

    def __init__(self, tasks_of: TasksOf, on_hash: Callable[[], object]) -> None:
        self._tasks_of = tasks_of
        self._on_hash = on_hash
        self._first: dict[str, str] = {}
        self._aside: deque[Result] = deque()

    def to_fly(self, hashed: Iterable[tuple[Flight, str | OSError]]) -> Iterator[Sequence[Task]]:
        """Yield the tasks of flights, given with their hashes or why there is none; copies are flown once."""
        for flight, found in hashed:
            self._on_hash()
            if isinstance(found, OSError):
                problem = shown(f"{flight.path}: cannot be read ({found.strerror})")
                self._aside += [Result(task=task, problem=problem) for task in self._tasks_of(flight, "")]
            elif found in self._first:
                self._aside.append(Result(task=self._tasks_of(flight, found)[0], copy_of=self._first[found]))
            else:
                self._first[found] = flight.name
                yield self._tasks_of(flight, found)

    def set_aside(self) -> Iterator[Result]:
        """Yield what is to be said of the others, once."""
        while self._aside:
            yield self._aside.popleft()


def _again(keep: Keep | None, task: Task) -> Result:
    """Return what was kept a moment ago."""
    found = kept_result(keep, task)
    return found or Result(task=task, problem=f"{task.flight}: what was kept of it went away: start again")


def _flown(tasks: Iterable[Task], means: Means, keep: Keep | None) -> Iterator[Result]:
    """Yield what comes of tasks; one on which its process dies is a result with a problem, as this one must not."""
    waiting = iter(tasks)
    first = next(waiting, None)
    if first is None:
        return
    tasks = chain((first,), waiting)
    if means.cluster is not None:
        for result in on_cluster(fly, tasks, means.cluster, _lost):
            if keep is not None and result.outcome is not None:
                keep.write(result.task.key, result.outcome)
            yield result
        return
    work = fly if keep is None else functools.partial(fly_and_keep, str(means.keep))
    for result in in_processes(work, tasks, means.jobs, _lost):
        if keep is not None and result.outcome is None:
            keep.end(result.task.key)  # a process that was killed could not
        yield result


def _lost(task: Task) -> Result:
    problem = (
        f"{task.path}: the process that flew it was killed each time, perhaps for want of memory: fly it where there is"
        " more, or cut it with `uav-edge recording cut`"
    )
    return Result(task=task, problem=shown(problem))

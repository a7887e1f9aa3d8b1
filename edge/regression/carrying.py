"""Every flight flown with every model: one after the other, in processes, or on the machines of a cluster."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.regression.flights import Flight
from edge.regression.flying import Result, Task, fly, fly_and_keep
from edge.regression.keeping import Keep
from models.workers import in_processes, on_cluster


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """What it is done with."""

    jobs: int = 1
    """Processes of this machine."""
    cluster: str | None = None
    """Address of a Ray cluster that does it instead."""
    keep: Path | None = None
    """Folder of finished outcomes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flights:
    """What came of them."""

    results: dict[tuple[str, str], Result]
    """By flight and SHA-256 of the model."""
    kept: int
    """How many of them were finished before."""


def flight_sha256(flight: Flight) -> str:
    """Return the hash of a file; OSError where it cannot be read."""
    with flight.path.open("rb") as stream:
        digest = hashlib.sha256()
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def fly_all(tasks: Sequence[Task], means: Means, watch: Callable[[int], None]) -> Flights:
    """Fly whatever is not finished yet.

    Args:
        tasks: of flights and models.
        means: where.
        watch: told how many tasks are done, for a progress bar.
    Raises:
        BundleError: a model does not fly on this machine.
        LinkError: the cluster does not answer.
    """
    keep = Keep(means.keep) if means.keep is not None else None
    results: dict[tuple[str, str], Result] = {}
    with keep.locked() if keep is not None else nullcontext():
        same: dict[str, list[Task]] = {}
        for task in tasks:
            same.setdefault(task.key, []).append(task)
        finished = {key: keep.read(key) if keep is not None else None for key in same}
        for key, outcome in finished.items():
            if outcome is not None:
                _note(results, same[key], Result(task=same[key][0], outcome=outcome))
        kept = len(results)
        watch(kept)
        missing = [same[key][0] for key, outcome in finished.items() if outcome is None]
        for result in _flown(missing, means):
            _note(results, same[result.task.key], result)
            watch(len(results))
    return Flights(results=results, kept=kept)


def _note(results: dict[tuple[str, str], Result], tasks: Sequence[Task], result: Result) -> None:
    """Note a result for each task that it answers: flights that are copies of one another are flown once."""
    for task in tasks:
        outcome = msgspec.structs.replace(result.outcome, flight=task.flight) if result.outcome is not None else None
        results[task.flight, task.bundle_sha256] = Result(task=task, outcome=outcome, problem=result.problem)


def _flown(tasks: Sequence[Task], means: Means) -> Iterator[Result]:
    """Yield what comes of tasks; one on which its process dies is a result with a problem, as this one must not."""
    if not tasks:
        return
    keep = Keep(means.keep) if means.keep is not None else None
    if means.cluster is not None:
        for result in on_cluster(fly, tasks, means.cluster, _lost):
            if keep is not None and result.outcome is not None:
                keep.write(result.task.key, result.outcome)
            yield result
        return
    work = fly if keep is None else functools.partial(fly_and_keep, str(means.keep))
    for result in in_processes(work, tasks, min(means.jobs, len(tasks)), _lost):
        if keep is not None and result.outcome is None:
            keep.end(result.task.key)  # a process that was killed could not
        yield result


def _lost(task: Task) -> Result:
    return Result(
        task=task,
        problem=f"{task.path}: the process that flew it was killed each time, perhaps for want of memory: fly it where"
        " there is more, or cut it with `uav-edge recording cut`",
    )

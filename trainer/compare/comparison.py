"""A comparison from plan to records: pick learning rates, carry out what is missing, keep everything that is done."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from models.errors import InputError
from models.workers import in_processes, on_cluster
from trainer.compare.carrying import carry_out
from trainer.compare.plan import (
    CompareConfig,
    Run,
    Task,
    compared_runs,
    distinct,
    picked_rates,
    sensitivity_runs,
    task_of,
    tuning_runs,
)
from trainer.compare.records import Record, read_record, write_record
from trainer.config import TrainConfig

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Someone who looks on."""

    def on_plan(self, phase: str, done: int, total: int) -> None:
        """Learn that a phase begins, and how many of its runs are there already."""

    def on_record(self, record: Record) -> None:
        """Learn of a finished run."""


class Comparison:
    """A plan, and what has been found for it so far."""

    def __init__(self, config: CompareConfig, base: TrainConfig) -> None:
        self.config = config
        self.base = base

    def carry_out(self, watcher: Watcher, *, workers: int, cluster: str | None) -> None:
        """Carry out every run that has no record yet; stopped at any moment, it goes on from there when called again.

        Raises:
            InputError: a data set cannot be read, or no run of the tuning succeeded.
            DeviceError: a worker was killed.
            LinkError: the cluster does not answer, or Ray is not installed.
        """
        self._phase("tuning", tuning_runs(self.config), watcher, workers, cluster)
        rates = self.rates()
        runs = [*compared_runs(self.config, rates), *sensitivity_runs(self.config, rates)]
        self._phase("comparing", runs, watcher, workers, cluster)

    def rates(self) -> dict[str, float]:
        """Return each entry's learning rate, picked on the tuning runs that are there.

        Raises:
            InputError: tuning is unfinished, or every run of it failed.
        """
        records = self._records(tuning_runs(self.config))
        missing = sum(1 for _ in tuning_runs(self.config)) - len(records)
        if missing:
            raise InputError(f"{missing} tuning runs are missing: start without --no-runs")
        if records and all(record.problem for record in records.values()):
            raise InputError(f"every tuning run failed, the last one so: {list(records.values())[-1].problem}")
        return picked_rates(self.config, {run.name: record.accuracy for run, record in records.items()})

    def collected(self) -> dict[Run, Record]:
        """Return the records that are there, of all phases.

        Raises:
            InputError: as `rates`.
        """
        rates = self.rates()
        runs = (tuning_runs(self.config), compared_runs(self.config, rates), sensitivity_runs(self.config, rates))
        return self._records(distinct(run for part in runs for run in part))

    def _phase(self, phase: str, runs: Iterable[Run], watcher: Watcher, workers: int, cluster: str | None) -> None:
        tasks = [self._task(run) for run in distinct(runs)]
        missing = [task for task in tasks if read_record(self.config.folder, task) is None]
        watcher.on_plan(phase, len(tasks) - len(missing), len(tasks))
        for record in _carried_out(missing, workers, cluster):
            write_record(self.config.folder, record)
            watcher.on_record(record)

    def _records(self, runs: Iterable[Run]) -> dict[Run, Record]:
        found = {run: read_record(self.config.folder, self._task(run)) for run in runs}
        return {run: record for run, record in found.items() if record is not None}

    def _task(self, run: Run) -> Task:
        return task_of(self.config, self.base, run)


def _carried_out(tasks: Sequence[Task], workers: int, cluster: str | None) -> Iterator[Record]:
    if not tasks:
        return iter(())
    if cluster is not None:
        return on_cluster(carry_out, tasks, cluster)
    return in_processes(carry_out, tasks, min(workers, len(tasks)))

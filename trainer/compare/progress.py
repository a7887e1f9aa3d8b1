"""The bar of a comparison: runs done, time left, and what the last run found; on standard error."""

import logging
import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trainer.compare.records import Record

log = logging.getLogger(__name__)


class RunsBar:
    """Shows a comparison as it goes; a log line per run where there is no terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            speed_estimate_period=1800,
        )
        self._task = self._bar.add_task("reading", total=None, last="")
        self._done = self._total = 0

    def __enter__(self) -> "RunsBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is not None and self._done < self._total:
            log.warning("stopped at %d of %d runs: the same command goes on from here", self._done, self._total)

    def on_plan(self, phase: str, done: int, total: int) -> None:
        """Begin a phase."""
        self._done, self._total = done, total
        log.info("%s: %d runs, %d of them done before", phase, total, done)
        self._bar.reset(self._task, description=phase, total=total, completed=done)

    def on_record(self, record: Record) -> None:
        """Show what a run found."""
        self._done += 1
        found = record.problem or f"{100 * record.accuracy:.1f} %"
        self._bar.update(self._task, completed=self._done, last=f"{record.name}: {found}")
        if self._bar.disable:
            log.info("%d of %d, %s: %s", self._done, self._total, record.name, found)

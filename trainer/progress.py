"""Progress bars of long commands: on standard error, and only where someone is looking at a terminal."""

import logging
import sys
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.methods.method import StepReport

log = logging.getLogger(__name__)

_SMOOTH = 0.9


class ProgressBar:
    """Shows training and evaluation as they go; a log line per epoch where there is no terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[live]}"),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._training = self._bar.add_task("training", total=1.0, live="", visible=False)
        self._evaluation = self._bar.add_task("evaluating", total=None, live="", visible=False)
        self._accuracies: dict[str, float] = {}

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_step(self, stage: str, epoch: int, done: float, report: StepReport) -> None:
        """Show stage, losses and smoothed accuracies."""
        for name, value in report.accuracies.items():
            self._accuracies[name] = _SMOOTH * self._accuracies.get(name, value) + (1 - _SMOOTH) * value
        live = "  ".join(
            f"{name} {loss:.2f}/{100 * self._accuracies[name]:.0f}%" for name, loss in report.losses.items()
        )
        self._bar.update(
            self._training, completed=done, description=f"{epoch} {stage}", live=f"loss/acc {live}", visible=True
        )

    def on_epoch(self, line: dict[str, Any]) -> None:
        """Log an epoch where there is no bar to watch."""
        if self._bar.disable:
            shares = ", ".join(f"{name} {100 * value:.1f} %" for name, value in line["accuracies"].items())
            log.info("epoch %d (%s): %s", line["epoch"], line["stage"], shares)

    def on_evaluation(self, done: int) -> None:
        """Show how many examples are answered."""
        self._bar.update(self._evaluation, completed=done, live=f"{done} examples", visible=True)

"""Progress bars of long commands: on standard error, and only where someone is looking at a terminal."""

import logging
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from trainer.methods.method import StepReport

log = logging.getLogger(__name__)

_SMOOTH = 0.9


class ProgressBar:
    """Shows training and evaluation as they go; a log line per epoch where there is no terminal."""

    def __init__(self, *, is_shown: bool = True) -> None:
        """Show it where standard error is a terminal, unless another process does."""
        self._is_shown = is_shown and sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._figures = Text(no_wrap=True, overflow="ellipsis")
        self._live = Live(Group(self._bar, self._figures), console=Console(stderr=True), refresh_per_second=4)
        self._training = self._bar.add_task("training", total=1.0, done="", visible=False)
        self._evaluation = self._bar.add_task("evaluating", total=None, done="", visible=False)
        self._smooth: dict[str, float] = {}

    def __enter__(self) -> "ProgressBar":
        if self._is_shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_shown:
            self._live.stop()

    def on_step(self, stage: str, epoch: int, done: float, report: "StepReport") -> None:
        """Show stage and losses, and smoothed accuracies and cosines."""
        accuracies = {name: self._smoothed(f"accuracy {name}", value) for name, value in report.accuracies.items()}
        cosines = {name: self._smoothed(f"cosine {name}", value) for name, value in report.cosines.items()}
        parts = [f"{name} {loss:.2f} {100 * accuracies[name]:.0f}%" for name, loss in report.losses.items()]
        parts += [f"cosine {name} {value:.2f}" for name, value in cosines.items()]
        self._figures.plain = "  loss, accuracy: " + " | ".join(parts)
        percent = f"{100 * done:3.0f} %"
        self._bar.update(self._training, completed=done, description=f"{epoch} {stage}", done=percent, visible=True)

    def on_epoch(self, line: dict[str, Any]) -> None:
        """Log an epoch where there is no bar to watch."""
        if not self._is_shown:
            shares = ", ".join(f"{name} {100 * value:.1f} %" for name, value in line["accuracies"].items())
            log.info("epoch %d (%s): %s", line["epoch"], line["stage"], shares)

    def on_evaluation(self, done: int) -> None:
        """Show how many examples are answered."""
        self._bar.update(self._evaluation, completed=done, done=f"{done} examples", visible=True)

    def _smoothed(self, name: str, value: float) -> float:
        self._smooth[name] = _SMOOTH * self._smooth.get(name, value) + (1 - _SMOOTH) * value
        return self._smooth[name]

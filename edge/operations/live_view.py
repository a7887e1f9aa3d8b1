"""The terminal's view of a flight: what is seen, how sure, by which sensor, how fast."""

import collections
import time

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edge.transport.messages import Classification, PipelineStatus

REFRESH_S = 0.2
_RATE_ANSWERS = 100
_BAR_WIDTH = 24


class LiveView:
    """Redraws at most five times a second, on standard error, so that results can be piped."""

    def __init__(self) -> None:
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._answers: collections.deque[Classification] = collections.deque(maxlen=_RATE_ANSWERS)
        self._shown_s = 0.0

    def start(self) -> None:
        """Take over the terminal's last lines."""
        self._live.start()

    def stop(self) -> None:
        """Give them back."""
        self._live.stop()

    def note(self, answer: Classification) -> None:
        """Remember an answer for the next drawing."""
        self._answers.append(answer)

    def show(self, status: PipelineStatus | None, caption: str = "") -> None:
        """Redraw with a line below, if the last time was long enough ago."""
        now_s = time.monotonic()
        if now_s - self._shown_s < REFRESH_S:
            return
        self._shown_s = now_s
        lines = [*self._draw(status), *([Text(caption, style="dim")] if caption else [])]
        self._live.update(Group(*lines), refresh=True)

    def _draw(self, status: PipelineStatus | None) -> list[RenderableType]:
        if not self._answers:
            return [Text("waiting for the first answer…", style="dim")]
        answer = self._answers[-1]
        span_s = (answer.answer_ns - self._answers[0].answer_ns) / 1e9
        rate_hz = (len(self._answers) - 1) / span_s if span_s else 0.0
        title = Text.assemble(
            (f"{answer.label:<14}", "bold green" if answer.has_answer else "bold red"),
            f"{answer.confidence:6.1%}   {rate_hz:5.1f} answers/s   ",
            f"{answer.latency_ms.get('total', 0.0):6.2f} ms from sensor message to answer",
        )
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("sensor", "weight", "", "alone", "entropy", "age ms", "state"):
            table.add_column(heading, style="dim" if heading == "state" else "")
        labels = status.labels if status is not None else ()
        for modality in answer.modalities:
            alone = labels[modality.class_id] if 0 <= modality.class_id < len(labels) else "-"
            table.add_row(
                modality.name,
                f"{modality.weight:.2f}",
                Bar(1.0, 0.0, modality.weight, width=_BAR_WIDTH, color="cyan"),
                alone,
                f"{modality.entropy:.2f}",
                f"{modality.age_ms:.0f}",
                modality.reason or f"live {modality.stream}",
            )
        if status is None or not status.load.level:
            return [title, table]
        return [title, table, Text(f"shed: {status.load.name}: {status.load.why}", style="yellow")]

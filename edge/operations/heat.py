"""Whether the board slows itself down, asked once a second in flight."""

from collections.abc import Callable
from dataclasses import replace

from edge.operations.board import Board, read_board, slowed_by, throttled_between


class HeatWatch:
    """Compares each look at the board with the one before. A look reads some files, and starts no command."""

    def __init__(self, look: Callable[[], Board] = lambda: read_board(ask=lambda _: None)) -> None:
        self._look = look
        self._before = look()

    def __call__(self) -> str:
        """Return what slows the board down now, or did since the last call, in words; empty where nothing does."""
        before, self._before = self._before, self._look()
        events = throttled_between(replace(before, cooling_states=None), replace(self._before, cooling_states=None))
        return "; ".join(events + [f"{name} is on" for name in slowed_by(self._before)])

"""How far a build is, from the phases and steps that the builder tells of, and the way to end it early."""

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Progress:
    """Takes phases within phases from any thread, and shows one share of the whole that never falls."""

    def __init__(self, show: Callable[[float], None], tell: Callable[[str], None]) -> None:
        """Nothing has begun yet.

        Args:
            show: learns which share of the build is behind, 0 to 1.
            tell: learns the name of each outermost phase, and of each within it, as they begin.
        """
        self._show, self._tell = show, tell
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        """Whether the build is to end early."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Let the build end at its next step, without a plan."""
        self._cancelled.set()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Take the start of a phase of so many steps."""
        with self._lock:
            above = self._phases.get(parent) if parent is not None else None
            self._phases[name] = _Phase(parent=parent, steps=max(steps, 1))
        if above is None or above.parent is None:
            self._tell(name)

    def step(self, name: str, step: int) -> bool:
        """Take the end of a step, counted from 0; return False where the build is to end."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
            outermost = [one for one, phase in self._phases.items() if phase.parent not in self._phases]
            self._share = max([self._share, *(self._share_of(one) for one in outermost)])
            self._show(self._share)
        return not self.is_cancelled

    def finish(self, name: str) -> None:
        """Take the end of a phase."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase is not None and phase.parent is None and not self.is_cancelled:
                self._share = 1.0
                self._show(self._share)

    def _share_of(self, name: str) -> float:
        """Return which share of a phase is behind, those within it counted as parts of its step."""
        phase = self._phases[name]
        within = sum(self._share_of(one) for one, inner in self._phases.items() if inner.parent == name)
        return min((phase.done + min(within, 1.0)) / phase.steps, 1.0)

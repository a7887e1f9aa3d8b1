"""What keys do to a live replay, and the line that says so."""

import math
from collections.abc import Callable

from edge.operations.keyboard import Keyboard
from edge.operations.playback import Position
from edge.recording.controls import Command

KEYS = {
    " ": (Command.PAUSE, "space pause"),
    ".": (Command.STEP, ". step"),
    "+": (Command.FASTER, "+ faster"),
    "-": (Command.SLOWER, "- slower"),
    "q": (Command.STOP, "q quit"),
}


class ReplayKeys:
    """Passes on what keys ask for."""

    def __init__(self, keyboard: Keyboard, ask: Callable[[Command], None], *, is_timed: bool, has_rate: bool) -> None:
        """Take the keyboard.

        Args:
            keyboard: that is looked at.
            ask: told what was asked for.
            is_timed: whether something happens at given times, so that nothing may be put off.
            has_rate: whether there is a rate to change.
        """
        commands = [Command.PAUSE, Command.STEP, *([Command.FASTER, Command.SLOWER] if has_rate else []), Command.STOP]
        allowed = [Command.STOP] if is_timed else commands
        self._keys = {key: (command, text) for key, (command, text) in KEYS.items() if command in allowed}
        self._keyboard = keyboard
        self._ask = ask

    def look(self) -> None:
        """Pass on what was pressed since the last look; other keys do nothing."""
        for key in self._keyboard.pressed():
            if key in self._keys:
                self._ask(self._keys[key][0])

    def caption(self, position: Position | None, length_s: float) -> str:
        """Return the line below the live view.

        Args:
            position: how far it has come; None before it begins.
            length_s: of the flight; infinite where it has no end.
        """
        keys = "  ".join(text for _, text in self._keys.values()) if self._keyboard.is_there else ""
        if position is None:
            return keys
        rate = "as fast as it goes" if position.rate is None else f"at {position.rate:g} x"
        state = "paused" if position.is_paused else rate
        of = f" of {length_s:.1f} s" if math.isfinite(length_s) else ""
        return f"{position.recorded_ns / 1e9:.1f} s{of}, {state}   {keys}".rstrip()

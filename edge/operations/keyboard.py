"""Single keys from the terminal, without Enter; the terminal is given back as it was."""

import contextlib
import os
import select
import sys
import termios
from types import TracebackType
from typing import Any

NO_TERMINAL = -1
_LOCAL_MODES, _CONTROL_CHARACTERS = 3, 6
_MAX_KEYS = 64
_DISABLED = b"\0"


class Keyboard:
    """Reads keys from a terminal, if there is one and this process is in its foreground. Use as a context.

    Ctrl-C works as ever. Ctrl-Z and Ctrl-\\ do nothing meanwhile: they would leave the terminal as it is now.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """Take the terminal's descriptor; standard input by default."""
        self._descriptor = descriptor if descriptor is not None else _standard_input()
        self._before: list[Any] | None = None

    def __enter__(self) -> "Keyboard":
        if not self._is_ours():
            return self
        with contextlib.suppress(termios.error):  # gone in between
            before = termios.tcgetattr(self._descriptor)
            now = [*before]
            now[_CONTROL_CHARACTERS] = characters = [*before[_CONTROL_CHARACTERS]]
            now[_LOCAL_MODES] &= ~(termios.ICANON | termios.ECHO)
            characters[termios.VMIN], characters[termios.VTIME] = 1, 0
            characters[termios.VSUSP] = characters[termios.VQUIT] = _DISABLED
            termios.tcsetattr(self._descriptor, termios.TCSANOW, now)
            self._before = before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None and self._is_ours():
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)
        self._before = None

    @property
    def is_there(self) -> bool:
        """Whether keys can come."""
        return self._before is not None

    def pressed(self) -> str:
        """Return the keys that were pressed since the last call; never wait."""
        if self._before is None or not self._is_ours():
            return ""
        try:
            if not select.select([self._descriptor], [], [], 0)[0]:
                return ""
            return os.read(self._descriptor, _MAX_KEYS).decode("ascii", "replace")
        except OSError:  # the terminal is gone
            return ""

    def _is_ours(self) -> bool:
        """Say whether it is a terminal, and this process in its foreground: any other would be stopped by a look."""
        try:
            return self._descriptor >= 0 and os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return False


def _standard_input() -> int:
    """Return the descriptor of standard input, NO_TERMINAL where there is none."""
    try:
        return sys.stdin.fileno() if sys.stdin is not None else NO_TERMINAL
    except (OSError, ValueError):
        return NO_TERMINAL

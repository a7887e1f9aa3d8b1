"""A call that may wait for hardware or for the network, made aside: the loop that sends heartbeats goes on."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Aside(Generic[T]):
    """Makes one call at a time, in a thread that nobody waits for. What it raises, as OSError, `take` raises."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._result: T | None = None
        self._error: OSError | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a call was begun whose outcome was not taken yet."""
        return self._thread is not None

    def begin(self, call: Callable[[], T]) -> None:
        """Begin a call; only while none is under way."""
        self._result = self._error = None
        self._thread = threading.Thread(target=self._run, args=(call,), name=self._name, daemon=True)
        self._thread.start()

    def take(self) -> T | None:
        """Return what the call returned, once; None while it is under way, or where there is none.

        Raises:
            OSError: the call did.
        """
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        if self._error is not None:
            raise self._error
        return self._result

    def wait(self, timeout_s: float) -> None:
        """Wait for the end of the call, for so long at most."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, call: Callable[[], T]) -> None:
        try:
            self._result = call()
        except OSError as error:
            self._error = error

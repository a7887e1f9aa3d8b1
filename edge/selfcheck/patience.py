"""Work on a GPU, which may hang for ever: in a thread of its own, that is waited for as long as it shows progress."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from edge.backends.cuda import GIVING_UP
from models.errors import DeviceError, OnboardError

Result = TypeVar("Result")
PATIENCE_S = 120.0
"""Longer than any step: loading a plan of TensorRT for RTX compiles its kernels."""
THREAD = "selfcheck"
_LAST_WORDS_S = 20.0
"""For a thread that has said that it is over; one that is emulated or starved of processors took more than a second."""


class _Outcome(Generic[Result]):
    """What came out of the work."""

    def __init__(self, work: Callable[[Callable[[], None]], Result]) -> None:
        self._work = work
        self._steps: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.values: list[Result] = []
        self.failure: OnboardError | None = None

    def live(self) -> None:
        """Be the thread."""
        try:
            self.values.append(self._work(lambda: self._steps.put(False)))
        except OnboardError as error:
            self.failure = type(error)(str(error))  # anew: a traceback would keep objects of the GPU alive
        except GIVING_UP as error:
            self.failure = DeviceError(f"unforeseen on the GPU: {error!r}: report it")
        finally:
            self._steps.put(True)

    def is_over_after(self, patience_s: float) -> bool:
        """Wait for the next step, and say whether it was the last; raises `queue.Empty` where none comes."""
        return self._steps.get(timeout=patience_s)


def run_patiently(
    work: Callable[[Callable[[], None]], Result],
    watch: Callable[[], None] = lambda: None,
    patience_s: float = PATIENCE_S,
) -> Result:
    """Return what a piece of work returns.

    Args:
        work: is given a function to call after each step of it.
        watch: called here after each step.
        patience_s: longest time between two steps.
    Raises:
        DeviceError: no step came in time; the thread is left behind.
        OnboardError: the work raised it.
    """
    outcome = _Outcome(work)
    thread = threading.Thread(target=outcome.live, name=THREAD, daemon=True)
    thread.start()
    try:
        while not outcome.is_over_after(patience_s):
            watch()
    except queue.Empty:
        raise DeviceError(
            f"the GPU did not answer within {patience_s:g} s: look at dmesg, and start the machine again"
        ) from None
    thread.join(_LAST_WORDS_S)
    if outcome.failure is not None:
        raise outcome.failure
    return outcome.values[0]


def is_hanging() -> bool:
    """Say whether work was left behind, after which nothing more is to be asked of the GPU."""
    return any(thread.name == THREAD for thread in threading.enumerate())

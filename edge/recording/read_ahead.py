"""Reads events before they are wanted, so that a slow disk or a large chunk delays none of them."""

import collections
import threading
from collections.abc import Iterator
from types import TracebackType

from edge.recording.reader import Event
from models.errors import OnboardError, RecordingError

MAX_BYTES = 32 << 20
MAX_EVENTS = 512


class ReadAhead:
    """Iterates over events that a thread reads; use as a context.

    The thread goes on when half of what it may hold is gone, so that it does not run beside every single event.
    """

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._held: collections.deque[Event] = collections.deque()
        self._held_bytes = 0
        self._changed = threading.Condition()
        self._is_over = False
        self._error: OnboardError | None = None
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)

    def __enter__(self) -> "ReadAhead":
        """Begin to read, and return when there is something."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._is_over)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """Return the next event.

        Raises:
            OnboardError: what reading it raised.
            RecordingError: the file is gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._is_over)
            if not self._held:
                if self._error is not None:
                    raise self._error
                raise StopIteration
            event = self._held.popleft()
            self._held_bytes -= len(event.payload)
            if self._holds_at_most(2):
                self._changed.notify_all()
        return event

    def _read(self) -> None:
        try:
            for event in self._events:
                with self._changed:
                    self._held.append(event)
                    self._held_bytes += len(event.payload)
                    self._changed.notify_all()
                    if not self._holds_at_most(1):
                        self._changed.wait_for(lambda: self._is_over or self._holds_at_most(2))
                    if self._is_over:
                        return
        except OnboardError as error:
            self._error = error
        except (OSError, ValueError) as error:  # it is gone, or was changed since it was opened
            self._error = RecordingError(f"the recording cannot be read any more ({error}): put it back")
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _holds_at_most(self, part: int) -> bool:
        """Say whether no more is held than a part of what may be."""
        return self._held_bytes <= MAX_BYTES // part and len(self._held) <= MAX_EVENTS // part

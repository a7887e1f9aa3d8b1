"""Hashes of flights: computed a few flights ahead of their use, and remembered beside the outcomes that are kept."""

import hashlib
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from edge.regression.flights import Flight
from edge.regression.keeping import Keep

_THREADS = 2
_AHEAD = 4
"""Flights."""
_PIECE_BYTES = 1 << 20


class Hashes:
    """Hashes of files, and which of them are known from the last time."""

    def __init__(self, keep: Keep | None) -> None:
        """Read what was remembered; nothing is where nothing is kept."""
        self._keep = keep
        self._known = keep.hashes() if keep is not None else {}

    def known(self, flight: Flight) -> str | None:
        """Return a hash that was remembered, of a file that has not been touched since; None where there is none."""
        try:
            return self._known.get(_stamp(flight.path, flight.path.stat()))
        except OSError:
            return None

    def ahead(self, flights: Iterable[Flight]) -> Generator[tuple[Flight, str | OSError], None, None]:
        """Yield flights in order with their hashes, or why they cannot be read, while threads read on.

        Raises:
            RecordingError: a hash cannot be remembered.
        """
        stop = threading.Event()
        waiting: deque[tuple[Flight, Future[tuple[str, str]]]] = deque()
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for flight in flights:
                    waiting.append((flight, pool.submit(_hash, flight.path, stop)))
                    if len(waiting) > _AHEAD:
                        yield self._finished(*waiting.popleft())
                while waiting:
                    yield self._finished(*waiting.popleft())
            finally:
                stop.set()

    def _finished(self, flight: Flight, future: Future[tuple[str, str]]) -> tuple[Flight, str | OSError]:
        try:
            stamp, sha256 = future.result()
        except OSError as error:
            return flight, error
        if self._keep is not None:
            self._keep.remember(stamp, sha256)
        return flight, sha256


def _hash(path: Path, stop: threading.Event) -> tuple[str, str]:
    """Return what tells a file from all others, and its hash: of no use where it was stopped."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        stamp = _stamp(path, os.fstat(stream.fileno()))
        while not stop.is_set() and (piece := stream.read(_PIECE_BYTES)):
            digest.update(piece)
    return stamp, digest.hexdigest()


def _stamp(path: Path, stat: os.stat_result) -> str:
    """Return a name for a file as it is now: where, how long, written when."""
    words = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino} {stat.st_dev}".encode()
    return hashlib.sha256(words + b" " + os.fsencode(path.resolve())).hexdigest()[:32]

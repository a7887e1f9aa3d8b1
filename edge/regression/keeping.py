"""Outcomes on disk, a file each, whole or not there: what is finished is not flown again.

<folder>/
    <key>.json     an outcome; the key is a hash of flight, model, options and program
    <key>.begun    what is being flown, in words
    lock           held while somebody flies
"""

import contextlib
import fcntl
import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge.regression.outcome import Outcome
from models.disk import replace_file
from models.errors import ConfigError, RecordingError

log = logging.getLogger(__name__)


class Keep:
    """The folder of finished outcomes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out, and clear what a killed run left.

        Raises:
            ConfigError: another one keeps its outcomes there.
            RecordingError: the folder cannot be made.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / "lock").open("ab")
        except OSError as error:
            raise RecordingError(
                f"{self._folder}: cannot be written ({error.strerror}): name another folder"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigError(
                    f"{self._folder}: another regress keeps its outcomes there: wait for it, or name another folder"
                ) from error
            for mark in sorted(self._folder.glob("*.begun")):
                log.warning("was under way when the last run ended, and is flown again: %s", mark.read_text())
                mark.unlink()
            yield

    def read(self, key: str) -> Outcome | None:
        """Return a finished outcome; None where there is none, or none that can be read."""
        try:
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=Outcome)
        except (OSError, msgspec.MsgspecError):
            return None

    def write(self, key: str, outcome: Outcome) -> None:
        """Keep an outcome; RecordingError where the disk does not take it."""
        try:
            replace_file(self._folder / f"{key}.json", [msgspec.json.encode(outcome)])
        except OSError as error:
            raise RecordingError(f"{self._folder}: cannot be written ({error.strerror}): make room") from error

    def begin(self, key: str, what: str) -> None:
        """Note what is being flown."""
        (self._folder / f"{key}.begun").write_text(what)

    def end(self, key: str) -> None:
        """Note that it is over."""
        (self._folder / f"{key}.begun").unlink(missing_ok=True)

"""Outcomes on disk, a file each, whole or not there: what is finished is not flown again.

<folder>/
    <key>.json     an outcome; the key is a hash of flight, model, options and program
    <key>.begun    what is being flown, in words
    hashes         of flights that were hashed before: a line each, which file as it was then, and its hash
    lock           held while somebody flies
"""

import contextlib
import fcntl
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge.regression.outcome import Outcome
from models.disk import replace_file
from models.errors import ConfigError, RecordingError

log = logging.getLogger(__name__)

_HASH_LINE = re.compile("([0-9a-f]{32}) ([0-9a-f]{64})")


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
                log.warning("was under way when the last run ended, and is flown again: %s", _words(mark))
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
        (self._folder / f"{key}.begun").write_text(what, "utf-8", errors="replace")

    def end(self, key: str) -> None:
        """Note that it is over."""
        (self._folder / f"{key}.begun").unlink(missing_ok=True)

    def hashes(self) -> dict[str, str]:
        """Return the hashes that were remembered, by what tells a file from others; empty where none can be read."""
        lines = _words(self._folder / "hashes").splitlines()
        return {found[1]: found[2] for line in lines if (found := _HASH_LINE.fullmatch(line))}

    def remember(self, stamp: str, sha256: str) -> None:
        """Add a hash; RecordingError where the disk does not take it."""
        try:
            with (self._folder / "hashes").open("a") as stream:
                stream.write(f"{stamp} {sha256}\n")
        except OSError as error:
            raise RecordingError(f"{self._folder}: cannot be written ({error.strerror}): make room") from error


def _words(path: Path) -> str:
    """Return what a file says, as far as it is text; nothing where it cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""

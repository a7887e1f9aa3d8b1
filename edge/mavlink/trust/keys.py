"""Keys of signed links on disk, and beside each the newest time that was signed with it or accepted.

`FILE` holds 32 bytes that nobody but its owner can read; `FILE.time` a line of text, which may be public.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from edge.mavlink.trust.signing import KEY_BYTES, Signing
from models.disk import replace_file, sync_folder, write_file
from models.errors import ConfigError

log = logging.getLogger(__name__)

SAVE_NS = 10_000_000_000
_MAKE = "uav-edge mavlink keygen"
_TIME = re.compile(rb"mavlink-signing-time 1 (\d{1,15}) (running|ended)\n")


def make_key(path: Path, passphrase: str | None = None) -> None:
    """Write a new key: a random one, or the SHA-256 of a passphrase, as Mission Planner and MAVProxy make it.

    Raises:
        ConfigError: the file exists already: a key is never overwritten; or an empty passphrase.
    """
    if passphrase == "":
        raise ConfigError("an empty passphrase: everybody guesses it")
    secret = os.urandom(KEY_BYTES) if passphrase is None else hashlib.sha256(passphrase.encode()).digest()
    try:
        write_file(path, (secret,), 0o600)
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists, and a key is never overwritten: name another file") from error
    sync_folder(path.parent)


def read_key(path: Path) -> tuple[bytes, int]:
    """Return the 32 bytes of a key file, and the descriptor that keeps other processes from using the same one.

    Raises:
        ConfigError: absent, not a file of 32 bytes, another user's, readable by others, or in use.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): make a key with {_MAKE} {path}") from error
    try:
        return _checked(path, opened), opened
    except ConfigError:
        os.close(opened)
        raise


def _checked(path: Path, opened: int) -> bytes:
    status = os.fstat(opened)
    data = os.read(opened, KEY_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    if len(data) != KEY_BYTES:
        raise ConfigError(f"{path}: expected a key file of {KEY_BYTES} bytes: make one with {_MAKE}")
    if status.st_uid != os.geteuid():
        raise ConfigError(f"{path}: a key of another user (uid {status.st_uid}): sudo chown {os.geteuid()} {path}")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise ConfigError(f"{path}: a key that others can read (mode {mode:o}): chmod 600 {path}")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigError(
            f"{path}: another process signs with this key: stop that one, or give each its own copy of the file"
        ) from error
    return data


class OpenKey:
    """A key in use: its signing, and the time beside it, which is saved every 10 s and at the end.

    Saving in flight happens in a thread: a disk that is slow must not hold the heartbeat up.

    Args:
        path: of the key.
        utc_ns: tells Unix time.

    Raises:
        ConfigError: as `read_key`; or the time beside it is damaged, or cannot be written.
    """

    def __init__(self, path: Path, utc_ns: Callable[[], int] = time.time_ns) -> None:
        self._place = path.with_name(f"{path.name}.time")
        secret, self._lock = read_key(path)
        try:
            saved, is_clean = _read_time(self._place)
            self.signing = Signing(secret, utc_ns, saved, is_clean=is_clean)
            _write_time(self._place, self.signing.newest, is_clean=False)
        except OSError as error:
            os.close(self._lock)
            raise ConfigError(
                f"{self._place}: cannot be written ({error.strerror}): keep the key in a folder of this user"
            ) from error
        except ConfigError:
            os.close(self._lock)
            raise
        self._saver: threading.Thread | None = None
        self._being_saved = self.signing.newest
        self._save_ns: int | None = None
        self._is_failure_told = False

    def poll(self, now_ns: int) -> None:
        """Save the time where that is due; call often."""
        if self._saver is not None:
            if self._saver.is_alive():
                return
            self._saver = None
            self.signing.note_saved(self._being_saved)
        if self._save_ns is None:
            self._save_ns = now_ns + SAVE_NS
        if now_ns >= self._save_ns or self.signing.needs_saving:
            self._save_ns = now_ns + SAVE_NS
            self._being_saved = self.signing.newest
            self._saver = threading.Thread(target=self._save, args=(self._being_saved,), daemon=True)
            self._saver.start()

    def close(self) -> None:
        """Save the time for good, and let others use the key."""
        if self._saver is not None:
            self._saver.join()
        self._save(self.signing.newest, is_clean=True)
        os.close(self._lock)

    def _save(self, newest: int, *, is_clean: bool = False) -> None:
        try:
            _write_time(self._place, newest, is_clean=is_clean)
            self._is_failure_told = False
        except OSError as error:  # commands go on: a full disk must not make a vehicle deaf
            if not self._is_failure_told:
                self._is_failure_told = True
                log.warning(
                    "%s: cannot be written (%s): make room; until then a restart forgets which frames are old",
                    self._place, error.strerror,
                )  # fmt: skip


class KeyRing:
    """The keys of a deployment, each opened once."""

    def __init__(self, paths: Iterable[str | None], utc_ns: Callable[[], int] = time.time_ns) -> None:
        self._keys: dict[str, OpenKey] = {}
        with contextlib.ExitStack() as opened:
            for path in paths:
                if path is not None and path not in self._keys:
                    self._keys[path] = OpenKey(Path(path), utc_ns)
                    opened.callback(self._keys[path].close)
            opened.pop_all()

    def signing(self, path: str | None) -> Signing | None:
        """Return what signs with a key, None without one."""
        return self._keys[path].signing if path is not None else None

    def poll(self, now_ns: int) -> None:
        """Save what is due."""
        for key in self._keys.values():
            key.poll(now_ns)

    def close(self) -> None:
        """Save all."""
        for key in self._keys.values():
            key.close()


def _read_time(place: Path) -> tuple[int | None, bool]:
    """Return the time and whether the program that wrote it came to an orderly end."""
    try:
        text = place.read_bytes()
    except FileNotFoundError:
        return None, True
    found = _TIME.fullmatch(text)
    if found is None:
        raise ConfigError(f"{place}: damaged: remove it, and know that frames of the last minute can be sent again")
    return int(found[1]), found[2] == b"ended"


def _write_time(place: Path, newest: int, *, is_clean: bool) -> None:
    """Write the time, whole or not at all; on a full disk over the old one, which needs no room.

    Raises:
        OSError: it cannot be written.
    """
    line = b"mavlink-signing-time 1 %015d %b\n" % (newest, b"ended" if is_clean else b"running")
    try:
        replace_file(place, [line])
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _overwrite(place, line)


def _overwrite(place: Path, line: bytes) -> None:
    """Write less than a sector over the beginning of a file that is there."""
    opened = os.open(place, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.pwrite(opened, line, 0)
        os.ftruncate(opened, len(line))
        os.fsync(opened)
    finally:
        os.close(opened)

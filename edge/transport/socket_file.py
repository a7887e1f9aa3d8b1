"""The file of an ipc endpoint: bound by one process at a time, and never taken from another.

libzmq unlinks whatever stands at the path before it binds, be it a socket in use or somebody's file.
"""

import contextlib
import fcntl
import os
import socket
import stat
from pathlib import Path

from models.errors import LinkError

MAX_PATH_BYTES = 107
"""An address of Linux holds 108, the last of which is 0."""


class SocketFile:
    """A path that is ours to bind until `release`. A lock beside it, PATH.lock, keeps a second starter out.

    The lock file stays: removing it would let a third starter lock another file of the same name.
    """

    def __init__(self, path: Path) -> None:
        """Claim a path: make its folder, and remove a socket that its owner left behind.

        Raises:
            LinkError: too long, not to be made, in use, or something else than a socket.
        """
        size = len(os.fsencode(path))
        if size > MAX_PATH_BYTES:
            raise LinkError(f"ipc://{path}: cannot bind (a path of {size} bytes): at most {MAX_PATH_BYTES} fit")
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_dead(path)
        except LinkError:
            os.close(self._lock)
            raise
        except OSError as error:
            os.close(self._lock)
            raise (_in_use(path) if isinstance(error, BlockingIOError) else _unusable(path, error)) from error

    def release(self) -> None:
        """Remove the socket and let others have the path. Connections live on without it."""
        with contextlib.suppress(OSError):  # gone already, or its folder is
            self._path.unlink()
        os.close(self._lock)


def _remove_dead(path: Path) -> None:
    """Remove a socket that nobody listens to.

    Raises:
        LinkError: somebody listens, or this is no socket.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise LinkError(f"ipc://{path}: cannot bind (this exists and is no socket): remove it or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue must not hold us up: somebody owns it
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise _in_use(path)


def _in_use(path: Path) -> LinkError:
    return LinkError(f"ipc://{path}: cannot bind: is another process using it? Stop that one or name another path")


def _unusable(path: Path, error: OSError) -> LinkError:
    return LinkError(f"ipc://{path}: cannot bind ({error.strerror}): name a path in a folder that you may write to")

"""Files that are there as a whole or not at all, and what becomes of them when the disk is full."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from models.errors import ConfigError, RecordingError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Buffer = bytes | bytearray | memoryview


def is_full(error: BaseException) -> bool:
    """Say whether an error, or its cause, is one that ends by itself when somebody makes room."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL


def sync_folder(folder: Path) -> None:
    """Let a file that was made or renamed in a folder be there after a power cut; OSError where that fails."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to, a file's, that becomes `path` at the end; what a full disk ends stays under that name.

    Raises:
        RecordingError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.part")
    is_kept = False
    try:
        temporary.unlink(missing_ok=True)
        yield temporary
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, RecordingError) as error:
        is_kept = is_full(error) and temporary.exists()
        raise _explained(path, temporary, error, is_kept=is_kept) from error
    finally:
        if not is_kept:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `path` at the end; what a full disk ends stays under that name.

    Raises:
        ConfigError: `path` is there already, or what is left of an earlier attempt.
        RecordingError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.part")
    for taken in (path, temporary):
        if taken.exists():
            raise ConfigError(f"{taken}: is there already: remove it, or name another folder")
    is_kept = False
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(path)
        is_kept = True
    except (OSError, RecordingError) as error:
        is_kept = is_full(error) and temporary.exists()
        raise _explained(path, temporary, error, is_kept=is_kept) from error
    finally:
        if not is_kept:
            shutil.rmtree(temporary, ignore_errors=True)


def _explained(path: Path, temporary: Path, error: OSError | RecordingError, *, is_kept: bool) -> RecordingError:
    if is_kept:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return RecordingError(
            f"{path}: not complete ({reason}): what was saved is in {temporary}; make room for the rest"
        )
    if isinstance(error, RecordingError):
        return error
    return RecordingError(f"{path}: cannot be written ({error.strerror}): choose another place")


class WholePieces:
    """A file of pieces: one that does not fit on the disk is cut off again, so that the rest can be used.

    As a context, a file of which not even the first piece fits is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(self, piece: Buffer) -> None:
        """Add a piece; OSError where it cannot be written, and then nothing of it is there."""
        left = memoryview(piece).cast("B")
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self.size_bytes)
            os.lseek(self._file, self.size_bytes, os.SEEK_SET)
            raise
        self.size_bytes += len(piece)

    def close(self) -> None:
        """End the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> "WholePieces":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is not None and not self.size_bytes:
            self.path.unlink(missing_ok=True)

"""Writing so that a power cut leaves the old or the new, never half of either."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from models.errors import RecordingError


def write_file(path: Path, parts: Iterable[bytes], mode: int = 0o644) -> None:
    """Write a file that must not exist yet, and flush it to the disk; its name is not: see `sync_folder`.

    Raises:
        OSError: it exists, or cannot be written; what was written of it is left.
    """
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with open(opened, "wb") as stream:  # noqa: PTH123 - of a descriptor
        stream.writelines(parts)
        stream.flush()
        os.fsync(opened)


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file in place of one that may exist; it is there whole or not at all."""
    partial = path.parent / f".{path.name}.partial"
    partial.unlink(missing_ok=True)
    try:
        write_file(partial, parts)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_whole(path: Path, data: str | bytes) -> None:
    """Write a file in place of one that may exist, in a folder made where need be; it is there whole or not at all.

    Raises:
        RecordingError: the disk is full, or gone.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, [data.encode() if isinstance(data, str) else data])
    except OSError as error:
        raise RecordingError(
            f"{path}: cannot be written ({error.strerror}): make room, or name another folder; what was there before is"
            " whole"
        ) from error


def replace_link(path: Path, target: str) -> None:
    """Point a symbolic link elsewhere; a reader sees the old or the new one."""
    partial = path.parent / f".{path.name}.partial"
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(path)
    sync_folder(path.parent)


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a new folder, and flush them and their names; but not the folder's own name.

    Args:
        folder: must not exist.
        contents: by relative path, which the caller has found to stay within.
    """
    folder.mkdir()
    folders = {folder}
    for name, data in contents.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        folders.update(parent for parent in file.parents if parent.is_relative_to(folder))
        write_file(file, (data,))
    for one in folders:
        sync_folder(one)


def replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder in place of one that may exist; a kill at the worst moment leaves none, never a mixture."""
    partial, old = (folder.parent / f".{folder.name}.{kind}" for kind in ("partial", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        write_folder(partial, contents)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        sync_folder(folder.parent)
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)

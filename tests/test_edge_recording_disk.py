"""Outputs are there as a whole or not at all, and what a full disk leaves can be found."""

import errno
import os
from pathlib import Path

import pytest

from edge.recording.disk import WholePieces, is_full, new_folder, replacing
from models.errors import ConfigError, RecordingError


def _full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _break_off(guard, path: Path, error: BaseException) -> None:
    with guard(path) as temporary:
        (temporary / "b" if temporary.is_dir() else temporary).write_text("half")
        raise error


def test_a_file_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("after")
        assert (tmp_path / "a").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "after"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RecordingError("x"), OSError(errno.EIO, "broken")])
@pytest.mark.parametrize("guard", [replacing, new_folder])
def test_what_is_broken_off_leaves_nothing(tmp_path: Path, guard, error: BaseException) -> None:
    with pytest.raises((KeyboardInterrupt, RecordingError)):
        _break_off(guard, tmp_path / "a", error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("guard", [replacing, new_folder])
def test_what_a_full_disk_breaks_off_stays_under_another_name(tmp_path: Path, guard) -> None:
    with pytest.raises(RecordingError, match=r"what was saved is in .*a\.part"):
        _break_off(guard, tmp_path / "a", _full())
    assert [path.name for path in tmp_path.iterdir()] == ["a.part"]


def test_a_full_disk_is_known_by_its_cause_too(tmp_path: Path) -> None:
    error = RecordingError("x")
    assert not is_full(error)
    error.__cause__ = _full()
    assert is_full(error)
    assert not is_full(OSError(errno.EIO, "broken"))


@pytest.mark.parametrize("name", ["a", "a.part"])
def test_a_folder_that_is_there_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match="is there already"), new_folder(tmp_path / "a"):
        pass
    assert (tmp_path / name).exists()


def test_a_piece_that_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with WholePieces(tmp_path / "a") as file:
        file.write(b"whole")
        left = [3]

        def limited(descriptor: int, data: memoryview) -> int:
            if not left:
                raise _full()
            return write(descriptor, data[: left.pop()])

        with monkeypatch.context() as full:
            full.setattr("edge.recording.disk.os.write", limited)
            with pytest.raises(OSError, match="No space left"):
                file.write(b"piece")
        file.write(b", next")
    assert (tmp_path / "a").read_bytes() == b"whole, next"

"""What a power cut may leave: the order in which content and names reach the disk."""

import os
from pathlib import Path

import pytest

from models.disk import write_whole
from models.errors import RecordingError


@pytest.fixture
def steps(monkeypatch) -> list[str]:
    """Return what is flushed and renamed, in order, by name."""
    found: list[str] = []
    flush, rename = os.fsync, Path.replace

    def note_flush(file: int) -> None:
        found.append(f"flush {Path(f'/proc/self/fd/{file}').readlink().name}")
        flush(file)

    def note_rename(self: Path, target: Path) -> Path:
        found.append(f"rename {self.name} to {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "replace", note_rename)
    return found


@pytest.mark.parametrize("before", [None, b"old"])
def test_content_is_on_the_disk_before_it_takes_its_name_and_the_name_after(tmp_path, steps, before):
    folder = tmp_path / "plans"
    folder.mkdir()
    if before is not None:
        (folder / "a.plan").write_bytes(before)
    write_whole(folder / "a.plan", b"new")
    assert steps == ["flush .a.plan.partial", "rename .a.plan.partial to a.plan", "flush plans"]
    assert (folder / "a.plan").read_bytes() == b"new"
    assert [path.name for path in folder.iterdir()] == ["a.plan"]


def test_what_cannot_be_flushed_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.plan"
    path.write_bytes(b"old")

    def broken(file: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(RecordingError, match=r"Input/output error.*what was there before is whole"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.plan"]

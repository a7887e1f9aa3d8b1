"""`uav-edge regress` on files as they are: called otherwise than once, or by no text at all; and how many at a time."""

import os
from pathlib import Path

import pytest
from regressing import regress, write_flight

from edge.cli import main
from edge.regression import carrying
from models.bundle import shipped_bundle

SHIPPED = str(shipped_bundle())


@pytest.fixture(autouse=True)
def jobs(monkeypatch) -> list[int]:
    """Fly in this process, and note how many were to be taken."""
    asked = []

    def here(work, tasks, jobs, lost):
        asked.append(jobs)
        return map(work, tasks)

    monkeypatch.setattr(carrying, "in_processes", here)
    return asked


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flights")
    for seed in (1, 2):
        write_flight(folder / f"{seed}.mcap", seed)
    return folder


def test_a_saved_flight_is_found_by_its_file_whatever_it_is_called_now(folder, tmp_path, capsys):
    saved, other = tmp_path / "saved.json", tmp_path / "2.mcap"
    main(["regress", str(folder / "*.mcap"), "--bundle", SHIPPED, "--save", str(saved), "--jobs", "1"])
    other.write_bytes((folder / "1.mcap").read_bytes())
    code, found = regress(capsys, other, "--bundle", SHIPPED, "--against", saved)
    assert (code, found["flights"][0]["changes"]) == (0, [])
    assert found["notes"] == ["saved, but not among these flights: 2.mcap"]


def test_a_flight_that_was_not_saved_of_the_old_model_does_not_keep_the_new_one_from_being_saved(
    folder, tmp_path, capsys
):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    main(["regress", str(folder / "1.mcap"), "--bundle", SHIPPED, "--save", str(old), "--jobs", "1"])
    both = ["--bundle", SHIPPED, "--against", old, "--save", new]
    code, found = regress(capsys, folder / "*.mcap", *both)
    assert (code, list(found["problems"])) == (1, ["2.mcap"])
    code, found = regress(capsys, folder / "*.mcap", "--bundle", SHIPPED, "--against", new)
    assert (code, found["problems"]) == (0, {})


def test_another_precision_than_that_of_the_saved_answers_is_told(folder, tmp_path, capsys):
    saved = tmp_path / "saved.json"
    flight = str(folder / "1.mcap")
    main(["regress", flight, "--bundle", SHIPPED, "--precision", "fp32", "--save", str(saved), "--jobs", "1"])
    text = saved.read_text()
    assert '"precisions":{' in text
    saved.write_text(text.replace('"fp32"', '"fp16"'))
    _, found = regress(capsys, flight, "--bundle", SHIPPED, "--precision", "fp32", "--against", saved)
    assert found["notes"][0].startswith("flown in another precision: the old model in ")


def test_names_that_are_no_text_stop_nothing_and_are_told_apart(folder, tmp_path, capsys):
    flight = (folder / "1.mcap").read_bytes()
    for name in (b"\xff.mcap", b"\xfe.mcap"):
        (tmp_path / os.fsdecode(name)).write_bytes(flight)
    (tmp_path / os.fsdecode(b"bad-\xff.mcap")).write_bytes(b"no recording")
    outputs = ["--html", tmp_path / "a.html", "--junit", tmp_path / "a.xml", "--keep", tmp_path / "kept"]
    code, found = regress(capsys, tmp_path / "*.mcap", "--bundle", SHIPPED, "--against", SHIPPED, *outputs)
    names = [flight["flight"] for flight in found["flights"]]
    assert code == 1
    assert len(set(names)) == 3
    assert all("\ufffd" in name for name in names)
    assert list(found["problems"]) == ["bad-\ufffd.mcap"]
    saved = tmp_path / "a.json"
    code, _ = regress(capsys, tmp_path / os.fsdecode(b"\xff.mcap"), "--bundle", SHIPPED, "--save", saved)
    assert (code, "\ufffd.mcap" in saved.read_text()) == (0, True)


def test_as_many_processes_are_taken_as_this_one_may_use_cores(folder, jobs, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7})
    main(["regress", str(folder / "1.mcap"), "--bundle", SHIPPED, "--against", SHIPPED])
    assert jobs == [3]

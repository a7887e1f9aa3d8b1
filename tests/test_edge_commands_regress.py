"""`uav-edge regress` as it is typed: golden flights, exit codes, what is kept, what a kill costs, bad input."""

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from golden_flight import write_golden_flight
from house import ROOT
from regressing import await_that, children, fly_or_die, is_running, regress, relabelled_bundle, write_flight

from edge.cli import main
from edge.commands.regress import REGRESSION
from edge.recording.writer import RecordingWriter
from edge.regression import carrying, flying
from edge.regression.keeping import Keep
from models.bundle import shipped_bundle
from models.errors import BundleError, ConfigError, InputError, LinkError

GOLDEN = ROOT / "tests" / "golden" / "demo-1.json"
GOLDEN_TOLERANCES = """
accuracy_drop: 0
changed_share: 0
missing_share: 0
confidence_change: 0.05  # the flight is drawn anew, and image libraries round a byte otherwise: 0.024 seen with NumPy 1
"""
SHIPPED = str(shipped_bundle())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two flights, and a model that calls two classes by each other's name."""
    folder = tmp_path_factory.mktemp("flights")
    for seed in (1, 2):
        write_flight(folder / f"{seed}.mcap", seed)
    relabelled_bundle(folder, 2, farmland="orchard", orchard="farmland")
    return folder


@pytest.fixture(scope="module")
def golden(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    write_golden_flight(folder / "golden.mcap")
    (folder / "tolerances.yaml").write_text(GOLDEN_TOLERANCES)
    return folder


@pytest.fixture(autouse=True)
def quick(request, monkeypatch) -> None:
    """Fly in this process, except where a test is about the others: each takes a second to start."""
    if "processes" not in request.fixturenames:
        monkeypatch.setattr(carrying, "in_processes", lambda work, tasks, jobs, lost: map(work, tasks))


@pytest.fixture
def processes() -> None:
    """Say that a test is about processes."""


def refused(capsys, *arguments: object) -> tuple[int, str]:
    """Return the exit code and what is said of it."""
    code = main(["regress", *map(str, arguments)])
    return code, capsys.readouterr().err


def test_the_golden_flight_is_answered_as_it_was(golden, capsys):
    code, found = regress(
        capsys, golden / "golden.mcap", "--bundle", SHIPPED, "--against", GOLDEN, "--precision", "fp32",
        "--tolerances", golden / "tolerances.yaml",
    )  # fmt: skip
    assert (code, found["errors"], found["regression"]) == (0, 0, False)
    assert found["flights"][0]["answers"]["compared"] == 90
    assert found["flights"][0]["changes"] == []


def test_the_golden_flight_finds_a_model_that_answers_otherwise(golden, folder, capsys):
    model = folder / "demo-2.uavb"
    code, found = regress(capsys, golden / "golden.mcap", "--bundle", model, "--against", GOLDEN)
    assert code == REGRESSION
    assert {(change["old"], change["new"]) for change in found["flights"][0]["changes"]} <= {
        ("farmland", "orchard"),
        ("orchard", "farmland"),
    }


def test_what_is_saved_stands_for_the_model_and_is_the_same_every_time(folder, tmp_path, capsys):
    flights = folder / "*.mcap"
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file in files:
        assert main(["regress", str(flights), "--bundle", SHIPPED, "--save", str(file), "--jobs", "1"]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    code, found = regress(capsys, flights, "--bundle", SHIPPED, "--against", files[0])
    assert (code, [flight["state"] for flight in found["flights"]]) == (0, ["ok", "ok"])


def test_a_flight_that_was_not_saved_is_an_error_and_one_that_is_not_flown_a_note(folder, tmp_path, capsys):
    saved = tmp_path / "saved.json"
    main(["regress", str(folder / "1.mcap"), "--bundle", SHIPPED, "--save", str(saved), "--jobs", "1"])
    code, found = regress(capsys, folder / "2.mcap", "--bundle", SHIPPED, "--against", saved)
    assert code == 1
    assert "2.mcap: was not saved of demo-1" in found["problems"]["2.mcap"]
    assert "saved, but not among these flights: 1.mcap" in found["notes"]


def test_two_models_are_compared_and_everything_is_written(folder, tmp_path, capsys):
    outputs = ["--html", tmp_path / "page.html", "--junit", tmp_path / "junit.xml"]
    code, found = regress(capsys, folder / "*.mcap", "--bundle", folder / "demo-2.uavb", "--against", SHIPPED, *outputs)
    assert code == REGRESSION
    assert (found["old"], found["new"], found["flown"], found["kept"]) == ("demo-1", "demo-2", 4, 0)
    assert any(flight["broken"] for flight in found["flights"])
    assert "class lists differ" in found["notes"][0]
    assert "<testsuites" in (tmp_path / "junit.xml").read_text()
    assert "demo-2 against demo-1" in (tmp_path / "page.html").read_text()


def test_what_is_ignored_or_let_go_is_no_regression(folder, tmp_path, capsys):
    (tmp_path / "t.yaml").write_text(
        "{changed_share: 1.0, changed_share_in_sum: 1.0, ignore: [{field: 'accuracy', reason: renamed},"
        " {field: accuracy.iq, reason: renamed}, {field: accuracy.image, reason: renamed}]}"
    )
    code, found = regress(
        capsys, folder / "*.mcap", "--bundle", folder / "demo-2.uavb", "--against", SHIPPED,
        "--tolerances", tmp_path / "t.yaml",
    )  # fmt: skip
    assert (code, found["regression"]) == (0, False)
    assert [one["reason"] for one in found["in_sum"] if one["verdict"] == "ignored"] == ["renamed"] * 3


def test_one_flight_that_cannot_be_flown_does_not_stop_the_others(folder, tmp_path, capsys):
    (tmp_path / "damaged.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(1000))
    with RecordingWriter(tmp_path / "empty.mcap", utc_offset_ns=0):
        pass
    junit = tmp_path / "junit.xml"
    code, found = regress(
        capsys, tmp_path / "*.mcap", folder / "1.mcap", "--bundle", SHIPPED, "--against", SHIPPED, "--junit", junit
    )
    assert code == 1
    assert {flight["flight"]: flight["state"] for flight in found["flights"]} == {
        "damaged.mcap": "error",
        "empty.mcap": "error",
        "1.mcap": "ok",
    }
    assert "empty.mcap" in found["problems"]["empty.mcap"]
    assert junit.read_text().count("<error ") == 2


def test_a_flight_on_which_this_program_fails_is_a_problem_and_the_others_are_flown(
    folder, capsys, caplog, monkeypatch
):
    open_recording = flying.open_recording

    def open_or_fail(path: Path):
        return open_recording(path) if path.name == "1.mcap" else {}["camera"]

    monkeypatch.setattr(flying, "open_recording", open_or_fail)
    code, found = regress(capsys, folder / "*.mcap", "--bundle", SHIPPED, "--against", SHIPPED)
    assert (code, [flight["state"] for flight in found["flights"]]) == (1, ["ok", "error"])
    assert "this program failed on it (KeyError: 'camera')" in found["problems"]["2.mcap"]
    assert "Traceback" in caplog.text


def test_a_flight_whose_process_is_killed_is_a_problem_and_the_run_goes_on(
    folder, tmp_path, capsys, processes, monkeypatch
):
    monkeypatch.setattr(carrying, "fly_and_keep", fly_or_die)
    (tmp_path / "deadly.mcap").write_bytes(b"takes all memory")
    flights = [tmp_path / "deadly.mcap", folder / "1.mcap", folder / "2.mcap"]
    code, found = regress(capsys, *flights, "--bundle", SHIPPED, "--against", SHIPPED, "--keep", tmp_path)
    assert code == 1
    assert [flight["state"] for flight in found["flights"]] == ["error", "ok", "ok"]
    assert "the process that flew it was killed" in found["problems"]["deadly.mcap"]
    assert not list(tmp_path.glob("*.begun"))


def test_nothing_is_saved_where_a_flight_could_not_be_flown(folder, tmp_path, capsys):
    (tmp_path / "damaged.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(1000))
    saved = tmp_path / "saved.json"
    code, found = regress(capsys, tmp_path / "damaged.mcap", folder / "1.mcap", "--bundle", SHIPPED, "--save", saved)
    assert (code, list(found["problems"]), saved.exists()) == (1, ["damaged.mcap"], False)


def test_flights_of_the_same_name_are_told_apart_and_copies_are_flown_once(folder, tmp_path, capsys):
    copy = tmp_path / "1.mcap"
    copy.write_bytes((folder / "1.mcap").read_bytes())
    code, found = regress(capsys, folder / "1.mcap", copy, copy, "--bundle", SHIPPED, "--against", SHIPPED)
    assert code == 0
    assert [flight["flight"] for flight in found["flights"]] == [str(folder / "1.mcap"), str(copy)]
    assert (found["flown"], found["kept"]) == (1, 0)


def test_what_is_kept_is_not_flown_again_unless_model_options_or_program_change(folder, tmp_path, capsys, monkeypatch):
    flights, keep = folder / "*.mcap", ("--keep", tmp_path / "kept")

    def flown(model: object, *options: object) -> int:
        return regress(capsys, flights, "--bundle", model, "--against", SHIPPED, *keep, *options)[1]["flown"]

    assert [flown(SHIPPED), flown(SHIPPED)] == [2, 0]
    assert flown(folder / "demo-2.uavb") == 2  # the old one's are there
    assert flown(SHIPPED, "--precision", "fp32") == 2
    monkeypatch.setattr(flying, "program_hash", lambda: "another")
    assert flown(SHIPPED) == 2
    monkeypatch.setattr(flying, "surroundings", lambda: ("onnxruntime 9.9",))
    assert flown(SHIPPED) == 2


def test_what_an_outcome_depends_on_has_libraries_and_machine():
    assert {f"numpy {np.__version__}", f"onnxruntime {onnxruntime.__version__}", platform.machine()} <= set(
        flying.surroundings()
    )


def test_an_outcome_that_was_damaged_on_disk_is_flown_again(folder, tmp_path, capsys):
    arguments = [folder / "*.mcap", "--bundle", SHIPPED, "--against", SHIPPED, "--keep", tmp_path]
    regress(capsys, *arguments)
    broken = next(tmp_path.glob("*.json"))
    broken.write_bytes(broken.read_bytes()[:100])
    code, found = regress(capsys, *arguments)
    assert (code, found["flown"], found["kept"]) == (0, 1, 1)


def test_processes_find_the_same_as_one(folder, capsys, processes):
    found = []
    for jobs in ("1", "2"):
        main(["regress", str(folder / "*.mcap"), "--bundle", SHIPPED, "--against", SHIPPED, "--jobs", jobs, "--json"])
        found.append(json.loads(capsys.readouterr().out.splitlines()[-1])["flights"])
    assert without_wall(found[0]) == without_wall(found[1])


def without_wall(flights: list[dict]) -> list[dict]:
    return [
        flight | {"figures": [figure for figure in flight["figures"] if figure["name"] != "wall_s"]}
        for flight in flights
    ]


def test_a_cluster_finds_the_same(folder, tmp_path, capsys):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'uav-fusion-edge[cluster]'")
    arguments = ["regress", str(folder / "*.mcap"), "--bundle", SHIPPED, "--against", SHIPPED, "--json"]
    assert main([*arguments, "--cluster", "local", "--keep", str(tmp_path)]) == 0
    there = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert there["flown"] == 2
    code, again = regress(capsys, *arguments[1:-1], "--keep", tmp_path)
    assert (code, again["flown"], again["kept"]) == (0, 0, 2)
    assert without_wall(again["flights"]) == without_wall(there["flights"])


def test_a_cluster_without_ray_is_refused_with_another_code_than_a_regression(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = [folder / "1.mcap", "--bundle", SHIPPED, "--against", SHIPPED, "--cluster", "auto"]
    code, said = refused(capsys, *arguments)
    assert code == LinkError.exit_code != REGRESSION
    assert "uav-fusion-edge[cluster]" in said


@pytest.mark.slow
def test_a_kill_costs_at_most_the_flights_in_progress(tmp_path, capsys, processes):
    for seed in range(6):
        write_flight(tmp_path / f"{seed}.mcap", seed)
    model, keep = relabelled_bundle(tmp_path, 2, lake="sea"), tmp_path / "kept"
    arguments = [str(tmp_path / "*.mcap"), "--bundle", str(model), "--against", SHIPPED, "--keep", str(keep)]
    command = [sys.executable, "-m", "edge.cli", "regress", *arguments, "--jobs", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        await_that(lambda: any(keep.glob("*.json")))
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    await_that(lambda: not any(map(is_running, workers)))
    finished, begun = list(keep.glob("*.json")), list(keep.glob("*.begun"))
    assert 1 <= len(finished) < 12
    assert len(begun) <= 2
    _, found = regress(capsys, *arguments)
    assert (found["kept"], found["flown"]) == (len(finished), 12 - len(finished))
    assert not list(keep.glob("*.begun"))


def test_what_was_under_way_at_a_kill_is_named_at_the_next_start(tmp_path, caplog):
    Keep(tmp_path).begin("key", "storm.mcap with demo-2.uavb")
    with Keep(tmp_path).locked():
        assert "is flown again: storm.mcap with demo-2.uavb" in caplog.text
    assert not list(tmp_path.glob("*.begun"))


def test_a_bundle_that_was_replaced_meanwhile_is_not_flown(folder):
    task = flying.Task(
        flight="1",
        path=str(folder / "1.mcap"),
        flight_sha256="",
        bundle=SHIPPED,
        bundle_sha256="0" * 64,
        precision="auto",
    )
    with pytest.raises(BundleError, match="it was replaced"):
        flying.fly(task)


def test_two_runs_do_not_keep_in_one_folder(folder, tmp_path, capsys):
    with Keep(tmp_path).locked():
        code, said = refused(capsys, folder / "1.mcap", "--bundle", SHIPPED, "--against", SHIPPED, "--keep", tmp_path)
    assert code == ConfigError.exit_code
    assert "another regress keeps its outcomes there" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{flights}/*.bag", "--against", SHIPPED], ConfigError.exit_code, "this pattern matches no file"),
        (["{flights}/3.mcap", "--against", SHIPPED], ConfigError.exit_code, "3.mcap: no such file"),
        (["{flights}/1.mcap"], ConfigError.exit_code, "name a bundle or saved answers with --against"),
        (["{flights}/1.mcap", "--save", "{here}/a.json", "--html", "{here}/a.html"], 2, "go with --against"),
        (["{flights}/1.mcap", "--against", SHIPPED, "--jobs", "0"], ConfigError.exit_code, "--jobs 0: expected 1"),
        (["{flights}/1.mcap", "--against", SHIPPED, "--jobs", "2", "--cluster", "auto"], 2, "leave out one"),
        (["{flights}/1.mcap", "--against", "{here}/a.json"], InputError.exit_code, "name what --save wrote"),
        (["{flights}/1.mcap", "--against", "{here}/no.json"], InputError.exit_code, "save it anew"),
        (["{flights}/1.mcap", "--against", "{here}/no.uavb"], BundleError.exit_code, "no such bundle"),
        (["{flights}/1.mcap", "--against", SHIPPED, "--junit", "{here}/no/j.xml"], 6, "no/j.xml"),
        (["{flights}/1.mcap", "--against", SHIPPED, "--keep", "{here}/no.json"], 6, "name another folder"),
        (["{flights}/1.mcap", "--against", SHIPPED, "--precision", "int8"], BundleError.exit_code, "int8"),
    ],
)
def test_bad_input_is_said_in_a_line_with_its_exit_code(folder, tmp_path, capsys, arguments, code, said):
    (tmp_path / "no.json").write_text('{"schema": "uav-edge-bench-1"}')
    arguments = [one.format(flights=folder, here=tmp_path) for one in arguments]
    found, text = refused(capsys, *arguments, "--bundle", SHIPPED)
    assert (found, len(text.splitlines())) == (code, 1)
    assert said in text


def test_no_flight_at_all_is_refused_by_the_command_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["regress", "--bundle", SHIPPED, "--against", SHIPPED])
    assert caught.value.code == ConfigError.exit_code
    assert "FLIGHT" in capsys.readouterr().err

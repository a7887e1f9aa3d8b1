"""Comparisons: plan, resumption, tables. Runs are real trainings of tiny networks on a tiny data root."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from training import write_tiny_root

from models.errors import ConfigError, InputError
from trainer.cli import main
from trainer.compare.carrying import carry_out
from trainer.compare.comparison import Comparison
from trainer.compare.plan import (
    compared_runs,
    picked_rates,
    read_plan,
    sensitivity_runs,
    task_of,
    tuning_runs,
)
from trainer.compare.records import Record, read_record, write_record
from trainer.compare.tables import Cell, pair, summarise
from trainer.compare.text import about, markdown
from trainer.training.loop import Trainer
from trainer.training.resume import RESUME

BASE = """
description: base
out: {folder}/base
data: {{kind: uavpair7, root: {folder}/data}}
modalities:
  - {{name: iq, recipe: {{kind: iq, window_samples: 8192, sample_rate_hz: 250_000}}, feature_size: 4}}
  - {{name: image, recipe: {{kind: image, height_px: 16, width_px: 16}}, feature_size: 4}}
fusion: {{method: concat}}
sizes:
  iq: {{widths: [4, 4], strides: [32, 8]}}
  image: {{widths: [4, 4], strides: [4, 2]}}
method: {{kind: joint}}
epochs: 1
examples_per_epoch: 8
batch: 4
learning_rate: 0.01
seed: 1
"""
PLAN = """
description: two methods
out: {folder}/compared
base: {folder}/base.yaml
data:
  mid: {{kind: uavpair7, root: {folder}/data}}
  hard: {{kind: uavpair7, root: {folder}/data, preset: hard}}
entries:
  joint: {{method: {{kind: joint}}, fusion: {{method: concat}}, modality_dropout: 0.0}}
  apart: {{method: {{kind: independent}}, fusion: {{method: poe}}, also_fused_by: [mean]}}
learning_rates: [0.01, 0.02]
tuning: {{data: [mid], seeds: [7]}}
seeds: [1, 2]
sensitivity: {{fractions: [0.5], data: [mid]}}
ours: joint
alone: apart
"""
PATIENCE_S = 240.0
RUNS = 4 + 8 + 4  # tuning, compared, sensitivity


class Counter:
    """Remembers what a comparison said."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int, int]] = []
        self.names: list[str] = []

    def on_plan(self, phase: str, done: int, total: int) -> None:
        self.phases.append((phase, done, total))

    def on_record(self, record: Record) -> None:
        self.names.append(record.name)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    write_tiny_root(tmp_path / "data")
    (tmp_path / "base.yaml").write_text(BASE.format(folder=tmp_path))
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(folder=tmp_path))
    return path


def changed(plan: Path, old: str, new: str) -> Path:
    text = plan.read_text()
    assert old in text
    plan.write_text(text.replace(old, new))
    return plan


def test_command_runs_everything_once_and_tells_it_in_all_forms(plan, tmp_path, capsys):
    options = ["compare", "--config", str(plan), "--workers", "2"]
    assert main([*options, "--markdown", str(tmp_path / "results.md"), "--json"]) == 0
    out = capsys.readouterr().out
    told = json.loads(out.splitlines()[-1])
    assert told["runs"] == {"planned": RUNS, "done": RUNS}
    assert set(told["data"]["hard"]) == {"joint", "apart", "apart/mean", "iq alone", "image alone"}
    assert told["data"]["mid"]["joint"]["seeds"] == 2
    assert set(told["against_ours"]["mid"]) == {"apart", "apart/mean", "iq alone", "image alone"}
    assert sum(told["mean_rank"].values()) == pytest.approx(1 + 2 + 3)
    page = (tmp_path / "results.md").read_text()
    assert page in out
    assert "| apart/mean |" in page
    html = (tmp_path / "compared" / "report.html").read_text()
    HTMLParser().feed(html)
    assert html.count("<svg") == 4
    assert not re.search(r"(src|href)=.(?!#)|@import|url\((?!#)", html), "loads something from elsewhere"
    again = Counter()
    Comparison(*read_plan(plan)).carry_out(again, workers=2, cluster=None)
    assert again.names == []
    assert again.phases == [("tuning", 4, 4), ("comparing", 12, 12)]


def test_kill_9_repeats_no_finished_run_and_leaves_no_process(plan, tmp_path, root):
    command = [sys.executable, "-m", "trainer.cli", "compare", "--config", str(plan), "--workers", "1"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        await_that(lambda: len(results(tmp_path)) >= 2)
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    finished = results(tmp_path)
    assert 2 <= len(finished) < RUNS
    await_that(lambda: not any(map(is_running, workers)))
    again = Counter()
    Comparison(*read_plan(plan)).carry_out(again, workers=2, cluster=None)
    assert len(again.names) == RUNS - len(finished)
    assert {path: path.read_bytes() for path in finished} == finished


def await_that(claim) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.02)  # between two looks


def is_running(pid: int) -> bool:
    """Return whether a process is there and not merely waiting for someone to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_cluster_finds_the_same_as_processes(plan, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'uav-fusion-edge[cluster]'")
    config, base = read_plan(changed(plan, "[0.01, 0.02]", "[0.01]"))
    config = msgspec.structs.replace(config, data={"mid": config.data["mid"]}, sensitivity=None, seeds=(1,))
    here = msgspec.structs.replace(config, out=str(tmp_path / "here"))
    Comparison(config, base).carry_out(Counter(), workers=1, cluster="local")
    Comparison(here, base).carry_out(Counter(), workers=1, cluster=None)
    found, expected = Comparison(config, base).collected(), Comparison(here, base).collected()
    assert len(found) == 2
    assert {run: record.evaluation for run, record in found.items()} == {
        run: record.evaluation for run, record in expected.items()
    }


def results(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "compared").glob("**/result.json")}


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def test_result_of_another_configuration_is_run_again(plan, tmp_path):
    config, base = read_plan(plan)
    run = next(tuning_runs(config))
    task = task_of(config, base, run)
    write_record(config.folder, Record(name=task.name, fingerprint=task.fingerprint))
    assert read_record(config.folder, task) is not None
    other = task_of(config, msgspec.structs.replace(base, epochs=2), run)
    assert read_record(config.folder, other) is None
    moved = task_of(msgspec.structs.replace(config, out="elsewhere", description="renamed"), base, run)
    assert read_record(config.folder, moved) is not None


def test_runs_that_failed_are_counted_and_never_picked(plan):
    config, _ = read_plan(plan)
    failed = "training diverged"
    tuned = {run: Record(name=run.name, fingerprint="", problem=failed) for run in tuning_runs(config)}
    rates = picked_rates(config, {run.name: record.accuracy for run, record in tuned.items()})
    assert rates == {"joint": 0.01, "apart": 0.01}
    runs = compared_runs(config, rates)
    summary = summarise(config, rates, {run: Record(name=run.name, fingerprint="", problem=failed) for run in runs})
    assert summary.cells["mid", "joint"].failed == 2
    assert np.isnan(summary.cells["mid", "joint"].mean())
    assert "| joint | failed | failed |" in markdown(summary, "x")


def begun(config, base, run, monkeypatch):
    """Leave a run in its second epoch, and return its task."""
    task = task_of(config, base, run)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", stop_in_epoch(1))
        with pytest.raises(KeyboardInterrupt):
            carry_out(task)
    assert (task.config.folder / RESUME).is_file()
    return task


def stop_in_epoch(epoch):
    run_epoch = Trainer.run_epoch

    def stopping(trainer, watcher):
        if trainer.epoch == epoch:
            raise KeyboardInterrupt
        return run_epoch(trainer, watcher)

    return stopping


@pytest.fixture
def two_epochs(plan):
    config, base = read_plan(plan)
    return config, msgspec.structs.replace(base, epochs=2)


def test_begun_run_goes_on_although_the_comparison_was_described_anew(two_epochs, monkeypatch):
    config, base = two_epochs
    run = next(tuning_runs(config))
    expected = carry_out(task_of(msgspec.structs.replace(config, out=config.out + "-whole"), base, run))
    begun(config, base, run, monkeypatch)
    record = carry_out(task_of(msgspec.structs.replace(config, description="renamed"), base, run))
    assert record.problem is None
    assert record.cpu_seconds is None
    assert record.evaluation == expected.evaluation


def test_begun_run_with_a_damaged_state_begins_anew(two_epochs, monkeypatch, caplog):
    config, base = two_epochs
    task = begun(config, base, next(tuning_runs(config)), monkeypatch)
    state = task.config.folder / RESUME
    state.write_bytes(state.read_bytes()[:100])
    record = carry_out(task)
    assert record.problem is None
    assert "begins anew" in caplog.text


def test_run_that_fails_by_itself_becomes_a_record(plan, tmp_path):
    (scenes,) = (tmp_path / "data").glob("*/*.zip")
    with zipfile.ZipFile(scenes) as stored:
        kept = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(scenes, "w") as stored:
        for name, data in kept.items():
            stored.writestr(name, b"no picture" if name.endswith(("/0.jpg", "/1.jpg")) else data)
    config, base = read_plan(plan)
    record = carry_out(task_of(config, base, next(tuning_runs(config))))
    assert "no image" in record.problem
    assert record.accuracy == 0.0


def test_modality_that_validation_never_has_is_left_out(plan):
    config, _ = read_plan(plan)
    rates = {"joint": 0.01, "apart": 0.01}
    rows = {"labels": [0, 1], "answers": {"fused": [0, 0], "alone_image": [0, 0]}}
    told = {"accuracy": 0.5, "accuracy_image": 0.5, "calibration": {"ece_after": 0.1}, "rows": rows}
    records = {
        run: Record(name=run.name, fingerprint="", evaluation=told, also={"mean": told})
        for run in compared_runs(config, rates)
    }
    summary = summarise(config, rates, records)
    assert summary.rows == ("joint", "apart", "apart/mean", "image alone")
    assert "| image alone | 50.0 ± 0.0 |" in markdown(summary, "x")


def test_table_says_when_two_versions_of_the_program_are_mixed(plan):
    config, _ = read_plan(plan)
    rates = {"joint": 0.01, "apart": 0.01}
    runs = list(compared_runs(config, rates))[:2]
    one = {run: Record(name=run.name, fingerprint="", code="a", problem="x") for run in runs}
    assert "are mixed" not in about(summarise(config, rates, one))
    two = {**one, runs[1]: Record(name=runs[1].name, fingerprint="", code="b", problem="x")}
    assert "2 versions of this program are mixed" in about(summarise(config, rates, two))


def test_unfinished_table_says_how_many_seeds_stand_behind_each_data_set(plan):
    config, _ = read_plan(plan)
    rates = {"joint": 0.01, "apart": 0.01}
    rows = {"labels": [0, 1], "answers": {"fused": [0, 0], "alone_image": [0, 0]}}
    told = {"accuracy": 0.5, "accuracy_image": 0.5, "calibration": {"ece_after": 0.1}, "rows": rows}
    runs = list(compared_runs(config, rates))
    done = [run for run in runs if run.seed == 1 or run.data == runs[0].data]
    records = {run: Record(name=run.name, fingerprint="", evaluation=told, also={"mean": told}) for run in done}
    text = markdown(summarise(config, rates, records), "x")
    assert "| seeds | 2 | 1 |  |" in text
    assert "Seeds 1, 2 planned" in text


def test_best_mean_wins_the_tuning_and_the_lower_rate_a_tie(plan):
    config, _ = read_plan(plan)
    names = {(run.entry, run.learning_rate): run.name for run in tuning_runs(config)}
    accuracies = {names["joint", 0.01]: 0.5, names["joint", 0.02]: 0.6}
    accuracies |= {names["apart", 0.01]: 0.7, names["apart", 0.02]: 0.7}
    assert picked_rates(config, accuracies) == {"joint": 0.02, "apart": 0.01}


def test_all_entries_of_a_seed_come_before_the_next_seed(plan):
    config, _ = read_plan(plan)
    seeds = [run.seed for run in compared_runs(config, {"joint": 0.01, "apart": 0.02})]
    assert seeds == [1] * 4 + [2] * 4
    rates = {run.entry: run.learning_rate for run in sensitivity_runs(config, {"joint": 0.01, "apart": 0.02})}
    assert rates == {"joint": 0.005, "apart": 0.01}


def test_pairing_is_seed_by_seed_and_its_interval_over_examples():
    rng = np.random.default_rng(1)
    right = rng.random((3, 400)) < 0.8
    worse = right & (rng.random((3, 400)) > 0.05)
    ours, other = cell(right, (1, 2, 3)), cell(worse, (1, 2, 3))
    found = pair(ours, other, rng)
    assert found.difference == pytest.approx(right.mean() - worse.mean())
    assert 0 < found.low < found.difference < found.high
    assert found.p_value < 0.05
    reordered = cell(worse[::-1], (3, 2, 1))
    assert pair(ours, reordered, rng).p_value == pytest.approx(found.p_value)
    assert np.isnan(pair(ours, ours, rng).p_value)


def cell(is_right: np.ndarray, seeds: tuple[int, ...]) -> Cell:
    return Cell(seeds=seeds, measures={"accuracy": is_right.mean(axis=1)}, is_right=is_right, failed=0)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("ours: joint", "ours: jiont", "expected one of joint, apart"),
        ("seeds: [7]", "seeds: [2]", "would flatter"),
        ("seeds: [1, 2]", "seeds: [1, 1]", "there twice"),
        ("data: [mid], seeds: [7]", "data: [mad], seeds: [7]", "not among data"),
        ("  joint: {method", "  a/b: {method", "becomes a folder"),
        ("[0.01, 0.02]", "[0.01, 2.0]", "learning_rate"),
        ("also_fused_by: [mean]", "also_fused_by: [concat]", "concat"),
        ("base.yaml", "absent.yaml", "absent.yaml"),
        ("fractions: [0.5]", "fractions: [0.0]", "learning_rate"),
    ],
)
def test_plan_that_cannot_be_is_refused_with_the_reason(plan, old, new, complaint):
    with pytest.raises(ConfigError, match=complaint):
        read_plan(changed(plan, old, new))


def test_base_that_chooses_among_epochs_is_refused(plan, tmp_path):
    changed(tmp_path / "base.yaml", "seed: 1", "seed: 1\nearly_stop: {patience_epochs: 1}")
    with pytest.raises(ConfigError, match="early_stop"):
        read_plan(plan)


@pytest.mark.parametrize("name", ["compare-quick", "compare-uavpair7"])
def test_shipped_comparisons_are_valid(name, root, monkeypatch):
    monkeypatch.chdir(root)
    config, _ = read_plan(Path("launch") / f"{name}.yaml")
    assert config.ours.startswith("gcmt")


def test_table_before_tuning_is_done_names_what_is_missing(plan, capsys):
    assert main(["compare", "--config", str(plan), "--no-runs"]) == InputError.exit_code
    assert "4 tuning runs are missing" in capsys.readouterr().err


def test_missing_data_stop_the_comparison_with_their_path(plan, tmp_path, capsys):
    (tmp_path / "data" / "rf_ism433" / "rf_windows_dev.npz").unlink()
    assert main(["compare", "--config", str(plan), "--workers", "1"]) == InputError.exit_code
    assert "rf_ism433" in capsys.readouterr().err

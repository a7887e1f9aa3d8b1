"""A run that ends early goes on to the same bits, however it ended, and nothing that was saved is lost."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import typing
from pathlib import Path

import msgspec
import pytest
import torch
from training import IMAGE, IQ, Silent, Tones, run_config

from models import disk
from models.disk import write_whole
from models.errors import InputError, RecordingError
from models.nets.checkpoint import read_checkpoint, write_tensors
from models.spec import FusionSpec
from trainer.config import QatConfig
from trainer.methods.catalogue import MethodConfig
from trainer.methods.gcmt import GcmtConfig
from trainer.methods.joint import JointConfig
from trainer.training.diary import LOG, Diary, read_log
from trainer.training.early_stop import EarlyStopConfig
from trainer.training.loop import BEST, CHECKPOINT, RESUME, Trainer, fit

METHODS = [*(kind() for kind in typing.get_args(MethodConfig)), GcmtConfig(own_loss="consistent")]
HERE = Path(__file__).parent
KILLED, FULL = HERE / "train_until_killed.py", HERE / "train_on_full_disk.py"


def kind(method):
    return msgspec.to_builtins(method)["kind"]


def weights_of(trainer):
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


@pytest.mark.parametrize("method", METHODS, ids=kind)
def test_run_resumed_after_every_epoch_ends_with_the_bits_of_an_uninterrupted_one(method, tmp_path):
    run = run_config(tmp_path, method=method)
    straight = Trainer(run, Tones())
    lines = []
    while not straight.is_over:
        lines.append(straight.run_epoch(Silent()))
    Trainer(run, Tones()).save(tmp_path / RESUME)
    for line in lines:
        torch.manual_seed(1)
        torch.rand(7)
        resumed = Trainer(run, Tones())
        resumed.load(tmp_path / RESUME)
        assert json.dumps(resumed.run_epoch(Silent())) == json.dumps(line)
        resumed.save(tmp_path / RESUME)
    first, second = weights_of(straight), weights_of(resumed)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_run_killed_in_the_middle_of_an_epoch_goes_on_to_the_same_bits(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    whole, _ = fit(run_config(straight), Tones(), "", Silent(), resume=False)
    done = subprocess.run([sys.executable, str(KILLED), str(killed)], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    assert [line["epoch"] for line in read_log(killed / LOG)] == [0, 1]
    resumed, _ = fit(run_config(killed), Tones(), "", Silent(), resume=True)
    first, second = (read_checkpoint(path).network.state_dict() for path in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (straight / LOG).read_text() == (killed / LOG).read_text()


def test_epoch_that_was_logged_but_not_saved_is_logged_once(tmp_path):
    path = tmp_path / LOG
    path.write_text('{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2, "los')
    diary = Diary(path, epochs_behind=1)
    diary.write({"epoch": 1, "again": True})
    assert read_log(path) == [{"epoch": 0}, {"epoch": 1, "again": True}]


def test_run_that_is_started_anew_starts_a_new_log(tmp_path):
    path = tmp_path / LOG
    path.write_text('{"epoch": 0}\n')
    Diary(path, epochs_behind=0)
    assert path.read_text() == ""


def test_interrupted_run_says_how_to_go_on(tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        fit(run_config(tmp_path), Tones(), "", Silent(stop_after=1), resume=False)
    assert f"stopped in epoch 2; {tmp_path / RESUME} holds those before: --resume goes on" in caplog.text


class StopsAtOnce(Silent):
    def on_step(self, stage, epoch, done, report):
        raise KeyboardInterrupt


def test_run_that_is_started_anew_leaves_no_state_of_the_one_before(tmp_path, caplog):
    run = run_config(tmp_path, method=JointConfig(), early_stop=EarlyStopConfig(patience_epochs=9))
    fit(run, Tones(), "", Silent(), resume=False)
    assert (tmp_path / BEST).exists()
    with pytest.raises(KeyboardInterrupt):
        fit(run, Tones(), "", StopsAtOnce(), resume=False)
    assert not (tmp_path / RESUME).exists()
    assert not (tmp_path / BEST).exists()
    assert "goes on" not in caplog.text


def test_files_are_on_the_disk_before_they_take_their_place(tmp_path, monkeypatch):
    seen, replace, sync = [], Path.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda opened: (seen.append("synced"), sync(opened)))
    monkeypatch.setattr(Path, "replace", lambda path, target: (seen.append("renamed"), replace(path, target)))
    write_whole(tmp_path / "page.html", "text")
    write_tensors(tmp_path / "state.safetensors", {"one": torch.ones(1)}, {})
    Diary(tmp_path / LOG, 0).write({"epoch": 0})
    whole = ["synced", "renamed", "synced"]  # the file, its name, the folder that holds the name
    assert seen == [*whole, "synced", "renamed", *whole, "synced"]


def no_room(path, parts, mode=0o644):
    """Write a part of a file, as on a disk that is full then."""
    path.write_bytes(b"".join(parts)[:2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_page_that_finds_no_room_says_nothing_of_resuming(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "write_file", no_room)
    with pytest.raises(RecordingError, match=r"page.html: cannot be written .*: make room, or name another") as refused:
        write_whole(tmp_path / "page.html", "text")
    assert "--resume" not in str(refused.value)


@pytest.fixture
def interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(run_config(tmp_path), Tones(), "", Silent(stop_after=1), resume=False)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fusion": FusionSpec(method="sum")}, "fusion"),
        ({"modalities": (IQ, msgspec.structs.replace(IMAGE, feature_size=9))}, "modalities"),
        ({"method": METHODS[0], "seed": 4}, "method, seed"),
    ],
)
def test_state_of_another_spec_is_refused(interrupted, changes, named):
    before = (interrupted / LOG).read_text(), (interrupted / RESUME).read_bytes()
    with pytest.raises(InputError, match=f"from a run with other {named}: restore them"):
        fit(run_config(interrupted, **changes), Tones(), "", Silent(), resume=True)
    assert ((interrupted / LOG).read_text(), (interrupted / RESUME).read_bytes()) == before


def test_state_of_other_classes_is_refused(interrupted):
    class MoreTones(Tones):
        classes = ("a", "b", "c", "d")

    with pytest.raises(InputError, match="of another network"):
        fit(run_config(interrupted), MoreTones(), "", Silent(), resume=True)


def test_state_that_was_cut_off_is_refused(interrupted):
    whole = (interrupted / RESUME).read_bytes()
    (interrupted / RESUME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged or not safetensors"):
        fit(run_config(interrupted), Tones(), "", Silent(), resume=True)


def test_checkpoint_in_place_of_a_state_is_refused(tmp_path):
    path, _ = fit(run_config(tmp_path, epochs=2), Tones(), "", Silent(), resume=False)
    shutil.copy(path, tmp_path / RESUME)
    with pytest.raises(InputError, match="not the state of a training run"):
        fit(run_config(tmp_path, epochs=2), Tones(), "", Silent(), resume=True)


def test_moved_run_may_go_on_elsewhere_with_other_plans_for_what_follows(interrupted, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("moved") / "run"
    shutil.copytree(interrupted, elsewhere)
    path, _ = fit(run_config(elsewhere, qat=QatConfig(epochs=9)), Tones(), "", Silent(), resume=True)
    assert path == elsewhere / CHECKPOINT


def test_diverging_run_names_the_batch_and_what_is_kept(interrupted):
    trainer = Trainer(run_config(interrupted), Tones())
    trainer.load(interrupted / RESUME)
    before = (interrupted / RESUME).read_bytes()
    with torch.no_grad():
        trainer.network.branch("iq").head.weight.fill_(1e38)
    with pytest.raises(InputError, match=rf"epoch 2, batch 0: training diverged .*{RESUME} holds the epochs before"):
        trainer.run_epoch(Silent())
    assert (interrupted / RESUME).read_bytes() == before


def test_log_on_a_full_disk_is_named_and_the_state_stays(interrupted):
    before = (interrupted / RESUME).read_bytes()
    diary = Diary(interrupted / LOG, epochs_behind=2)
    (interrupted / LOG).unlink()
    (interrupted / LOG).symlink_to("/dev/full")  # the kernel's own full disk
    with pytest.raises(RecordingError, match=r"log.jsonl: cannot be written \(No space left on device\): make room"):
        diary.write({"epoch": 2})
    assert (interrupted / RESUME).read_bytes() == before


def test_text_on_a_full_disk_leaves_what_was_there_and_no_remains(tmp_path, monkeypatch):
    path = tmp_path / LOG
    path.write_text("before")
    monkeypatch.setattr(disk, "write_file", no_room)
    with pytest.raises(RecordingError, match="No space left on device"):
        write_whole(path, "after")
    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == [LOG]


def test_state_on_a_full_disk_is_named_and_the_one_before_stays(tmp_path):
    """In a file system of its own, a few kilobytes larger than one state: the second finds no room."""
    unshare = shutil.which("unshare")
    script = f"mount -t tmpfs -o size=128k small {tmp_path} && exec {sys.executable} {FULL} {tmp_path}"
    if unshare is None or subprocess.run([unshare, "-Urm", "true"], capture_output=True).returncode:
        pytest.skip("needs user namespaces, to mount a small file system")
    done = subprocess.run([unshare, "-Urm", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert "resume.safetensors: cannot be written" in told["error"]
    assert "No space left on device" in told["error"]
    assert told["is_first_state_whole"]
    assert told["files"] == ["filler", LOG, RESUME]

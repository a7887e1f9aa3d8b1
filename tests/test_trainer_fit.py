"""`uav-train fit` as people see it: report, TensorBoard, early stop, device and precision."""

import json
import re
import sys

import msgspec
import numpy as np
import pytest
import torch
from training import Silent, Tones, run_config, tiny_network, tiny_spec

from models.errors import ConfigError, DeviceError
from models.nets.checkpoint import read_checkpoint
from models.schema import load_yaml
from models.spec import ImageRecipe, IqRecipe, ModalitySpec
from trainer.cli import main
from trainer.config import TrainConfig
from trainer.data.synthetic import SyntheticData
from trainer.evaluation.answers import NetworkModel
from trainer.evaluation.evaluate import evaluate
from trainer.methods.gcmt import Gcmt, GcmtConfig
from trainer.methods.joint import Joint, JointConfig
from trainer.methods.reconboost import ReconBoost, ReconBoostConfig
from trainer.training.board import FOLDER, active_branches, scalars_of
from trainer.training.diary import LOG, read_log
from trainer.training.early_stop import Best, EarlyStopConfig, first_judged_epoch, validation_loss
from trainer.training.loop import BEST, RESUME, Trainer, fit
from trainer.training.progress import ProgressBar
from trainer.training.report import REPORT, decisions_of

MODALITIES = (
    ModalitySpec(name="iq", recipe=IqRecipe(window_samples=256, sample_rate_hz=1_000_000), feature_size=8),
    ModalitySpec(name="image", recipe=ImageRecipe(height_px=16, width_px=16), feature_size=8),
)


def written(folder, **changes):
    """Write a run of the synthetic sites, and return its file."""
    run = run_config(folder / "run", data=SyntheticData(validation_examples=32), modalities=MODALITIES, **changes)
    path = folder / "run.yaml"
    path.write_bytes(msgspec.yaml.encode(run))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    assert main(["fit", "--config", str(written(folder, epochs=8, tensorboard=True))]) == 0
    return folder


def test_report_shows_every_decision_with_its_reason_and_needs_no_network(finished):
    page = (finished / "run" / REPORT).read_text()
    decisions = decisions_of(read_log(finished / "run" / LOG))
    assert len(decisions) == 8
    assert page.count("<svg") == 2
    assert all(f'<td class="words">{one["why"]}</td>' in page for one in decisions)
    assert not re.search(r"(src|href)=\"http", page)
    assert "NaN" not in page


def test_finished_run_is_drawn_again_from_its_log(finished, capsys):
    page = finished / "run" / REPORT
    before = page.read_text()
    page.unlink()
    assert main(["fit", "--config", str(finished / "run.yaml"), "--resume", "--json"]) == 0
    assert page.read_text() == before
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["report"] == str(page)
    assert told["examples"] == 32


def test_tensorboard_holds_what_the_log_holds(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "run" / FOLDER))
    events.Reload()
    lines = read_log(finished / "run" / LOG)
    found = {event.step: event.value for event in events.Scalars("losses/fused")}
    assert found == pytest.approx({line["epoch"]: line["losses"]["fused"] for line in lines}, rel=1e-5)
    active = {event.step for event in events.Scalars("active/iq") if event.value}
    assert active == {line["epoch"] for line in lines if "iq" in active_branches(line)}
    assert {"learning_rate", "accuracies/image", "cosines/iq"} <= set(events.Tags()["scalars"])


def test_absent_tensorboard_is_named_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["fit", "--config", str(written(tmp_path, tensorboard=True))]) == DeviceError.exit_code
    assert "pip install 'uav-fusion-edge[tensorboard]'" in capsys.readouterr().err
    assert read_log(tmp_path / "run" / LOG) == []


def test_scalars_name_the_branches_that_train():
    line = {"losses": {"fused": 1.0, "iq": 2.0, "image": 3.0}, "accuracies": {}, "cosines": {}, "learning_rate": 0.1}
    active = {
        stage: active_branches({**line, "stage": stage})
        for stage in ("alternate:iq", "refit", "pmr:entropy", "consolidate")
    }
    assert active == {
        "alternate:iq": ("iq",),
        "refit": (),
        "pmr:entropy": ("iq", "image"),
        "consolidate": ("iq", "image"),
    }
    assert scalars_of({**line, "stage": "alternate:iq"})["active/image"] == 0


def test_early_stop_ends_the_run_and_keeps_the_best_weights(tmp_path, caplog):
    stop = EarlyStopConfig(patience_epochs=2)
    run = run_config(tmp_path, method=JointConfig(), epochs=30, learning_rate=0.05, early_stop=stop)
    path, _ = fit(run, Tones(noise=3.0), "", Silent(), resume=False)
    losses = [line["validation_loss"] for line in read_log(tmp_path / LOG)]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + stop.patience_epochs < 30
    assert validation_loss(read_checkpoint(path).network, Tones(noise=3.0)) == losses[best]
    assert f"weights of epoch {best}, chosen by their validation loss" in caplog.text
    assert "optimistic" in caplog.text


def test_early_stop_resumes_where_it_stood(tmp_path):
    run = run_config(
        tmp_path, method=JointConfig(), epochs=30, learning_rate=0.05, early_stop=EarlyStopConfig(patience_epochs=2)
    )
    fit(run, Tones(noise=3.0), "", Silent(), resume=False)
    whole = (tmp_path / LOG).read_text()
    with pytest.raises(KeyboardInterrupt):
        fit(run, Tones(noise=3.0), "", Silent(stop_after=1), resume=False)
    fit(run, Tones(noise=3.0), "", Silent(), resume=True)
    assert (tmp_path / LOG).read_text() == whole


def test_early_stop_of_gcmt_counts_in_the_last_stage_only():
    network = tiny_network(tiny_spec())
    method = Gcmt(network, 20, GcmtConfig())
    assert first_judged_epoch(method) == method.stages.refit
    assert first_judged_epoch(Joint(network, 20)) == 0


def test_early_stop_of_reconboost_waits_until_every_branch_has_learned():
    network = tiny_network(tiny_spec())
    method = ReconBoost(network, 20, ReconBoostConfig())
    stages = [method.begin_epoch(epoch, lambda count: []) for epoch in range(method.epochs)]
    first = stages.index("alone:image")
    assert stages[first : first_judged_epoch(method) + 1] == ["alone:image"] * first
    assert first_judged_epoch(ReconBoost(network, 1, ReconBoostConfig())) == 1


def test_patience_counts_from_the_best_epoch():
    best = Best()
    assert [best.take(epoch, loss) for epoch, loss in enumerate((3.0, 2.0, 2.5, 2.0))] == [True, True, False, False]
    assert best.waited(3) == 2


def test_run_without_early_stop_evaluates_nothing_on_the_way(tmp_path):
    fit(run_config(tmp_path, method=JointConfig()), Tones(), "", Silent(), resume=False)
    assert not (tmp_path / BEST).exists()
    assert all("validation_loss" not in line for line in read_log(tmp_path / LOG))


def test_bf16_encoders_learn_and_leave_everything_else_in_float32(tmp_path):
    run = run_config(tmp_path, precision="bf16", epochs=6, examples_per_epoch=256)
    path, evaluation = fit(run, Tones(), "", Silent(), resume=False)
    assert evaluation.accuracy >= 0.95
    assert {
        value.dtype for value in read_checkpoint(path).network.state_dict().values() if value.is_floating_point()
    } == {torch.float32}
    trainer = Trainer(run, Tones())
    trainer.load(tmp_path / RESUME)
    trainer.network.eval()
    batch = trainer.batches.training(0, 0, 0.0)
    half = trainer.network(batch.inputs)
    assert half.logits.dtype == half.features["iq"].dtype == torch.float32
    trainer.network.branch("iq").is_bf16 = False
    whole = trainer.network(batch.inputs)
    assert not torch.equal(half.features["iq"], whole.features["iq"])
    torch.testing.assert_close(half.features["iq"], whole.features["iq"], rtol=0.1, atol=0.1)


def test_bf16_run_is_judged_in_the_precision_it_flies_in(tmp_path):
    path, evaluation = fit(run_config(tmp_path, precision="bf16"), Tones(), "", Silent(), resume=False)
    flown = evaluate(NetworkModel(read_checkpoint(path).network), Tones().validation_examples(), lambda done: None)
    np.testing.assert_allclose(evaluation.rows.logits, flown.rows.logits, rtol=1e-5, atol=1e-5)


def test_cuda_where_there_is_none_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="write `device: auto`"):
        Trainer(run_config(tmp_path, device="cuda"), Tones())
    assert Trainer(run_config(tmp_path), Tones()).device == torch.device("cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("precision: fp16", "fp16"),
        ("device: tpu", "tpu"),
        ("early_stop: {patience_epochs: 0}", "expected 1 or more"),
    ],
)
def test_impossible_setting_is_refused(tmp_path, changes, message):
    path = written(tmp_path)
    name = changes.partition(":")[0]
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}:")]
    path.write_text("\n".join([*lines, changes]))
    with pytest.raises(ConfigError, match=message):
        load_yaml(path, TrainConfig)


def test_progress_shows_losses_accuracies_and_cosines():
    bar = ProgressBar()
    network = tiny_network(tiny_spec())
    from trainer.training.batches import BatchMaker

    batches = BatchMaker(data=Tones(), spec=tiny_spec(), seed=1, batch=8, modality_dropout=0, outlier_share=0)
    method = Gcmt(network, 20, GcmtConfig(selector="turns"))
    stage = method.begin_epoch(4, lambda count: [batches.probe(n) for n in range(count)])
    bar.on_step(stage, 4, 0.25, method.backward(batches.training(4, 0, 0.2)))
    assert bar._bar.tasks[0].description == "4 alternate:iq"
    figures = r" *loss, accuracy: fused \S+ \d+% \| iq \S+ \d+% \| image \S+ \d+% \| cosine iq -?\d\.\d\d"
    assert re.fullmatch(figures, bar._figures.plain)

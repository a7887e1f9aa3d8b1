import json

import msgspec
import numpy as np
import pytest
import torch
from training import IMAGE, IQ, Silent, Tones, run_config, tiny_sizes, tiny_spec

from models.errors import ConfigError, InputError
from models.nets.checkpoint import read_checkpoint, write_tensors
from models.spec import FusionSpec
from trainer.data.examples import Example
from trainer.methods.gcmt import GcmtConfig
from trainer.methods.joint import JointConfig
from trainer.training.loop import CHECKPOINT, LOG, RESUME, Trainer, fit


def config(tmp_path, **changes):
    return run_config(tmp_path / "run", **{"fusion": FusionSpec(), "examples_per_epoch": 64} | changes)


def weights_of(path):
    return read_checkpoint(path).network.state_dict()


@pytest.mark.parametrize("method", [GcmtConfig(round_epochs=1), JointConfig()])
def test_training_learns_what_both_sensors_show(tmp_path, method):
    run = config(tmp_path, method=method, epochs=6, examples_per_epoch=256)
    path, evaluation = fit(run, Tones(), "uav-train fit --config x.yaml", Silent(), resume=False)
    assert evaluation.accuracy >= 0.95
    assert min(evaluation.alone.values()) >= 0.8
    header = read_checkpoint(path).header
    assert header.metrics["accuracy"] == pytest.approx(evaluation.accuracy, abs=1e-4)
    assert header.reproduce == ("uav-train fit --config x.yaml",)
    assert header.licence == "Apache-2.0"
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert lines[0]["losses"]["fused"] > lines[-1]["losses"]["fused"]


def test_equal_seeds_train_equal_bits_and_another_seed_does_not(tmp_path):
    paths = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run = config(tmp_path, out=str(tmp_path / name), seed=seed)
        paths.append(fit(run, Tones(), "", Silent(), resume=False)[0])
    first, second, other = (weights_of(path) for path in paths)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("stop_after", [0, 2])
def test_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path, stop_after):
    straight = config(tmp_path, out=str(tmp_path / "straight"))
    whole, _ = fit(straight, Tones(), "", Silent(), resume=False)
    run = msgspec.structs.replace(straight, out=str(tmp_path / "stopped"))
    with pytest.raises(KeyboardInterrupt):
        fit(run, Tones(), "", Silent(stop_after), resume=False)
    assert not (tmp_path / "stopped" / CHECKPOINT).exists()
    resumed, _ = fit(run, Tones(), "", Silent(), resume=True)
    first, second = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    logs = [(tmp_path / name / LOG).read_text() for name in ("straight", "stopped")]
    assert logs[0] == logs[1]


def test_resuming_with_another_configuration_is_refused(tmp_path):
    run = config(tmp_path, method=JointConfig(), epochs=2)
    with pytest.raises(KeyboardInterrupt):
        fit(run, Tones(), "", Silent(0), resume=False)
    with pytest.raises(InputError, match="from a run with other learning_rate"):
        fit(msgspec.structs.replace(run, learning_rate=0.02), Tones(), "", Silent(), resume=True)


def test_resuming_from_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        fit(config(tmp_path), Tones(), "", Silent(), resume=True)


def test_resuming_from_something_else_is_refused(tmp_path):
    write_tensors(tmp_path / "run" / RESUME, {"x": torch.zeros(1)}, {})
    with pytest.raises(InputError, match="not the state of a training run"):
        fit(config(tmp_path), Tones(), "", Silent(), resume=True)


def test_diverged_training_stops_and_names_the_batch(tmp_path):
    trainer = Trainer(config(tmp_path), Tones())
    with torch.no_grad():
        trainer.network.branch("iq").head.weight.fill_(1e38)
    with pytest.raises(InputError, match=r"epoch 0, batch 0: training diverged .* lower learning_rate \(0\.01\)"):
        trainer.run_epoch(Silent())


class Broken(Tones):
    """Delivers NaN in the radio now and then."""

    def training_example(self, rng, progress):
        example = super().training_example(rng, progress)
        iq = np.array(example.sensors["iq"])
        iq[5, 0] = np.nan
        return Example(label=example.label, sensors={**example.sensors, "iq": iq})


def test_data_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(InputError, match="iq holds NaN or infinity"):
        fit(config(tmp_path), Broken(), "", Silent(), resume=False)


def test_modality_that_the_data_lack_is_named(tmp_path):
    thermal = msgspec.structs.replace(IMAGE, name="thermal")
    sizes = tiny_sizes(tiny_spec(modalities=(IQ, thermal)))
    run = config(tmp_path, modalities=(IQ, thermal), sizes=sizes)
    with pytest.raises(InputError, match="no thermal, the data set delivers iq, image"):
        fit(run, Tones(), "", Silent(), resume=False)


def test_sizes_that_miss_a_modality_are_refused(tmp_path):
    run = config(tmp_path, sizes={"iq": tiny_sizes(tiny_spec())["iq"]})
    with pytest.raises(ConfigError, match="give each modality its sizes"):
        Trainer(run, Tones())

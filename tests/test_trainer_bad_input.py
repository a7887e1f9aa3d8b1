"""What training says of data that cannot train: a line that names batch and file, before anything is lost."""

import dataclasses

import msgspec
import numpy as np
import pytest
from training import Silent, Tones, run_config, write_tiny_root

from models.errors import InputError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec
from trainer.cli import main
from trainer.data.catalogue import open_data_set
from trainer.data.pairs import UavPair7Data
from trainer.data.uavpair7 import EMITTERS
from trainer.methods.joint import JointConfig
from trainer.training.diary import LOG
from trainer.training.loop import RESUME, Trainer, fit

SITES = (
    ModalitySpec(name="iq", recipe=IqRecipe(window_samples=8192, sample_rate_hz=250_000), feature_size=8),
    ModalitySpec(name="image", recipe=ImageRecipe(height_px=16, width_px=16), feature_size=8),
)


def test_missing_data_file_ends_with_the_code_for_data_and_its_name(tmp_path, capsys):
    data = UavPair7Data(root=str(tmp_path / "absent"))
    config = tmp_path / "run.yaml"
    config.write_bytes(msgspec.yaml.encode(run_config(tmp_path / "out", data=data, modalities=SITES)))
    assert main(["fit", "--config", str(config)]) == 7
    assert str(tmp_path / "absent") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_class_without_examples_is_named(tmp_path):
    write_tiny_root(tmp_path)
    held = tmp_path / "uavpair7" / "val_recordings.txt"
    held.write_text(held.read_text() + f"\n{EMITTERS[3]}/01/g.data")
    data = UavPair7Data(root=str(tmp_path))
    run = run_config(tmp_path / "out", data=data, modalities=SITES)
    with pytest.raises(InputError, match=r"no training examples of .*: mend the lists"):
        fit(run, open_data_set(data, SITES), "", Silent(), resume=False)


class Spoiled(Tones):
    """Hands out something else in place of a sensor, from some batch on."""

    def __init__(self, spoil, after=0):
        super().__init__()
        self.spoil, self.after, self.drawn = spoil, after, 0

    def training_example(self, rng, progress):
        example = super().training_example(rng, progress)
        self.drawn += 1
        return self.spoil(example) if self.drawn > self.after else example


def without_image(example):
    return dataclasses.replace(example, sensors={**example.sensors, "image": None})


def with_nan(example):
    iq = np.array(example.sensors["iq"])
    iq[5, 0] = np.nan
    return dataclasses.replace(example, sensors={**example.sensors, "iq": iq}, source="window 7 of flight.npz")


def test_modality_that_is_absent_in_the_whole_set_is_named(tmp_path):
    with pytest.raises(InputError, match=r"epoch 0, batch 0: training example of \w without image: expected all"):
        fit(run_config(tmp_path), Spoiled(without_image), "", Silent(), resume=False)


def test_nan_in_a_probe_names_the_probe(tmp_path):
    trainer = Trainer(run_config(tmp_path), Spoiled(with_nan))
    with pytest.raises(InputError, match=r"probe 0: example of \w \(window 7 of flight.npz\): iq holds NaN"):
        trainer.batches.probe(0)


def test_nan_in_data_names_batch_example_and_file_and_keeps_what_was_saved(tmp_path):
    run = run_config(tmp_path, method=JointConfig())
    with pytest.raises(
        InputError,
        match=r"epoch 1, batch 0: example of \w .*\(window 7 of flight.npz\): iq holds NaN or infinity: repair",
    ):
        fit(run, Spoiled(with_nan, after=run.examples_per_epoch), "", Silent(), resume=False)
    assert (tmp_path / RESUME).is_file()
    assert len((tmp_path / LOG).read_text().splitlines()) == 1
    path, _ = fit(run, Tones(), "", Silent(), resume=True)
    assert path.is_file()

import numpy as np
import pytest
from training import IMAGE, IQ

from models.errors import ConfigError, InputError
from models.schema import parse_yaml
from models.spec import ImageRecipe, ModalitySpec, ModelSpec
from trainer.data.catalogue import open_data_set
from trainer.data.examples import prepare
from trainer.data.skydet import CLASSES, SkyDetData

CAMERAS = tuple(
    ModalitySpec(name=name, recipe=ImageRecipe(height_px=32, width_px=32), feature_size=4)
    for name in ("thermal", "visible")
)


def write_crops(root, **changes):
    """Write four clips of two crops per class and camera; a crop's level tells its clip. Return the root."""
    labels = np.repeat(np.arange(4), 8).astype(np.int16)
    clips = np.arange(32) // 2
    level = (10 * clips).astype(np.uint8)[:, None, None, None]
    arrays = {"classes": np.array([name.upper() for name in CLASSES])}
    for prefix, channels in (("ir", 1), ("v", 3)):
        arrays[f"{prefix}_x"] = np.broadcast_to(level, (32, 64, 64, channels)) + np.arange(channels, dtype=np.uint8)
        arrays[f"{prefix}_y"] = labels
        arrays[f"{prefix}_clip"] = np.array([f"{prefix}_{clip:03}" for clip in clips])
    (root / "sky_multisensor").mkdir()
    np.savez(root / "sky_multisensor" / "skydet_dev.npz", **{**arrays, **changes})
    return root


def opened(root, **changes):
    return open_data_set(SkyDetData(root=str(root), **changes), CAMERAS)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_real_clip_is_on_both_sides_and_no_crop_is_lost(shared_data, seed):
    for camera in opened(shared_data, split_seed=seed).cameras.values():
        seen = []
        for training, validation in zip(camera.training, camera.validation, strict=True):
            assert set(training).isdisjoint(validation)
            assert 0.2 < len(validation) / (len(training) + len(validation)) < 0.3
            seen += [crop for clips in (training, validation) for crops in clips.values() for crop in crops]
        assert sorted(seen) == list(range(len(camera.crops)))
        held = {clip for clips in camera.validation for clip in clips}
        used = np.concatenate([crops for clips in camera.training for crops in clips.values()])
        assert not held & set(camera.clips[used])


def test_crops_drawn_for_training_and_validation_are_of_different_clips(tmp_path):
    data, rng = opened(write_crops(tmp_path)), np.random.default_rng(1)
    drawn = [data.training_example(rng, 0.0) for _ in range(400)]
    for name in ("thermal", "visible"):
        trained = {(one.label, int(one.sensors[name].max()) // 10) for one in drawn}
        held = {(one.label, int(one.sensors[name].max()) // 10) for one in data.validation_examples()}
        assert len(trained) == 12
        assert len(held) == 4
        assert not trained & held


def test_frames_are_bgr_and_the_thermal_channel_stands_in_all_three(tmp_path):
    example = next(opened(write_crops(tmp_path)).validation_examples())
    thermal, visible = example.sensors["thermal"], example.sensors["visible"]
    assert thermal.shape == visible.shape == (64, 64, 3)
    assert (thermal == thermal[:, :, :1]).all()
    assert (visible[0, 0] - visible[0, 0, 2]).tolist() == [2, 1, 0]  # red was stored first, as the lowest


def test_validation_is_the_same_every_time_and_balanced(tmp_path):
    first = list(opened(write_crops(tmp_path), validation_examples=40).validation_examples())
    second = list(opened(tmp_path, validation_examples=40).validation_examples())
    assert np.bincount([one.label for one in first]).tolist() == [10] * 4
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.sensors["visible"], other.sensors["visible"])


def test_the_split_follows_its_seed(shared_data):
    held = [opened(shared_data, split_seed=seed).cameras["thermal"].validation[2] for seed in (0, 0, 1)]
    assert list(held[0]) == list(held[1]) != list(held[2])


def test_training_examples_fit_their_recipes(tmp_path):
    data, rng = opened(write_crops(tmp_path)), np.random.default_rng(3)
    examples = [data.training_example(rng, 0.0) for _ in range(8)]
    assert len({one.sensors["thermal"].shape for one in examples}) > 1
    inputs, _ = prepare(examples, ModelSpec(classes=data.classes, modalities=CAMERAS))
    assert inputs["thermal"].shape == inputs["visible"].shape == (8, 3, 32, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": np.array(["A", "B", "C", "D"])}, "expected airplane, bird"),
        ({"ir_x": np.zeros((32, 64, 64, 3), np.uint8)}, r"ir_x is uint8 \(32, 64, 64, 3\)"),
        ({"v_clip": np.array(["one"] * 32)}, "fewer than two visible clips of airplane, bird, drone, helicopter"),
    ],
)
def test_damaged_arrays_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        opened(write_crops(tmp_path, **change))


def test_absent_file_and_foreign_modality_are_refused(tmp_path):
    with pytest.raises(InputError, match="name the data folder that holds sky_multisensor"):
        opened(tmp_path)
    for modality in (IMAGE, IQ):
        with pytest.raises(ConfigError, match="SkyDet delivers `thermal` and `visible`"):
            open_data_set(SkyDetData(root=str(tmp_path)), (CAMERAS[0], modality))


@pytest.mark.parametrize("line", ["held_share: 0.0", "held_share: 1.0", "split_seed: -1", "validation_examples: 0"])
def test_configuration_that_cannot_be_is_refused(line):
    with pytest.raises(ConfigError, match=line.split(":", maxsplit=1)[0]):
        parse_yaml(f"kind: skydet\n{line}\n".encode(), SkyDetData, "run.yaml")

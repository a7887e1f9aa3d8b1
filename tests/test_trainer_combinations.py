from itertools import product

import numpy as np
import pytest
from training import IMAGE, write_tiny_root

from models.errors import ConfigError
from models.schema import parse_yaml
from models.spec import IqRecipe, ModalitySpec
from trainer.data.catalogue import open_data_set
from trainer.data.combinations import (
    EMITTER_NAMES,
    SCENE_NAMES,
    PairProduct9Data,
    PairXor3Data,
    sum_label,
)
from trainer.data.uavpair7 import EMITTERS, SCENES

IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=8192, sample_rate_hz=250_000), feature_size=4)
BOTH = [PairProduct9Data, PairXor3Data]


def opened(kind, root, **changes):
    return open_data_set(kind(root=str(root), **changes), (IQ, IMAGE))


def combinations_of(data, side, count=9):
    """Return (scene name, emitter name, label) of drawn pairs, each combination in turn."""
    rng = np.random.default_rng(3)
    pairs = [data.pair(side, n % 9, data.preset, rng) for n in range(count)]
    names = [(pair.scene.split("/")[0], EMITTERS[data.data.window_labels[pair.window]]) for pair in pairs]
    return [(scene, emitter, pair.label) for (scene, emitter), pair in zip(names, pairs, strict=True)]


@pytest.mark.parametrize("side", ["training", "validation"])
@pytest.mark.parametrize("kind", BOTH)
def test_every_combination_of_scene_and_emitter_is_drawn(tmp_path, kind, side):
    write_tiny_root(tmp_path)
    drawn = combinations_of(opened(kind, tmp_path), side)
    assert [(scene, emitter) for scene, emitter, _ in drawn] == list(product(SCENE_NAMES, EMITTER_NAMES))


def test_product_label_is_a_third_given_either_sensor_and_certain_given_both(tmp_path):
    write_tiny_root(tmp_path)
    data = opened(PairProduct9Data, tmp_path)
    drawn = combinations_of(data, "training")
    assert sorted(label for *_, label in drawn) == list(range(9))
    for sensor, names in ((0, SCENE_NAMES), (1, EMITTER_NAMES)):
        for name in names:
            assert len({one[2] for one in drawn if one[sensor] == name}) == 3
    named = [data.classes[label] for *_, label in drawn]
    assert named[5] == "field+oregon_scientific"


def test_sum_label_is_balanced_given_either_sensor_so_that_one_alone_knows_nothing(tmp_path):
    write_tiny_root(tmp_path)
    drawn = combinations_of(opened(PairXor3Data, tmp_path), "training")
    for sensor, names in ((0, SCENE_NAMES), (1, EMITTER_NAMES)):
        for name in names:
            assert sorted(one[2] for one in drawn if one[sensor] == name) == [0, 1, 2]
    assert sum_label(2, 2) == 1


@pytest.mark.parametrize("kind", BOTH)
def test_validation_is_the_same_every_time_and_holds_every_combination_equally_often(tmp_path, kind):
    write_tiny_root(tmp_path)
    data = opened(kind, tmp_path, validation_examples=18)
    first, second = list(data.validation_examples()), list(opened(kind, tmp_path).validation_examples())[:18]
    for one, other in zip(first, second, strict=True):
        assert one.label == other.label
        for name in ("iq", "image"):
            np.testing.assert_array_equal(one.sensors[name], other.sensors[name])
    assert set(np.bincount([one.label for one in first])) == {18 // len(data.classes)}
    assert first[0].sensors["iq"].shape == (8192, 2)
    assert first[0].sensors["image"].shape == (128, 128, 3)


@pytest.mark.parametrize("kind", BOTH)
def test_training_draws_no_recording_and_no_image_of_validation(shared_data, kind):
    data = opened(kind, shared_data)
    rng = np.random.default_rng(1)
    drawn = {
        side: [data.pair(side, n % 9, data.preset, rng) for n in range(900)] for side in ("training", "validation")
    }
    for unit in ("recording", "scene", "window"):
        training, validation = ({getattr(pair, unit) for pair in pairs} for pairs in drawn.values())
        assert len(validation) > 9
        assert not training & validation


@pytest.mark.parametrize("kind", BOTH)
def test_training_examples_are_augmented_and_come_in_every_class(tmp_path, kind):
    write_tiny_root(tmp_path)
    data, rng = opened(kind, tmp_path), np.random.default_rng(2)
    examples = [data.training_example(rng, 0.0) for _ in range(60)]
    assert {one.label for one in examples} == set(range(len(data.classes)))
    assert len({one.sensors["image"].shape for one in examples}) > 1


def test_imbalanced_preset_and_foreign_modality_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="preset 'mid-imb10': known for combinations are easy, mid, hard"):
        parse_yaml(b"kind: pairxor3\npreset: mid-imb10\n", PairXor3Data, "run.yaml")
    with pytest.raises(ConfigError, match="validation_examples is 0"):
        parse_yaml(b"kind: pairproduct9\nvalidation_examples: 0\n", PairProduct9Data, "run.yaml")
    thermal = ModalitySpec(name="thermal", recipe=IMAGE.recipe, feature_size=2)
    with pytest.raises(ConfigError, match="UAVPair-7 delivers"):
        open_data_set(PairXor3Data(root=str(tmp_path)), (IQ, thermal))
    assert set(SCENE_NAMES) < set(SCENES)

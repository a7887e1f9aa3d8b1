import numpy as np
import pytest
from training import IQ

from models.errors import ConfigError, InputError
from models.schema import parse_yaml
from models.spec import ModalitySpec, ModelSpec, VectorRecipe
from trainer.data.catalogue import open_data_set
from trainer.data.examples import prepare, presence
from trainer.data.houston2013 import ALWAYS_TRAINED, CLASSES, Houston2013Data, deal_regions, way_through_bins
from trainer.evaluation.asking import Fused
from trainer.evaluation.evaluate import evaluate

HSI = ModalitySpec(name="hsi", recipe=VectorRecipe(values=144, mean=(0.1,), std=(0.1,)), feature_size=4)
LIDAR = ModalitySpec(name="lidar", recipe=VectorRecipe(values=21), feature_size=4)


def write_pixels(root, **changes):
    """Write three regions of two pixels a class, one region for class 3; return the file."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(1, 16), 6).astype(np.uint8)
    regions = np.arange(90) // 2
    regions[labels == 3] = 6
    arrays = {
        "hsi_train": rng.random((90, 144), np.float32),
        "lidar_train": rng.integers(0, 256, (90, 21)).astype(np.uint8),
        "y_train": labels,
        "roi_train": regions.astype(np.int16),
        "lidar_test": rng.integers(0, 256, (30, 21)).astype(np.uint8),
        "y_test": np.arange(30).astype(np.uint8) % 15 + 1,
    }
    (root / "houston2013").mkdir()
    np.savez(root / "houston2013" / "houston2013.npz", **{**arrays, **changes})
    return root


def opened(root, **changes):
    return open_data_set(Houston2013Data(root=str(root), **changes), (HSI, LIDAR))


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_no_real_region_is_in_both_halves_and_training_keeps_every_class(shared_data, folds):
    validated = []
    for fold in range(folds):
        data = opened(shared_data, folds=folds, fold=fold)
        assert set(data.regions[data.training]).isdisjoint(data.regions[data.validation])
        assert set(data.labels[data.training]) == set(range(15))
        assert len(data.training) + len(data.validation) == len(data.labels) == 2832
        validated.extend(data.validation)
    alone = [CLASSES.index("synthetic_grass"), CLASSES.index("tennis_court")]
    assert sorted(validated) == np.flatnonzero(~np.isin(data.labels, alone)).tolist()


def test_either_half_of_the_real_pixels_validates_every_class_of_more_than_one_region(shared_data):
    for fold in (0, 1):
        data = opened(shared_data, fold=fold)
        assert len(set(data.labels[data.validation])) == 13
        assert 900 < len(data.validation) < 1500


def test_dealing_is_of_whole_regions_balanced_and_by_the_seed():
    labels, regions = np.repeat([0, 1], 60), np.repeat(np.arange(12), 10)
    dealt = deal_regions(labels, regions, 3, 7)
    for region in range(12):
        assert len(set(dealt[regions == region])) == 1
    for label in (0, 1):
        assert np.bincount(dealt[labels == label]).tolist() == [20, 20, 20]
    np.testing.assert_array_equal(dealt, deal_regions(labels, regions, 3, 7))
    assert (dealt != deal_regions(labels, regions, 3, 8)).any()


def test_class_of_one_region_is_always_trained():
    assert deal_regions(np.zeros(4), np.zeros(4), 2, 0).tolist() == [ALWAYS_TRAINED] * 4


def test_examples_are_a_row_per_modality_and_the_same_every_time(tmp_path):
    data = opened(write_pixels(tmp_path))
    example = data.training_example(np.random.default_rng(1), 0.0)
    assert (example.sensors["hsi"].shape, example.sensors["lidar"].shape) == ((144,), (21,))
    assert 0 <= example.sensors["lidar"].min() <= example.sensors["lidar"].max() <= 1
    first, second = list(data.validation_examples()), list(opened(tmp_path).validation_examples())
    assert [one.label for one in first] == [one.label for one in second]
    np.testing.assert_array_equal(first[3].sensors["hsi"], second[3].sensors["hsi"])


def test_training_draws_only_pixels_of_training(tmp_path):
    data, rng = opened(write_pixels(tmp_path)), np.random.default_rng(2)
    held = {row.tobytes() for row in data._hsi[data.validation]}
    drawn = [data.training_example(rng, 0.0) for _ in range(400)]
    assert {one.label for one in drawn} == set(range(15))
    assert not held & {one.sensors["hsi"].tobytes() for one in drawn}


class Lidar:
    """Right by LiDAR, wrong by hsi; says by the mask which was asked."""

    def __init__(self, data):
        self.spec = ModelSpec(classes=data.classes, modalities=(HSI, LIDAR))
        self.masks = []

    temperature = 1.0

    def ask_branch(self, name, inputs):
        assert name == "lidar" or not inputs.any()
        answer = np.zeros((len(inputs), 15), np.float32)
        return answer, answer + np.eye(15, dtype=np.float32)[4] * (name == "lidar")

    def fuse(self, answers, mask):
        self.masks.append(mask)
        return Fused(answers["lidar"][1], mask)


def test_official_pixels_lack_hsi_and_are_judged_by_lidar_under_its_mask(tmp_path):
    data = opened(write_pixels(tmp_path), validation="official")
    examples = list(data.validation_examples())
    spec = ModelSpec(classes=data.classes, modalities=(HSI, LIDAR))
    assert len(examples) == 30
    assert presence(examples, spec).tolist() == [[0, 1]] * 30
    assert not prepare(examples, spec)[0]["hsi"].any()
    model = Lidar(data)
    found = evaluate(model, examples, lambda done: None)
    assert found.alone == {"lidar": pytest.approx(2 / 30)}
    assert found.without == {"hsi": pytest.approx(2 / 30)}
    assert all((mask[:, 0] == 0).all() for mask in model.masks)


def test_real_official_test_is_the_contests(shared_data):
    data = opened(shared_data, validation="official")
    assert np.bincount(data.test_labels).sum() == 12197
    assert next(data.validation_examples()).sensors["hsi"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hsi_train": np.zeros((90, 100), np.float32)}, r"hsi_train is \(90, 100\): expected \(90, 144\)"),
        ({"y_train": np.full(90, 2, np.uint8)}, "y_train lacks a class"),
        ({"roi_train": np.zeros(90, np.int16)}, "a region of roi_train has pixels of two classes"),
    ],
)
def test_damaged_arrays_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        opened(write_pixels(tmp_path, **change))


def test_absent_file_and_foreign_modality_are_refused(tmp_path):
    with pytest.raises(InputError, match="name the data folder that holds houston2013"):
        opened(tmp_path)
    with pytest.raises(ConfigError, match="Houston2013 delivers `hsi` of kind vector with 144 values and `lidar`"):
        open_data_set(Houston2013Data(root=str(tmp_path)), (IQ, LIDAR))


@pytest.mark.parametrize(
    "line", ["folds: 1", "fold: 2", "fold: -1", "split_seed: -1", "validation: pixels", "lidar_bins: 0"]
)
def test_split_that_cannot_be_is_refused(line):
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        parse_yaml(f"kind: houston2013\n{line}\n".encode(), Houston2013Data, "run.yaml")


def test_lidar_value_is_given_as_its_way_through_each_bin():
    edges = np.array([[0.0, 0.25, 0.25, 1.0]])
    rows = np.array([[0.0], [0.125], [0.25], [1.0]])
    expected = [[0, 0, 0], [0.5, 0, 0], [1, 0, 0], [1, 1, 1]]
    assert way_through_bins(rows, edges).tolist() == expected


def test_bins_follow_from_training_pixels_alone_and_are_the_officials_too(tmp_path):
    write_pixels(tmp_path)
    coded = (HSI, ModalitySpec(name="lidar", recipe=VectorRecipe(values=84), feature_size=4))
    halves = [open_data_set(Houston2013Data(root=str(tmp_path), fold=fold, lidar_bins=4), coded) for fold in (0, 1)]
    rng = np.random.default_rng(1)
    assert halves[0].training_example(rng, 0.0).sensors["lidar"].shape == (84,)
    assert not np.array_equal(halves[0]._lidar, halves[1]._lidar)
    official = Houston2013Data(root=str(tmp_path), lidar_bins=4, validation="official")
    example = next(open_data_set(official, coded).validation_examples())
    assert example.sensors["lidar"].shape == (84,)
    assert 0 <= example.sensors["lidar"].min() <= example.sensors["lidar"].max() <= 1

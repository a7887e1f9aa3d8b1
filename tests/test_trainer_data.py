import numpy as np
import pytest
from training import IMAGE, IQ, write_tiny_root

from models.errors import ConfigError, InputError
from models.schema import parse_yaml
from models.spec import ImageRecipe, IqRecipe, ModalitySpec, VectorRecipe
from trainer.data.catalogue import open_data_set
from trainer.data.examples import prefetched, prepare
from trainer.data.outliers import draw_outlier
from trainer.data.pairs import UavPair7Data
from trainer.data.synthetic import SyntheticData

PAIR_IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=8192, sample_rate_hz=250_000), feature_size=4)
SITE_IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=512, sample_rate_hz=1_000_000), feature_size=4)


def paired_sites(root, **changes):
    return open_data_set(UavPair7Data(root=str(root), **changes), (PAIR_IQ, IMAGE))


def test_pairs_are_validated_from_the_root_by_default_and_from_any_file_on_demand(tmp_path):
    pairs = write_tiny_root(tmp_path)
    everything = list(paired_sites(tmp_path).validation_examples())
    assert [example.label for example in everything] == list(range(7))
    shorter = tmp_path / "two.csv"
    shorter.write_text("".join(pairs.read_text().splitlines(keepends=True)[:3]))
    chosen = list(paired_sites(tmp_path, pairs=str(shorter)).validation_examples())
    np.testing.assert_array_equal(chosen[1].sensors["iq"], everything[1].sensors["iq"])


def test_the_roots_own_pairs_are_as_hard_as_the_preset_and_a_named_file_as_it_is_written(tmp_path):
    pairs = write_tiny_root(tmp_path)
    mid = next(paired_sites(tmp_path).validation_examples())
    dominant = next(paired_sites(tmp_path, preset="image-dominant").validation_examples())
    named = next(paired_sites(tmp_path, preset="image-dominant", pairs=str(pairs)).validation_examples())
    np.testing.assert_array_equal(named.sensors["iq"], mid.sensors["iq"])
    assert np.abs(dominant.sensors["iq"] - mid.sensors["iq"]).max() > 0.01
    assert dominant.sensors["image"].astype(int).mean() > mid.sensors["image"].astype(int).mean()  # less darkened


def test_evaluation_does_not_need_the_lists_of_the_training_split(tmp_path):
    write_tiny_root(tmp_path)
    (tmp_path / "uavpair7" / "val_images.txt").unlink()
    data = paired_sites(tmp_path)
    assert len(list(data.validation_examples())) == 7
    with pytest.raises(InputError, match=r"val_images\.txt: cannot be read .*training needs"):
        data.training_example(np.random.default_rng(1), 0.0)


def test_curriculum_comes_down_to_the_preset_by_half_of_training(tmp_path):
    write_tiny_root(tmp_path)
    data = paired_sites(tmp_path, preset="hard")
    assert data._preset_at(0.0).snr_db == (-3.0, 8.0)
    assert data._preset_at(0.25).snr_db == (-9.5, 4.0)
    assert data._preset_at(0.5).snr_db == (-16.0, 0.0)
    assert paired_sites(tmp_path, preset="hard", has_curriculum=False)._preset_at(0.0).snr_db == (-16.0, 0.0)


def test_training_examples_fit_their_recipes(tmp_path):
    write_tiny_root(tmp_path)
    rng = np.random.default_rng(1)
    data = paired_sites(tmp_path)
    example = data.training_example(rng, 0.0)
    assert example.sensors["iq"].shape == (8192, 2)
    assert 96 <= example.sensors["image"].shape[0] == example.sensors["image"].shape[1] <= 128


def test_absent_root_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match="name the data folder that holds rf_ism433"):
        paired_sites(tmp_path / "nowhere")


@pytest.mark.parametrize("modality", [IQ, ModalitySpec(name="thermal", recipe=IMAGE.recipe, feature_size=2)])
def test_modality_that_the_pairs_do_not_deliver_is_refused(tmp_path, modality):
    write_tiny_root(tmp_path)
    with pytest.raises(ConfigError, match="UAVPair-7 delivers `image` of kind image, and `iq`"):
        open_data_set(UavPair7Data(root=str(tmp_path)), (modality, IMAGE))


def test_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="preset 'medium': known are easy, mid"):
        parse_yaml(b"kind: uavpair7\npreset: medium\n", UavPair7Data, "run.yaml")


def test_synthetic_validation_is_the_same_every_time_and_balanced():
    data = open_data_set(SyntheticData(validation_examples=16), (SITE_IQ, IMAGE))
    first, second = list(data.validation_examples()), list(data.validation_examples())
    assert np.bincount([example.label for example in first]).tolist() == [2] * 8
    np.testing.assert_array_equal(first[9].sensors["iq"], second[9].sensors["iq"])
    assert first[0].sensors["iq"].shape == (512, 2)


def test_synthetic_sites_refuse_a_modality_that_they_do_not_deliver():
    thermal = ModalitySpec(name="thermal", recipe=IMAGE.recipe, feature_size=2)
    with pytest.raises(ConfigError, match="the synthetic sites deliver iq and image"):
        open_data_set(SyntheticData(), (SITE_IQ, thermal))


@pytest.mark.parametrize(
    "recipe",
    [
        IqRecipe(window_samples=128, sample_rate_hz=1000),
        ImageRecipe(height_px=16, width_px=16),
        VectorRecipe(values=9, mean=(3.0,), std=(2.0,)),
    ],
)
def test_outliers_are_finite_and_of_the_recipes_shape(recipe):
    rng = np.random.default_rng(1)
    outliers = [draw_outlier(recipe, rng) for _ in range(100)]
    assert all(one.shape == recipe.input_shape and np.isfinite(one).all() for one in outliers)
    assert len({one.tobytes() for one in outliers}) > 80


def test_some_outliers_are_overexposed_and_some_stuck():
    recipe, rng = ImageRecipe(height_px=64, width_px=64), np.random.default_rng(1)
    frames = [draw_outlier(recipe, rng) for _ in range(200)]
    white = (1 - recipe.mean[0]) / recipe.std[0]
    burnt = [frame for frame in frames if 0.8 < (frame > white - 0.05).mean() < 0.995 and frame.min() < white - 0.5]
    assert len(burnt) > 5
    across = [sorted(float(frame.std(axis=axis).mean()) for axis in (1, 2)) for frame in frames]
    assert sum(low < 0.3 * high > 0.24 for low, high in across) > 10


def test_some_radio_outliers_repeat_their_beginning():
    recipe, rng = IqRecipe(window_samples=64, sample_rate_hz=1000), np.random.default_rng(1)
    windows = [draw_outlier(recipe, rng) for _ in range(200)]
    repeated = [
        one
        for one in windows
        if one.any() and any(np.allclose(one[:, n:], one[:, :-n], atol=1e-5) for n in range(2, 8))
    ]
    assert 3 < len(repeated) < 40


def test_prepared_inputs_are_normalised(tmp_path):
    write_tiny_root(tmp_path)
    data = paired_sites(tmp_path)
    from models.spec import ModelSpec

    spec = ModelSpec(classes=data.classes, modalities=(PAIR_IQ, IMAGE))
    inputs, labels = prepare(list(data.validation_examples()), spec)
    assert inputs["iq"].shape == (7, 2, 8192)
    assert inputs["image"].shape == (7, 3, 8, 8)
    assert np.mean((inputs["iq"] ** 2).sum(axis=1)) == pytest.approx(1.0, abs=1e-3)
    assert labels.tolist() == list(range(7))


def test_prefetching_keeps_the_order_and_hands_errors_on():
    assert list(prefetched(lambda n: n * n, 7)) == [0, 1, 4, 9, 16, 25, 36]
    assert list(prefetched(lambda n: n, 0)) == []

    def fail_at_two(n):
        if n == 2:
            raise InputError("two")
        return n

    with pytest.raises(InputError, match="two"):
        list(prefetched(fail_at_two, 5))

import math
from typing import Any

import pytest

from models.spec import FusionSpec, ImageRecipe, IqRecipe, ModalitySpec, ModelSpec

IQ = ModalitySpec(name="iq", recipe=IqRecipe(window_samples=1024, sample_rate_hz=250_000), feature_size=64)
IMAGE = ModalitySpec(name="image", recipe=ImageRecipe(height_px=48, width_px=64), feature_size=96)
INFRARED = ModalitySpec(name="infrared", recipe=ImageRecipe(height_px=32, width_px=32), feature_size=32)


def test_modalities_keep_the_order_they_were_given_in() -> None:
    spec = ModelSpec(classes=("a", "b"), modalities=(IMAGE, INFRARED, IQ))
    assert spec.modality_names == ("image", "infrared", "iq")
    assert spec.modality("iq") is IQ


def test_an_unknown_modality_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="sonar"):
        ModelSpec(classes=("a", "b"), modalities=(IQ, IMAGE)).modality("sonar")


def test_input_shapes_are_channels_first() -> None:
    assert IQ.recipe.input_shape == (2, 1024)
    assert IMAGE.recipe.input_shape == (3, 48, 64)


@pytest.mark.parametrize("name", ["", "1q", "i q", "../iq", "é", "fusion", "iq.onnx"])
def test_a_name_that_could_not_name_a_file_or_graph_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        ModalitySpec(name=name, recipe=IQ.recipe, feature_size=1)


@pytest.mark.parametrize("feature_size", [0, -1, 4097])
def test_a_feature_size_out_of_range_is_refused(feature_size: int) -> None:
    with pytest.raises(ValueError, match=f"feature_size is {feature_size}"):
        ModalitySpec(name="iq", recipe=IQ.recipe, feature_size=feature_size)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ("a",)},
        {"classes": ("a", "a")},
        {"classes": tuple(str(n) for n in range(257))},
        {"modalities": (IQ,)},
        {"modalities": (IQ, IQ)},
        {"modalities": tuple(ModalitySpec(name=f"m{n}", recipe=IQ.recipe, feature_size=1) for n in range(17))},
        {"fusion": FusionSpec(floor=0.4), "modalities": (IQ, IMAGE, INFRARED)},
    ],
)
def test_a_model_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ModelSpec(**({"classes": ("a", "b"), "modalities": (IQ, IMAGE)} | change))


@pytest.mark.parametrize("tau", [0.0, -0.1, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_and_finite_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match="tau is"):
        FusionSpec(tau=tau)


@pytest.mark.parametrize("floor", [-0.1, 0.5, math.nan])
def test_a_floor_that_leaves_no_room_for_weights_is_refused(floor: float) -> None:
    with pytest.raises(ValueError, match="floor is"):
        FusionSpec(floor=floor)


@pytest.mark.parametrize("given", [{"hidden": -1}, {"hidden": 5000}, {"hidden": 8, "method": "poe"}])
def test_a_hidden_layer_that_cannot_be_is_refused(given: dict) -> None:
    with pytest.raises(ValueError, match=f"hidden is {given['hidden']}"):
        FusionSpec(**given)


@pytest.mark.parametrize(
    "change",
    [
        {"height_px": 7},
        {"width_px": 2049},
        {"std": (0.25, 0.0, 0.25)},
        {"std": (0.25, math.nan, 0.25)},
        {"std": (0.25, math.inf, 0.25)},
        {"mean": (0.5, math.nan, 0.5)},
    ],
)
def test_an_image_recipe_that_cannot_be_computed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ImageRecipe(**({"height_px": 48, "width_px": 64} | change))


@pytest.mark.parametrize("change", [{"window_samples": 15}, {"window_samples": 2**20 + 1}, {"sample_rate_hz": 0}])
def test_an_iq_recipe_out_of_range_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        IqRecipe(**({"window_samples": 1024, "sample_rate_hz": 250_000} | change))


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        IQ.name = "other"  # type: ignore[misc]

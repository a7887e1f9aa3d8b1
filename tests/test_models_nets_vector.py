"""Vectors: modalities that are a row of numbers, from the recipe to the network."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import IQ, tiny_spec

from models.errors import ConfigError, InputError
from models.nets.multimodal import MultimodalNet
from models.nets.sizes import BranchSizes
from models.preprocess import preprocess
from models.schema import dump_yaml, parse_yaml
from models.spec import ModalitySpec, VectorRecipe

ROUNDING = 1e-6

BANDS = ModalitySpec(name="bands", recipe=VectorRecipe(values=5, mean=(0.5,), std=(0.25,)), feature_size=6)
FLAT = BranchSizes(widths=(32, 24), strides=(1, 1))


def prepared(row, recipe):
    out = np.full(recipe.input_shape, np.nan, np.float32)
    preprocess(row, recipe, out)
    return out


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=3))
def test_row_is_standardised_by_one_mean_for_all_or_by_one_for_each(row):
    one = prepared(np.array(row), VectorRecipe(values=3, mean=(2.0,), std=(4.0,)))
    each = prepared(np.array(row, np.float32), VectorRecipe(values=3, mean=(2.0, 2.0, 2.0), std=(4.0, 4.0, 8.0)))
    expected = (np.array(row) - 2) / 4
    np.testing.assert_allclose(one[:, 0], expected, rtol=1e-5, atol=ROUNDING)
    np.testing.assert_allclose(each[:, 0], expected / (1, 1, 2), rtol=1e-5, atol=ROUNDING)


def test_integers_are_standardised_without_wrapping_round():
    found = prepared(np.array([0, 128, 255], np.uint8), VectorRecipe(values=3, mean=(128.0,)))
    assert found[:, 0].tolist() == [-128, 0, 127]


@pytest.mark.parametrize("shape", [(4,), (3, 1), (1, 3), ()])
def test_row_of_another_shape_is_refused(shape):
    with pytest.raises(InputError, match=r"expected \(3,\) into \(3, 1\)"):
        prepared(np.zeros(shape), VectorRecipe(values=3))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("values: 0", "values is 0: expected 1 to 4096"),
        ("values: 4097", "values is 4097"),
        ("values: 3\nmean: [0.0, 1.0]", "2 numbers in mean: expected 1 or 3"),
        ("values: 3\nstd: []", "0 numbers in std"),
        ("values: 3\nmean: [.nan]", "finite"),
        ("values: 3\nstd: [0.0]", "std: expected positive values"),
        ("values: '3'", "values: expected int"),
        ("values: 3\nbands: 3", "bands"),
        ("mean: [0.0]", "values"),
    ],
)
def test_recipe_that_cannot_be_is_refused_at_its_line(line, message):
    with pytest.raises(ConfigError, match=message):
        parse_yaml(f"kind: vector\n{line}\n".encode(), VectorRecipe, "run.yaml")


def test_modality_of_a_vector_survives_yaml():
    assert parse_yaml(dump_yaml(BANDS), ModalitySpec, "spec.yaml") == BANDS


def test_network_answers_about_vectors_row_by_row():
    spec = tiny_spec(modalities=(IQ, BANDS))
    torch.manual_seed(1)
    network = MultimodalNet(spec, {"iq": BranchSizes(widths=(4, 6), strides=(2, 2)), "bands": FLAT}).eval()
    inputs = {"iq": torch.randn(4, 2, 64), "bands": torch.randn(4, 5, 1)}
    with torch.no_grad():
        whole = network(inputs)
        last = network({name: value[3:] for name, value in inputs.items()})
    assert whole.features["bands"].shape == (4, 6)
    assert whole.logits.shape == (4, 3)
    torch.testing.assert_close(whole.branch_logits["bands"][3:], last.branch_logits["bands"])
    assert len(whole.branch_logits["bands"].unique(dim=0)) == 4


def test_strides_over_a_vector_are_refused():
    spec = tiny_spec(modalities=(IQ, BANDS))
    with pytest.raises(ConfigError, match=r"sizes of bands: strides \(2, 2\) over a vector: expected 1"):
        MultimodalNet(spec, {name: BranchSizes(widths=(4, 6), strides=(2, 2)) for name in spec.modality_names})

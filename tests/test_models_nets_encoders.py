"""How an encoder computes is the trainer's choice; what it answers and learns is not."""

import copy

import pytest
import torch
from training import SPECTRUM, tiny_spec

from models.nets.encoders import Branch, Normalisation
from models.nets.sizes import BranchSizes
from models.spec import ModalitySpec, VectorRecipe

FLOAT_ROUNDING = {"rtol": 1e-4, "atol": 1e-5}
ROW = ModalitySpec(name="row", recipe=VectorRecipe(values=7), feature_size=5)


def branch_of(name):
    """Return a fresh branch without dropout, and the shape of its input."""
    modality = {"spectrum": SPECTRUM, "row": ROW, **{one.name: one for one in tiny_spec().modalities}}[name]
    stride = 1 if name == "row" else 2
    torch.manual_seed(1)
    branch = Branch(modality, BranchSizes(widths=(4, 6), strides=(stride, stride), dropout=0.0), classes=3)
    return branch, modality.recipe.input_shape


@pytest.mark.parametrize("name", ["iq", "spectrum", "image", "row"])
def test_channels_last_gives_the_same_answers_gradients_and_statistics(name):
    plain, shape = branch_of(name)
    last = copy.deepcopy(plain)
    last.is_channels_last = True
    inputs = torch.randn(12, *shape, generator=torch.Generator().manual_seed(2))
    for branch in (plain, last):
        branch.train()
        feature, logits = branch(inputs)
        (feature.square().sum() + logits.sum()).backward()
        branch.eval()
    for one, other in zip(plain(inputs), last(inputs), strict=True):
        torch.testing.assert_close(one, other, **FLOAT_ROUNDING)
    for one, other in zip(plain.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)
    assert plain.state_dict().keys() == last.state_dict().keys()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(value, last.state_dict()[key], **FLOAT_ROUNDING)
        assert last.state_dict()[key].is_contiguous()


def test_normalisation_refuses_other_shapes():
    with pytest.raises(ValueError, match="2 dimensions: expected 3 or 4"):
        Normalisation(4)(torch.zeros(3, 4))

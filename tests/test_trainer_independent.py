import pytest
import torch
from training import Tones, tiny_network, tiny_spec

from trainer.methods.gradients import gradients_of
from trainer.methods.independent import Independent
from trainer.methods.losses import compute_losses
from trainer.training.batches import BatchMaker


def train(fusion):
    """Take one step's gradients; return the network and the losses that they should come from."""
    network = tiny_network(tiny_spec(fusion))
    batches = BatchMaker(data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=0.25)
    batch = batches.training(0, 0, 0.0)
    Independent(network, 3).backward(batch)  # in evaluation mode: the same features in every pass
    return network, compute_losses(network, batch)


@pytest.mark.parametrize("fusion", ["iemf", "concat", "mean"])
@pytest.mark.parametrize("name", ["iq", "image"])
def test_branch_learns_from_its_own_loss_alone(fusion, name):
    network, losses = train(fusion)
    parameters = list(network.branch(name).parameters())
    for parameter, gradient in zip(parameters, gradients_of(losses.branches[name], parameters), strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_fusion_with_weights_learns_beside():
    network, losses = train("iemf")
    parameters = list(network.fusion.parameters())
    for parameter, gradient in zip(parameters, gradients_of(losses.fused, parameters), strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
        assert gradient.abs().max() > 0


def test_the_budget_is_that_of_joint_training():
    assert Independent(tiny_network(tiny_spec()), 7).epochs == 7

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from training import IMAGE, IQ, THERMAL, Tones, tiny_network, tiny_spec

from trainer.methods.gradients import gradients_of
from trainer.methods.losses import compute_losses
from trainer.methods.reconboost import ReconBoost, ReconBoostConfig, disagreement, divergence, plan_epochs
from trainer.training.batches import BatchMaker

FIRST, SECOND = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.1, 0.6, 0.3]])


def set_up(fusion="concat", **knobs):
    network = tiny_network(tiny_spec(fusion))
    batches = BatchMaker(data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=0.25)
    return network, ReconBoost(network, 8, ReconBoostConfig(**knobs)), batches.training(0, 0, 0.0)


def gradients_in(network, method, batch, epoch):
    """Take the gradients of one step of an epoch, in evaluation mode: the same features in every pass."""
    method.begin_epoch(epoch, lambda count: [])
    network.eval()
    method.backward(batch)
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def assert_gradients(network, found, part, loss):
    names, parameters = zip(*((n, p) for n, p in network.named_parameters() if n.startswith(part)), strict=True)
    for name, gradient in zip(names, gradients_of(loss, parameters), strict=True):
        torch.testing.assert_close(found[name], gradient)


def test_every_branch_starts_alone_and_stages_end_together():
    stages = ["iq", "iq", None, None, "image", "image", None, None]
    assert plan_epochs(("iq", "image"), 8, ReconBoostConfig()) == ["iq", "iq", "image", "image", *stages]
    assert plan_epochs(("iq", "image"), 15, ReconBoostConfig()) == ["iq"] * 3 + ["image"] * 3 + 2 * stages


@pytest.mark.parametrize("epochs", [1, 2, 5, 20])
@pytest.mark.parametrize("names", [("iq", "image"), ("iq", "image", "thermal")])
def test_every_branch_gets_as_many_updates_as_in_joint_training(names, epochs):
    plan = plan_epochs(names, epochs, ReconBoostConfig(alone_epochs=3, together_epochs=2))
    assert [sum(one in (None, name) for one in plan) for name in names] == [epochs] * len(names)


def test_divergence_holds_on_numbers_worked_by_hand():
    expected = 0.5 * math.log(5) + 0.3 * math.log(0.5) + 0.2 * math.log(2 / 3)
    assert divergence(FIRST.log() + 3, SECOND.log()).item() == pytest.approx(expected, rel=1e-5)


def test_disagreement_holds_on_numbers_worked_by_hand():
    assert disagreement(FIRST.log(), SECOND.log() - 2).item() == pytest.approx(0.16 + 0.09 + 0.01, rel=1e-5)


def test_full_reconcilement_is_the_negative_gradient_of_the_others():
    logits = SECOND.log().requires_grad_()
    (cross_entropy(logits, torch.tensor([1])) - divergence(FIRST.log(), logits)).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.5, 0.3 - 1, 0.2]]))


def test_first_branch_learns_as_if_alone():
    network, method, batch = set_up()
    assert method.begin_epoch(0, lambda count: []) == "alone:iq"
    found = gradients_in(network, method, batch, 0)
    assert_gradients(network, found, "branches.iq", compute_losses(network, batch).branches["iq"])
    assert all(gradient is None for name, gradient in found.items() if "branches.image" in name)


def test_later_branch_turns_to_what_the_others_get_wrong():
    network, method, batch = set_up(reconcilement=0.4, consolidation=0.7)
    epoch = len(method._plan) - 3
    assert method.begin_epoch(epoch, lambda count: []) == "alone:image"
    found = gradients_in(network, method, batch, epoch)
    losses = compute_losses(network, batch)
    iq, image = losses.answer.branch_logits["iq"].detach(), losses.answer.branch_logits["image"]
    loss = losses.branches["image"] - 0.4 * divergence(iq, image) + 0.7 * disagreement(image, iq)
    assert_gradients(network, found, "branches.image", loss)
    assert all(gradient is None for name, gradient in found.items() if "branches.iq" in name)


def test_together_all_branches_learn_from_their_sum():
    network, method, batch = set_up()
    assert method.begin_epoch(method.epochs - 1, lambda count: []) == "together"
    found = gradients_in(network, method, batch, method.epochs - 1)
    losses = compute_losses(network, batch)
    logits = losses.answer.branch_logits
    total = batch.mask[:, :1] * logits["iq"] + batch.mask[:, 1:] * logits["image"]
    loss = cross_entropy(total, batch.labels) + losses.doubts["iq"] + losses.doubts["image"]
    assert losses.doubts["iq"] > 0
    assert_gradients(network, found, "branches", loss)


@pytest.mark.parametrize("epoch", [0, 11])
def test_fusion_with_weights_learns_beside_all_the_time(epoch):
    network, method, batch = set_up("iemf")
    found = gradients_in(network, method, batch, epoch)
    assert_gradients(network, found, "fusion", compute_losses(network, batch).fused)


def test_resting_branches_hold_their_statistics():
    network, method, batch = set_up()
    before = {name: value.clone() for name, value in network.branch("image").state_dict().items()}
    method.begin_epoch(0, lambda count: [])
    method.backward(batch)
    assert all(torch.equal(value, before[name]) for name, value in network.branch("image").state_dict().items())


def test_consolidation_looks_back_one_stage_among_three():
    network = tiny_network(tiny_spec("poe", (IQ, IMAGE, THERMAL)))
    method = ReconBoost(network, 12, ReconBoostConfig())
    method.begin_epoch(method.epochs - 3, lambda count: [])
    assert (method._active, method._before, method._others) == ("thermal", "image", ["iq", "image"])

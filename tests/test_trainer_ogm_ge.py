import math

import pytest
import torch
from training import Tones, tiny_network, tiny_spec

from trainer.methods.dominance import leads, true_class_confidences
from trainer.methods.joint import Joint
from trainer.methods.ogm_ge import OgmGe, OgmGeConfig, convolution_weights, slowdown
from trainer.training.batches import BatchMaker


def gradients(make, logits_of_image=None):
    """Return a network after a backward pass, its image head biased where told."""
    network = tiny_network(tiny_spec("concat"))
    batch = BatchMaker(
        data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0.0, outlier_share=0.0
    ).training(0, 0, 0.0)
    if logits_of_image is not None:
        with torch.no_grad():
            network.branch("image").head.weight.zero_()
            network.branch("image").head.bias.copy_(logits_of_image)
    batch.labels.fill_(0)
    make(network).backward(batch)
    return network


def modulated(**knobs):
    return lambda network: OgmGe(network, 1, OgmGeConfig(**knobs))


def test_a_modality_leads_by_its_confidence_over_the_mean_of_the_others():
    assert leads({"iq": 3.0, "image": 6.0}) == {"iq": 0.5, "image": 2.0}
    assert leads({"a": 1.0, "b": 2.0, "c": 3.0}) == {"a": 0.4, "b": 1.0, "c": 2.0}
    assert math.isfinite(leads({"iq": 0.0, "image": 0.0})["iq"])


def test_confidence_sums_the_true_classes_probabilities():
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]).log() + 5
    found = true_class_confidences({"iq": logits}, torch.tensor([0, 2]))
    assert found["iq"] == pytest.approx(0.7 + 0.4, abs=1e-6)


def test_only_a_leading_modality_is_slowed():
    assert slowdown(2.0, 0.5) == pytest.approx(1 - math.tanh(1.0))
    assert slowdown(1.0, 0.5) == 1.0
    assert slowdown(0.5, 0.5) == 1.0


def test_convolutions_of_the_leading_branch_get_the_fraction_that_known_probabilities_give():
    certain = torch.tensor([5.0, 0.0, 0.0])  # the image says class 0, and class 0 it is
    plain, slowed = (
        gradients(make, certain) for make in (lambda network: Joint(network, 1), modulated(alpha=0.5, is_noisy=False))
    )
    network = tiny_network(tiny_spec("concat"))
    batch = BatchMaker(
        data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0.0, outlier_share=0.0
    ).training(0, 0, 0.0)
    with torch.no_grad():
        iq = torch.softmax(network.branch("iq")(batch.inputs["iq"])[1], dim=1)[:, 0].mean().item()
    rho = torch.softmax(certain, dim=0)[0].item() / iq
    factor = 1 - math.tanh(0.5 * rho)
    assert factor < 0.5
    pairs = zip(convolution_weights(plain.branch("image")), convolution_weights(slowed.branch("image")), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(other.grad, factor * one.grad)
    for name, parameter in plain.named_parameters():
        if not name.startswith("branches.image.layers") or parameter.dim() == 1:
            torch.testing.assert_close(dict(slowed.named_parameters())[name].grad, parameter.grad)


def test_noise_has_the_gradients_own_spread():
    plain = gradients(modulated(alpha=0.0, is_noisy=False))
    weight = convolution_weights(plain.branch("image"))[-1]
    draws = []
    for seed in range(20):
        noisy = gradients(lambda network, seed=seed: (torch.manual_seed(seed), modulated(alpha=0.0)(network))[1])
        draws.append(convolution_weights(noisy.branch("image"))[-1].grad - weight.grad)
    ratio = torch.stack(draws).std() / weight.grad.std(correction=0)
    assert ratio.item() == pytest.approx(1.0, abs=0.1)


def test_after_its_time_the_gradients_are_those_of_joint_training():
    def ended(network):
        method = OgmGe(network, 4, OgmGeConfig(until=0.5))
        assert [method.begin_epoch(epoch, lambda count: []) for epoch in range(4)] == ["ogm_ge"] * 2 + ["joint"] * 2
        network.eval()
        return method

    plain, found = gradients(lambda network: Joint(network, 1)), gradients(ended)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(dict(found.named_parameters())[name].grad, parameter.grad)

import torch
from training import Tones, tiny_network, tiny_spec

from trainer.methods.aux import Aux, AuxConfig
from trainer.methods.gradients import gradients_of
from trainer.methods.losses import compute_losses
from trainer.training.batches import BatchMaker


def test_an_encoder_moves_by_the_fused_and_its_weighted_own_loss():
    network = tiny_network(tiny_spec("concat"))
    data = Tones()
    batch = BatchMaker(
        data=data, spec=network.spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=0.25
    ).training(0, 0, 0.0)
    Aux(network, 1, AuxConfig(own_loss_weight=0.5)).backward(batch)
    encoder = network.branch("iq").encoder_parameters()
    found = [parameter.grad for parameter in encoder]
    losses = compute_losses(network, batch)
    expected = [
        fused + 0.5 * own
        for fused, own in zip(
            gradients_of(losses.fused, encoder), gradients_of(losses.branches["iq"], encoder), strict=True
        )
    ]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert network.branch("iq").head.weight.grad is not None

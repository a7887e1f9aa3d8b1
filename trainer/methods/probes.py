"""Heads that read without moving what they read: what a branch could answer, for methods that train by other losses."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from models.nets.multimodal import MultimodalNet
from trainer.methods.losses import Losses


def probe_loss(network: MultimodalNet, losses: Losses, labels: Tensor) -> Tensor:
    """Return the loss of every branch's head on its detached feature (a linear probe), summed."""
    probes = [
        cross_entropy(network.branch(name).head(feature.detach()), labels)
        for name, feature in losses.answer.features.items()
    ]
    return sum(probes[1:], probes[0])

"""Alternating unimodal adaptation: one modality per batch, all through one head whose gradient spares what it knows.

Batch t trains the encoder of modality m_t and the head shared by all modalities on that modality's own loss. With h the
mean feature of the batch before and P the projector, which starts as the identity:

    P  <- P - (P h)(P h)^T / (alpha + h^T P h)      recursive least squares
    dW <- dW P

so that the head's answers on the features it saw before change little.

Source: Zhang et al., "Multimodal representation learning by alternating unimodal adaptation" (CVPR 2024); its weights
at test time are the fusion form `entropy`. Ours: P starts anew with each epoch, since the encoders move on and a
projector that never forgets ends by holding the head still; any other fusion form learns from detached features beside;
Adam scales each weight of the projected gradient, which turns it back a little towards what was blocked.
"""

from typing import Any

import msgspec
import torch
from torch import Tensor

from models.errors import ConfigError
from models.nets.multimodal import MultimodalNet
from trainer.methods.losses import compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport


class MlaConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="mla"):
    """How firmly the head keeps what it knows."""

    alpha: float = 0.1
    """Damping of the projector: a small one blocks a seen direction at once."""

    def __post_init__(self) -> None:
        if not 1e-6 <= self.alpha <= 1e6:
            raise ValueError(f"alpha is {self.alpha}: expected 1e-6 to 1e6")


class Mla:
    """One modality at a time; the branches' heads are copies of one, and get the same gradients."""

    def __init__(self, network: MultimodalNet, epochs: int, config: MlaConfig) -> None:
        """Make all heads equal.

        Raises:
            ConfigError: features of differing sizes cannot share a head.
        """
        sizes = {one.name: one.feature_size for one in network.spec.modalities}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ConfigError(f"method mla: feature_size is {listed}: expected one size, since all share one head")
        self.network = network
        self.epochs = epochs * len(sizes)  # a batch trains one branch: the same number of updates for each
        self.config = config
        self.turn = 0
        self._names = network.spec.modality_names
        self._width = next(iter(sizes.values()))
        self._projector = torch.eye(self._width)
        self._seen: Tensor | None = None
        first = network.branch(self._names[0]).head.state_dict()
        for name in self._names[1:]:
            network.branch(name).head.load_state_dict(first)

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Train everything, with a projector that blocks nothing yet."""
        self.network.train()
        self._projector = torch.eye(self._width, device=next(self.network.parameters()).device)
        self._seen = None
        return "mla"

    def backward(self, batch: Batch) -> StepReport:
        """Leave gradients for one branch, for the shared head, and for the fusion head on detached inputs."""
        active = self._names[self.turn % len(self._names)]
        self.turn += 1
        for name in self._names:
            self.network.branch(name).train(self.network.training and name == active)
        others = [name for name in self._names if name != active]
        losses = compute_losses(self.network, batch, others, is_fused_beside=True)
        (losses.branches[active] + losses.fused).backward()  # type: ignore[no-untyped-call]
        self._share_head_gradient(active, losses.answer.features[active].detach().mean(dim=0))
        return losses.report(batch.labels)

    def state(self) -> dict[str, Any]:
        """Return whose turn it is."""
        return {"turn": self.turn}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up whose turn it is."""
        self.turn = int(state["turn"])

    def _share_head_gradient(self, active: str, mean_feature: Tensor) -> None:
        """Project the active head's gradient and give it to all heads; then remember this batch."""
        if self._seen is not None:
            self._projector = without(self._projector, self._seen, self.config.alpha)
        self._seen = mean_feature
        own = self.network.branch(active).head
        weight, bias = own.weight.grad, own.bias.grad
        if weight is None or bias is None:
            return
        projected = weight @ self._projector
        for name in self._names:
            head = self.network.branch(name).head
            head.weight.grad, head.bias.grad = projected.clone(), bias.clone()


def without(projector: Tensor, feature: Tensor, alpha: float) -> Tensor:
    """Return the projector (D, D) with the direction of a feature (D,) blocked, all the more the smaller alpha is."""
    seen = projector @ feature
    return projector - torch.outer(seen, seen) / (alpha + feature @ seen)

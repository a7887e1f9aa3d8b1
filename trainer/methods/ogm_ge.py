"""On-the-fly gradient modulation with generalisation enhancement: the modality that is ahead learns more slowly.

    s_m   = sum over the batch of the true class's probability by modality m
    rho_m = s_m / mean of the others' s
    k_m   = 1 - tanh(alpha * rho_m) where rho_m > 1, else 1
    g_m  <- k_m * g_m + h,   h ~ N(0, var(g_m)), for the weights of convolutions

Source: Peng et al., "Balanced multimodal learning via on-the-fly gradient modulation" (CVPR 2022). There s_m comes from
modality m's slice of a dense layer over concatenated features; here from the branch's own head, a linear probe that
moves no encoder, so that any fusion can be trained. Adam undoes a factor that stays the same from step to step.
"""

import math
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from models.nets.encoders import Branch
from models.nets.multimodal import MultimodalNet
from trainer.methods.dominance import leads, true_class_confidences
from trainer.methods.losses import compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport
from trainer.methods.probes import probe_loss


class OgmGeConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="ogm_ge"
):
    """How hard the leading modality is held back."""

    alpha: float = 0.3
    """Steepness of the modulation."""
    is_noisy: bool = True
    """Whether noise is added: smaller gradients alone mean less noise of the batches, which generalises worse."""
    until: float = 1.0
    """Part of the epochs after which the gradients are left alone."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 10 or not 0 <= self.until <= 1:
            raise ValueError("expected alpha 0 to 10 and until 0 to 1")


class OgmGe:
    """Joint training whose gradients are modulated on the fly."""

    def __init__(self, network: MultimodalNet, epochs: int, config: OgmGeConfig) -> None:
        self.network = network
        self.epochs = epochs
        self.config = config
        self._is_modulating = True

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Train everything."""
        self.network.train()
        self._is_modulating = epoch < self.config.until * self.epochs
        return "ogm_ge" if self._is_modulating else "joint"

    def backward(self, batch: Batch) -> StepReport:
        """Back-propagate the fused loss, then slow the convolutions of the modalities that are ahead."""
        losses = compute_losses(self.network, batch, sees_outliers=False)
        (losses.fused + probe_loss(self.network, losses, batch.labels)).backward()  # type: ignore[no-untyped-call]
        if self._is_modulating:
            ahead = leads(true_class_confidences(losses.answer.branch_logits, batch.labels))
            for name, rho in ahead.items():
                self._modulate(self.network.branch(name), slowdown(rho, self.config.alpha))
        return losses.report(batch.labels)

    def state(self) -> dict[str, Any]:
        """Return nothing: there is no state."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""

    def _modulate(self, branch: Branch, factor: float) -> None:
        for weight in convolution_weights(branch):
            if weight.grad is None:
                continue
            gradient = weight.grad
            weight.grad = factor * gradient
            if self.config.is_noisy:
                weight.grad += gradient.std(correction=0) * torch.randn_like(gradient)


def slowdown(rho: float, alpha: float) -> float:
    """Return the factor k of a modality's gradient."""
    return 1 - math.tanh(alpha * rho) if rho > 1 else 1.0


def convolution_weights(branch: Branch) -> list[Tensor]:
    """Return the weights of a branch's convolutions."""
    return [layer.weight for layer in branch.modules() if isinstance(layer, nn.Conv1d | nn.Conv2d)]

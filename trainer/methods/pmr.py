"""Prototypical modality rebalance: class prototypes speed up the slow modality and, early on, hold back the fast one.

With c_k the mean feature of class k by modality, taken at the start of an epoch, and d the Euclidean distance:

    p_m(k | f)  = softmax_k(-d(f_m, c_k))                      rho_m = lead of modality m, from p_m of the true class
    loss        = L_fused
                + alpha * clip(1 / rho_m - 1, 0, 1) * CE(p_m, y)    for modalities behind
                - mu    * clip(rho_m - 1, 0, 1)     * H(p_m)        for modalities ahead, in the first epochs

Prototypes need no head, so a modality is judged and trained apart from the fusion.

Source: Fan et al., "PMR: prototypical modal rebalance for multimodal learning" (CVPR 2023). Prototypes come from a few
batches without dropout, the same in every epoch; classes that do not occur there have none, and their examples pull at
nothing.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from models.nets.multimodal import MultimodalNet
from trainer.methods.dominance import leads, true_class_confidences
from trainer.methods.losses import compute_losses
from trainer.methods.method import Batch, ProbeBatches, StepReport
from trainer.methods.probes import probe_loss

_FAR = 1e9  # distance of a class without a prototype: its probability is 0


class PmrConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="pmr"):
    """How hard the modalities are pulled together."""

    alpha: float = 1.0
    """Of the prototype loss, for modalities behind."""
    mu: float = 1.0
    """Of the entropy, for modalities ahead."""
    entropy_share: float = 0.2
    """First part of the epochs, in which modalities ahead are held back."""
    prototype_batches: int = 8

    def __post_init__(self) -> None:
        if not (0 <= self.alpha <= 100 and 0 <= self.mu <= 100 and 0 <= self.entropy_share <= 1):
            raise ValueError("expected alpha and mu 0 to 100 and entropy_share 0 to 1")
        if self.prototype_batches < 1:
            raise ValueError(f"prototype_batches is {self.prototype_batches}: expected 1 or more")


class Pmr:
    """Joint training with prototypes at its side."""

    def __init__(self, network: MultimodalNet, epochs: int, config: PmrConfig) -> None:
        self.network = network
        self.epochs = epochs
        self.config = config
        self._prototypes: dict[str, Tensor] = {}
        self._is_present = torch.zeros(0, dtype=torch.bool)
        self._is_early = True

    def begin_epoch(self, epoch: int, probe: ProbeBatches) -> str:
        """Take prototypes, then train everything."""
        self._take_prototypes(probe(self.config.prototype_batches))
        self.network.train()
        self._is_early = epoch < self.config.entropy_share * self.epochs
        return "pmr:entropy" if self._is_early else "pmr"

    def backward(self, batch: Batch) -> StepReport:
        """Back-propagate the fused loss and what pulls the modalities together."""
        losses = compute_losses(self.network, batch, sees_outliers=False)
        scores = {
            name: prototype_scores(feature, self._prototypes[name], self._is_present)
            for name, feature in losses.answer.features.items()
        }
        total = losses.fused + probe_loss(self.network, losses, batch.labels)
        (total + self._rebalance(scores, batch.labels)).backward()  # type: ignore[no-untyped-call]
        return losses.report(batch.labels)

    def state(self) -> dict[str, Any]:
        """Return nothing: each epoch takes its prototypes anew."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing: each epoch takes its prototypes anew."""

    def _rebalance(self, scores: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return the prototype loss of modalities behind less the entropy of those ahead."""
        known = self._is_present[labels]
        ahead = leads(true_class_confidences({name: one[known] for name, one in scores.items()}, labels[known]))
        total = labels.new_zeros((), dtype=torch.float32)
        if not known.any():
            return total
        for name, rho in ahead.items():
            log_probs = torch.log_softmax(scores[name], dim=1)
            total = total + self.config.alpha * push(rho) * nll_loss(log_probs[known], labels[known])
            if self._is_early:
                entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
                total = total - self.config.mu * hold(rho) * entropy
        return total

    def _take_prototypes(self, batches: Sequence[Batch]) -> None:
        """Average the features of each class, in evaluation mode."""
        self.network.eval()
        labels = torch.cat([batch.labels for batch in batches])
        classes = len(self.network.spec.classes)
        self._is_present = torch.bincount(labels, minlength=classes) > 0
        with torch.no_grad():
            for name in self.network.spec.modality_names:
                features = torch.cat([self.network.branch(name)(batch.inputs[name])[0] for batch in batches])
                self._prototypes[name] = class_means(features, labels, classes)


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the mean feature of each class, (classes, D); 0 for a class that does not occur."""
    sums = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, features)
    return sums / torch.bincount(labels, minlength=classes).clamp(min=1)[:, None]


def prototype_scores(features: Tensor, prototypes: Tensor, is_present: Tensor) -> Tensor:
    """Return minus the distance of features (batch, D) to prototypes (classes, D), (batch, classes)."""
    distances = torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.where(is_present, -distances, -_FAR)


def push(rho: float) -> float:
    """Return how much a modality is to be sped up: 0 for one ahead, 1 for one at half the others or less."""
    return min(1.0, max(0.0, 1 / max(rho, 1e-12) - 1))


def hold(rho: float) -> float:
    """Return how much a modality is to be held back: 0 for one behind, 1 for one at twice the others or more."""
    return min(1.0, max(0.0, rho - 1))

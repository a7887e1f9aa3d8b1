"""Fusion heads: features and logits of every modality and a mask in; logits, weights and entropies out.

The mask holds 0 for an absent modality, 1 for a healthy one, and anything between for a degraded one. Everything is
arithmetic: no branch on data, no boolean index, so that a graph of fixed shape flies.

Source: after Wang, Xu, Lin, "Gradient-consistency multimodal training and information-entropy fusion", IEEE JSTARS 18
(2025), of which only the abstract was available: the formulas are ours.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.spec import ModelSpec

TINY = 1e-9  # keeps a division by no available modality at 0
_ABSENT_SCORE = -1e4  # below any score, so that an absent modality never sets the scale


class ConcatFusion(nn.Module):
    """One dense layer over the masked features, side by side."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.head = dense_head(spec)

    def forward(
        self, features: Sequence[Tensor], logits: Sequence[Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits (batch, C), weights (batch, M), entropies (batch, M))."""
        masked = [feature * mask[:, m : m + 1] for m, feature in enumerate(features)]
        weights = mask / (mask.sum(dim=1, keepdim=True) + TINY)
        return self.head(torch.cat(masked, dim=1)), weights, normalised_entropies(logits)


class IemfFusion(nn.Module):
    """Information-entropy fusion: the more certain modality counts for more, none below a floor.

    The weights scale the features that enter the dense layer and mix the logits that are added to its answer. The
    entropies carry no gradient: else a branch could gain weight by sharpening its errors.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.head = dense_head(spec)
        self.beta = nn.Parameter(torch.zeros(len(spec.modalities)))
        """Learned leaning towards each modality."""
        self.tau = spec.fusion.tau
        self.floor = spec.fusion.floor

    def forward(
        self, features: Sequence[Tensor], logits: Sequence[Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits (batch, C), weights (batch, M), entropies (batch, M))."""
        entropies = normalised_entropies([one.detach() for one in logits])
        weights = self.weigh(entropies, mask)
        share = [weights[:, m : m + 1] for m in range(len(features))]
        scaled = [len(features) * w * feature for w, feature in zip(share, features, strict=True)]
        fused = self.head(torch.cat(scaled, dim=1))
        for w, one in zip(share, logits, strict=True):
            fused = fused + w * one
        return fused, weights, entropies

    def weigh(self, entropies: Tensor, mask: Tensor) -> Tensor:
        """Return weights (batch, M) that sum to 1, or are all 0 where nothing is available."""
        scores = self.beta - entropies / self.tau
        present = torch.clamp(mask / TINY, 0.0, 1.0)
        top = (scores + _ABSENT_SCORE * (1.0 - present)).amax(dim=1, keepdim=True)
        shares = mask * torch.exp(torch.clamp(scores - top, max=0.0))
        shares = shares / (shares.sum(dim=1, keepdim=True) + TINY)
        return self.floor * mask + (1.0 - self.floor * mask.sum(dim=1, keepdim=True)) * shares


def dense_head(spec: ModelSpec) -> nn.Linear:
    """Return the dense layer from all features to the classes."""
    return nn.Linear(sum(modality.feature_size for modality in spec.modalities), len(spec.classes))


def normalised_entropies(logits: Sequence[Tensor]) -> Tensor:
    """Return the entropy of each modality's answer over its greatest value, (batch, M), 0 to 1."""
    columns = []
    for one in logits:
        log_probs = torch.log_softmax(one, dim=1)  # this form has no 0 * log 0, also in half precision
        columns.append(-(log_probs.exp() * log_probs).sum(dim=1, keepdim=True) / math.log(one.shape[1]))
    return torch.cat(columns, dim=1)


def build_fusion(spec: ModelSpec) -> ConcatFusion | IemfFusion:
    """Return the fusion head that the spec names."""
    return IemfFusion(spec) if spec.fusion.method == "iemf" else ConcatFusion(spec)

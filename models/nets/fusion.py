"""Fusion heads: features and logits of every modality and a mask in; logits, weights and entropies out.

The mask holds 0 for an absent modality, 1 for a healthy one, and anything between for a degraded one. Everything is
arithmetic: no branch on data, no boolean index, so that a graph of fixed shape flies. In formulas, a_m is the mask of a
modality, f_m its feature, and z_m the logits of its branch's own head.

Source of `IemfFusion`: after Wang, Xu, Lin, IEEE JSTARS 2025 (doi 10.1109/JSTARS.2025.3586132), of which only the
abstract was available: the formulas are ours.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.spec import ModelSpec

TINY = 1e-9  # keeps a division by no available modality at 0, and the logarithm of a vanished probability finite
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
        return self.head(torch.cat(masked, dim=1)), over_sum(mask), normalised_entropies(logits)


class IemfFusion(nn.Module):
    """Information-entropy fusion: the more certain modality counts for more, none below a floor.

    The weights scale the features that enter the dense layer and mix the logits that are added to its answer. The
    entropies carry no gradient: else a branch could gain weight by sharpening its errors. `temperatures` divide the
    logits, so that one branch's certainty is worth another's; they are 1 in training, and fitted afterwards.
    """

    temperatures: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.head = dense_head(spec)
        self.beta = nn.Parameter(torch.zeros(len(spec.modalities)))
        """Learned leaning towards each modality."""
        self.register_buffer("temperatures", torch.ones(len(spec.modalities)))
        self.tau = spec.fusion.tau
        self.floor = spec.fusion.floor

    def forward(
        self, features: Sequence[Tensor], logits: Sequence[Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits (batch, C), weights (batch, M), entropies (batch, M))."""
        tempered = [one / self.temperatures[m] for m, one in enumerate(logits)]
        entropies = normalised_entropies([one.detach() for one in tempered])
        weights = self.weigh(entropies, mask)
        share = [weights[:, m : m + 1] for m in range(len(features))]
        scaled = [len(features) * w * feature for w, feature in zip(share, features, strict=True)]
        fused = self.head(torch.cat(scaled, dim=1))
        for w, one in zip(share, tempered, strict=True):
            fused = fused + w * one
        return fused, weights, entropies

    def weigh(self, entropies: Tensor, mask: Tensor) -> Tensor:
        """Return weights (batch, M) that sum to 1, or are all 0 where nothing is available."""
        scores = self.beta - entropies / self.tau
        present = torch.clamp(mask / TINY, 0.0, 1.0)
        top = (scores + _ABSENT_SCORE * (1.0 - present)).amax(dim=1, keepdim=True)
        shares = over_sum(mask * torch.exp(torch.clamp(scores - top, max=0.0)))
        return self.floor * mask + (1.0 - self.floor * mask.sum(dim=1, keepdim=True)) * shares


class SumFusion(nn.Module):
    """Masked features, projected to one width and added up: hidden = relu(sum_m a_m P_m f_m + b), then a dense layer.

    Without the ReLU this would be the dense layer of `ConcatFusion`, factored.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = max(modality.feature_size for modality in spec.modalities)
        self.projections = nn.ModuleList(
            nn.Linear(modality.feature_size, width, bias=False) for modality in spec.modalities
        )
        self.bias = nn.Parameter(torch.zeros(width))
        self.head = nn.Linear(width, len(spec.classes))

    def forward(
        self, features: Sequence[Tensor], logits: Sequence[Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits (batch, C), weights (batch, M), entropies (batch, M))."""
        hidden = self.bias
        for m, project in enumerate(self.projections):
            hidden = hidden + mask[:, m : m + 1] * project(features[m])
        return self.head(torch.relu(hidden)), over_sum(mask), normalised_entropies(logits)


class GatedFusion(nn.Module):
    """A gate per modality, opened by what all of them see: g = sigmoid(W [a_m f_m] + b), scaling the features.

    Source: the gated multimodal unit of Arevalo et al., "Gated multimodal units for information fusion" (2017), with
    one gate for a modality instead of one for each of its channels.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.gates = nn.Linear(sum(modality.feature_size for modality in spec.modalities), len(spec.modalities))
        self.head = dense_head(spec)

    def forward(
        self, features: Sequence[Tensor], logits: Sequence[Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits (batch, C), weights (batch, M), entropies (batch, M)); the weights are the gates' shares."""
        masked = [feature * mask[:, m : m + 1] for m, feature in enumerate(features)]
        gates = torch.sigmoid(self.gates(torch.cat(masked, dim=1)))  # (batch, M)
        gated = [gates[:, m : m + 1] * feature for m, feature in enumerate(masked)]
        return self.head(torch.cat(gated, dim=1)), over_sum(mask * gates), normalised_entropies(logits)


class EntropyFusion(nn.Module):
    """The branches' logits weighted by certainty alone: z = sum_m w_m z_m, w_m = a_m exp(-H_m) / sum, H_m in nats.

    Source: the weights at test time of Zhang et al., "Multimodal representation learning by alternating unimodal
    adaptation" (CVPR 2024). Nothing to learn, no floor: what sets it apart from `IemfFusion`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.largest = math.log(len(spec.classes))

    def forward(
        self, features: Sequence[Tensor], logits: Sequence[Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits (batch, C), weights (batch, M), entropies (batch, M))."""
        entropies = normalised_entropies([one.detach() for one in logits])
        weights = over_sum(mask * torch.exp(-self.largest * entropies))
        fused = torch.zeros_like(logits[0])
        for m, one in enumerate(logits):
            fused = fused + weights[:, m : m + 1] * one
        return fused, weights, entropies


class ProductFusion(nn.Module):
    """Product of the branches' own answers: z = sum_m a_m log softmax(z_m). Nothing to learn.

    Bayes' rule for modalities that are independent given the class, all classes equally likely. What only the
    combination of modalities tells is lost.

    Source: Hinton, "Training products of experts by minimizing contrastive divergence" (2002), eq. 1, experts trained
    on their own; a degraded modality counts with its mask as exponent, as in a logarithmic opinion pool.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()

    def forward(
        self, features: Sequence[Tensor], logits: Sequence[Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits (batch, C), weights (batch, M), entropies (batch, M))."""
        fused = torch.zeros_like(logits[0])
        for m, one in enumerate(logits):
            fused = fused + mask[:, m : m + 1] * torch.log_softmax(one, dim=1)
        return fused, over_sum(mask), normalised_entropies(logits)


class MeanFusion(nn.Module):
    """Mean of the branches' own answers: z = log sum_m w_m softmax(z_m), w_m = a_m / sum. Nothing to learn.

    The linear opinion pool: the fused answer is one of the branches', by a draw with probabilities w. A sharp branch
    cannot rule a class out for the others, as it can in `ProductFusion`.

    Source: Stone, "The opinion pool" (1961).
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()

    def forward(
        self, features: Sequence[Tensor], logits: Sequence[Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return (logits (batch, C), weights (batch, M), entropies (batch, M))."""
        weights = over_sum(mask)
        probs = torch.zeros_like(logits[0])
        for m, one in enumerate(logits):
            probs = probs + weights[:, m : m + 1] * torch.softmax(one, dim=1)
        return torch.log(probs.clamp(min=TINY)), weights, normalised_entropies(logits)  # a maximum, as in `over_sum`


def over_sum(shares: Tensor) -> Tensor:
    """Return shares (batch, M) scaled to sum to 1, or all 0 where they are.

    The bound is a maximum: the exporter's optimizer drops an addition of 1e-9 as one of 0, and 0 / 0 is NaN in flight.
    """
    return shares / shares.sum(dim=1, keepdim=True).clamp(min=TINY)


def dense_head(spec: ModelSpec) -> nn.Module:
    """Return the dense layer from all features to the classes, or two with a ReLU between them.

    One layer alone adds up what each modality speaks for: it cannot know a class that only a combination makes.
    """
    features, classes, hidden = sum(one.feature_size for one in spec.modalities), len(spec.classes), spec.fusion.hidden
    if not hidden:
        return nn.Linear(features, classes)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))


def normalised_entropies(logits: Sequence[Tensor]) -> Tensor:
    """Return the entropy of each modality's answer over its greatest value, (batch, M), 0 to 1."""
    columns = []
    for one in logits:
        log_probs = torch.log_softmax(one, dim=1)  # this form has no 0 * log 0, also in half precision
        columns.append(-(log_probs.exp() * log_probs).sum(dim=1, keepdim=True) / math.log(one.shape[1]))
    return torch.cat(columns, dim=1)


_FORMS: dict[str, type[nn.Module]] = {
    "concat": ConcatFusion,
    "sum": SumFusion,
    "gated": GatedFusion,
    "iemf": IemfFusion,
    "entropy": EntropyFusion,
    "poe": ProductFusion,
    "mean": MeanFusion,
}


def build_fusion(spec: ModelSpec) -> nn.Module:
    """Return the fusion head that the spec names."""
    return _FORMS[spec.fusion.method](spec)

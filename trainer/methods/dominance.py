"""How far each modality is ahead of the others."""

from collections.abc import Mapping

import torch
from torch import Tensor

_TINY = 1e-12


def true_class_confidences(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, float]:
    """Return s_m = sum_i softmax(z_m,i)[y_i] over the batch, by modality."""
    with torch.no_grad():
        return {
            name: float(torch.softmax(one, dim=1).gather(1, labels[:, None]).double().sum())
            for name, one in logits.items()
        }


def leads(confidences: Mapping[str, float]) -> dict[str, float]:
    """Return rho_m = s_m / mean of the others' s, by modality: above 1 for one that is ahead.

    For two modalities this is the discrepancy ratio of OGM-GE and the imbalance ratio of PMR.
    """
    total, others = sum(confidences.values()), len(confidences) - 1
    return {name: own * others / max(total - own, _TINY) for name, own in confidences.items()}

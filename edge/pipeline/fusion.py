"""Information-entropy weights in NumPy: the readable reference that the fusion graph is checked against.

Source: after Wang, Xu, Lin, IEEE JSTARS 18 (2025), of which only the abstract was available: the formulas are ours.
"""

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-9


def iemf_weights(
    logits: NDArray[np.floating],
    mask: NDArray[np.floating],
    tau: float,
    floor: float,
    beta: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weigh each modality by how certain its classifier is, and return the entropies that decided it.

    Args:
        logits: (modality, classes).
        mask: (modality,), 0 absent to 1 healthy.
        tau: temperature; small values trust the more certain modality more.
        floor: the least weight of an available modality.
        beta: (modality,), learned leaning.
    Returns:
        weights (modality,), which sum to 1, or are all 0 where nothing is available; entropies (modality,), 0 to 1.
    """
    shifted = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    entropies = -(np.exp(log_probs) * log_probs).sum(axis=1) / np.log(logits.shape[1])
    available = np.asarray(mask, np.float64)
    if not available.any():
        return np.zeros(len(available)), entropies
    scores = beta - entropies / tau
    shares = available * np.exp(np.minimum(scores - scores[available > 0].max(), 0.0))
    shares = shares / (shares.sum() + _TINY)
    return floor * available + (1.0 - floor * available.sum()) * shares, entropies

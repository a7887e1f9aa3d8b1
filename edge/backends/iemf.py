"""The information-entropy fusion head in NumPy: the readable reference that its graph is checked against.

Source: after Wang, Xu, Lin, IEEE JSTARS 18 (2025), of which only the abstract was available: the formulas are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.spec import FusionSpec

_TINY = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class IemfHead:
    """All that a head is made of."""

    layers: tuple[tuple[NDArray[np.floating], NDArray[np.floating]], ...]
    """(weight (outputs, inputs), bias (outputs,)) of each dense layer, from the features, side by side, to the classes;
    a ReLU between two."""
    beta: NDArray[np.floating]
    """(modality,): learned leaning."""
    temperatures: NDArray[np.floating]
    """(modality,): divide the branches' logits, so that their entropies mean the same."""
    tau: float
    """Small values trust the more certain modality more."""
    floor: float
    """The least weight of an available modality."""

    def as_arrays(self) -> dict[str, NDArray[np.floating]]:
        """Return what `stored_head` reads."""
        named = {"head_beta": self.beta, "head_temperatures": self.temperatures}
        for n, (weight, bias) in enumerate(reversed(self.layers)):
            named |= {_named("weight", n): weight, _named("bias", n): bias}
        return named


def stored_head(golden: Mapping[str, NDArray[Any]], fusion: FusionSpec) -> IemfHead | None:
    """Return the head that lies with a bundle's golden examples; None for another fusion form, or where none lies.

    Raises:
        KeyError: only a part of it is there.
    """
    if fusion.method != "iemf" or "head_weight" not in golden:
        return None
    count = 2 if fusion.hidden else 1
    return IemfHead(
        layers=tuple((golden[_named("weight", n)], golden[_named("bias", n)]) for n in reversed(range(count))),
        beta=golden["head_beta"],
        temperatures=golden["head_temperatures"],
        tau=fusion.tau,
        floor=fusion.floor,
    )


def iemf_fuse(
    features: Sequence[NDArray[np.floating]], logits: NDArray[np.floating], mask: NDArray[np.floating], head: IemfHead
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Fuse one example: scaled features through the dense layers, plus the weighted sum of the branches' logits.

    Args:
        features: by modality, (length,).
        logits: (modality, classes), before any temperature.
        mask: (modality,), 0 absent to 1 healthy.
    Returns:
        logits (classes,), weights (modality,), entropies (modality,).
    """
    tempered = np.asarray(logits, np.float64) / np.asarray(head.temperatures, np.float64)[:, None]
    weights, entropies = iemf_weights(tempered, mask, head.tau, head.floor, head.beta)
    scaled = [len(features) * weight * feature for weight, feature in zip(weights, features, strict=True)]
    dense = np.concatenate(scaled)
    for n, (weight, bias) in enumerate(head.layers):
        dense = np.asarray(weight, np.float64) @ (np.maximum(dense, 0.0) if n else dense) + bias
    return dense + weights @ tempered, weights, entropies


def _named(what: str, layers_behind: int) -> str:
    """Return the name under which a part of a layer is stored: the last layer's is the plain one."""
    return f"head_{'hidden_' * layers_behind}{what}"


def iemf_weights(
    logits: NDArray[np.floating],
    mask: NDArray[np.floating],
    tau: float,
    floor: float,
    beta: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weigh each modality by how certain its classifier is, and return the entropies that decided it.

    Args:
        logits: (modality, classes), over their temperatures.
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
    shares = shares / max(shares.sum(), _TINY)
    return floor * available + (1.0 - floor * available.sum()) * shares, entropies

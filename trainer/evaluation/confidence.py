"""How far a model's probabilities can be believed: calibration error, likelihood, and the temperature that mends them.

Sources: Guo et al., "On calibration of modern neural networks" (ICML 2017): expected calibration error over bins of
equal width, here 15, and temperature scaling, softmax(z / T).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of equal width, over 0 to 1."""
_LOWEST, _HIGHEST = 0.25, 20.0  # of a temperature: a set without a single error would ask for none at all
_HALVINGS = 50

_Logits = NDArray[np.floating]  # (examples, classes)


class Reliability(NamedTuple):
    """What was claimed and what came true, by bin of confidence; NaN in empty bins."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    examples: NDArray[np.int64]


def log_softmax(logits: _Logits) -> NDArray[np.float64]:
    """Return log probabilities, (examples, classes)."""
    shifted = np.asarray(logits, np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def entropies(logits: _Logits) -> NDArray[np.float64]:
    """Return the entropy of each answer over its greatest value, (examples,), 0 to 1."""
    log_probs = log_softmax(logits)
    return np.asarray(-(np.exp(log_probs) * log_probs).sum(axis=1) / np.log(logits.shape[1]))


def likelihood_loss(logits: _Logits, truth: NDArray[np.integer]) -> float:
    """Return the mean negative log probability of the truth: NLL, in nats."""
    return float(-log_softmax(logits)[np.arange(len(truth)), truth].mean())


def reliability(logits: _Logits, truth: NDArray[np.integer]) -> Reliability:
    """Return claimed and found shares of right answers in BINS bins of the greatest probability."""
    highest = np.exp(log_softmax(logits).max(axis=1))
    is_right = logits.argmax(axis=1) == truth
    place = np.minimum((highest * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        claimed = np.bincount(place, highest, BINS) / counts
        found = np.bincount(place, is_right, BINS) / counts
    return Reliability(claimed, found, counts)


def calibration_error(logits: _Logits, truth: NDArray[np.integer]) -> float:
    """Return the expected calibration error: |claimed - found| over the bins, weighted by their examples."""
    bins = reliability(logits, truth)
    gaps = np.abs(np.nan_to_num(bins.confidence - bins.accuracy))
    return float(gaps @ bins.examples / len(truth))


def fit_temperature(logits: _Logits, truth: NDArray[np.integer]) -> float:
    """Return the temperature of the least NLL, between 0.25 and 20.

    The NLL is convex in 1 / T, its slope the mean logit expected less the mean logit of the truth: halving finds its
    root.
    """
    values = np.asarray(logits, np.float64)
    of_truth = values[np.arange(len(truth)), truth].mean()
    low, high = np.log(1 / _HIGHEST), np.log(1 / _LOWEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = (np.exp(log_softmax(np.exp(middle) * values)) * values).sum(axis=1).mean()
        low, high = (middle, high) if expected < of_truth else (low, middle)
    return float(np.exp(-(low + high) / 2))


def fit_temperatures(logits: Mapping[str, _Logits], truth: NDArray[np.integer]) -> dict[str, float]:
    """Return the temperature of each modality's own logits; NaN marks the rows of examples that lack it.

    A modality that no example has keeps 1.
    """
    there = {name: ~np.isnan(one).any(axis=1) for name, one in logits.items()}
    return {
        name: fit_temperature(one[there[name]], truth[there[name]]) if there[name].any() else 1.0
        for name, one in logits.items()
    }


def cross_fitted(logits: _Logits, truth: NDArray[np.integer]) -> _Logits:
    """Return logits over temperatures, each half's fitted on the other half: the even and the odd rows of each class.

    Of each class, because data sets list classes in turn: even rows alone could hold every other class. Where a half is
    empty, logits stay.
    """
    scaled = np.array(logits, np.float64)
    order = np.argsort(truth, kind="stable")
    starts = np.searchsorted(truth[order], truth)  # where each row's class begins
    is_odd = np.empty(len(truth), np.bool_)
    is_odd[order] = (np.arange(len(truth)) - starts[order]) % 2 == 1
    if is_odd.any():
        for half in (is_odd, ~is_odd):
            scaled[half] /= fit_temperature(logits[~half], truth[~half])
    return scaled

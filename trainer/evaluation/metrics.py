"""Figures of answers held against the truth, as pure functions on arrays."""

import numpy as np
from numpy.typing import NDArray

_Numbers = NDArray[np.floating]


def confusion(truth: NDArray[np.integer], said: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count what was said (column) where what was true (row): (classes, classes)."""
    return np.bincount(truth * classes + said, minlength=classes * classes).reshape(classes, classes)


def recalls(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of right answers of each class, (classes,); NaN for a class that never was."""
    of_class = counts.sum(axis=1)
    shares: NDArray[np.float64] = np.diag(counts) / np.where(of_class, of_class, 1)
    return np.where(of_class, shares, np.nan)


def average_accuracy(counts: NDArray[np.int64]) -> float:
    """Return the mean recall of the classes that occurred: AA."""
    return float(np.nanmean(recalls(counts)))


def kappa(counts: NDArray[np.int64]) -> float:
    """Return Cohen's kappa: agreement beyond what the two margins give by chance; NaN where chance agrees always."""
    total = counts.sum()
    by_chance = float(counts.sum(axis=0) @ counts.sum(axis=1)) / total**2
    return float((np.trace(counts) / total - by_chance) / (1 - by_chance)) if by_chance < 1 else float("nan")


def macro_f1(counts: NDArray[np.int64]) -> float:
    """Return the mean F1 of the classes that occurred or were said."""
    margins = counts.sum(axis=0) + counts.sum(axis=1)
    return float((2 * np.diag(counts)[margins > 0] / margins[margins > 0]).mean())


def auroc(negatives: _Numbers, positives: _Numbers) -> float:
    """Return how likely a positive scores above a negative, ties half: the area under the ROC curve."""
    ranks = average_ranks(np.concatenate([negatives, positives]))
    above = ranks[len(negatives) :].sum() - len(positives) * (len(positives) + 1) / 2
    return float(above / (len(negatives) * len(positives)))


def spearman(first: _Numbers, second: _Numbers) -> float:
    """Return the rank correlation of two rows of numbers, ties by their mean rank; NaN where one is constant."""
    one, other = (average_ranks(values) - (len(values) + 1) / 2 for values in (first, second))
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size else float("nan")


def average_ranks(values: _Numbers) -> NDArray[np.float64]:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks

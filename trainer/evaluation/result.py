"""What an evaluation finds, as values and as JSON; `docs/evaluation.md` explains the keys."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.confidence import log_softmax

_DIGITS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How far the fused probabilities can be believed."""

    bins: int
    temperature: float
    stored_temperature: float
    ece_before: float
    ece_after: float
    ece_stored: float
    nll_before: float
    nll_after: float
    nll_stored: float

    def as_json(self) -> dict[str, float]:
        """Return all of it as JSON types."""
        return {name: round(getattr(self, name), _DIGITS) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """What was answered to each example: for tests of pairs of models, and for pictures."""

    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    """(examples, classes): fused, before any temperature."""
    weights: NDArray[np.float32]
    """(examples, M), of the fusion head."""
    quality: Mapping[str, NDArray[np.float64]]
    """By modality; NaN where nobody knows."""
    answers: Mapping[str, NDArray[np.int64]]
    """By case, `fused`, `alone_<modality>`, `without_<modality>`: what was said, -1 where nothing was asked."""

    @property
    def truth_probability(self) -> NDArray[np.float64]:
        """Probability of the truth in the fused answer, before any temperature."""
        return np.asarray(np.exp(log_softmax(self.logits)[np.arange(len(self.labels)), self.labels]))

    def as_json(self) -> dict[str, Any]:
        """Return labels, answers and the truth's probability as lists, an element for each example."""
        return {
            "labels": self.labels.tolist(),
            "answers": {case: said.tolist() for case, said in self.answers.items()},
            "truth_probability": np.round(self.truth_probability, 5).tolist(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Figures of a model on a set of examples; shares of right answers are 0 to 1."""

    classes: tuple[str, ...]
    examples: int
    accuracy: float
    """Of the fused answer."""
    alone: dict[str, float]
    """By modality: of its branch's own head, where it is there; left out where it never is."""
    without: dict[str, float]
    """By modality: of the fused answer when it is missing, where another is there."""
    average_accuracy: float
    kappa: float
    macro_f1: float
    recall: dict[str, float]
    """By class: of the fused answer."""
    confusion: NDArray[np.int64]
    """(classes, classes): a row for each truth."""
    corrupted: dict[str, dict[str, float]]
    """By modality and kind of death."""
    swapped: dict[str, dict[str, float]]
    """By modality: whom the fused answer follows."""
    weight_spearman: dict[str, float]
    """By modality: of weight and quality."""
    calibration: Calibration
    rows: Rows

    def metrics(self) -> dict[str, float]:
        """Return what the manifest of a bundle keeps."""
        flat = {"accuracy": self.accuracy}
        flat |= {f"accuracy_{name}": value for name, value in self.alone.items()}
        flat |= {f"accuracy_without_{name}": value for name, value in self.without.items()}
        return {name: round(value, _DIGITS) for name, value in flat.items()} | {"examples": float(self.examples)}

    def as_json(self) -> dict[str, Any]:
        """Return everything but the rows as JSON types; docs/evaluation.md explains the keys."""
        told = {
            "average_accuracy": self.average_accuracy,
            "kappa": self.kappa,
            "macro_f1": self.macro_f1,
            "recall": self.recall,
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "corrupted": self.corrupted,
            "swapped": self.swapped,
            "weight_spearman": self.weight_spearman,
            "calibration": self.calibration.as_json(),
        }
        return {**self.metrics(), **{name: as_json(value) for name, value in told.items()}}


def as_json(value: Any) -> Any:
    """Return figures rounded, and null for what could not be told."""
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    return value

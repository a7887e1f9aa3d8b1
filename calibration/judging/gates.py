"""How far a quantized model may stray from its FP32 original, and how far it does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.judging.answers import Answers, Fused
from calibration.quantization.clipping import sqnr_db


class Gates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every case (all sensors there, each one gone) has to keep to; shares are 0 to 1."""

    least_agreement: float = 0.99
    """Share of examples with the same class as FP32."""
    most_accuracy_lost: float = 0.01
    """Of all examples."""
    most_recall_lost: float = 0.02
    """Of the examples of any class. Of a class as of all examples, here and above, a single one is let go: chance."""
    least_sqnr_db: float = 30.0
    """Of the fused logits: the signal is FP32's answer, the noise what is added to it."""
    most_weight_drift: float = 0.02
    """Of a fusion weight, in 99 of 100 examples."""
    most_order_flips: float = 0.01
    """Share of examples where another modality becomes the most certain one."""

    def __post_init__(self) -> None:
        for name in ("least_agreement", "most_accuracy_lost", "most_recall_lost", "most_weight_drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 0 to 1")
        if not 0 <= self.most_order_flips <= 1 or not math.isfinite(self.least_sqnr_db):
            raise ValueError("expected most_order_flips 0 to 1, and a finite least_sqnr_db")


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate compares with FP32 in one case; NaN where there are no labels to tell."""

    examples: int
    labelled: int
    """Of these, the ones whose class is known."""
    of_class: dict[str, int]
    """How many of each class."""
    agreement: float
    accuracy: float
    accuracy_lost: float
    recall_lost: dict[str, float]
    """By class."""
    sqnr_db: float
    weight_drift: float
    """99th percentile over examples of the largest change of a weight."""
    order_flips: float

    def broken(self, gates: Gates) -> list[str]:
        """Return what is wrong, in words; nothing where all gates are passed."""
        found = [
            _too_many("class changed", 1 - self.agreement, self.examples, 1 - gates.least_agreement),
            _above("weight drift", self.weight_drift, gates.most_weight_drift),
            _too_many("entropy order flipped", self.order_flips, self.examples, gates.most_order_flips),
            _too_many("accuracy lost", self.accuracy_lost, self.labelled, gates.most_accuracy_lost),
            *(
                _too_many(f"recall of {label} lost", lost, self.of_class[label], gates.most_recall_lost)
                for label, lost in self.recall_lost.items()
            ),
        ]
        if not self.sqnr_db >= gates.least_sqnr_db:
            found.append(f"SQNR {self.sqnr_db:.1f} dB, at least {gates.least_sqnr_db:.1f} dB")
        return [text for text in found if text]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What came of one candidate."""

    figures: Mapping[str, Figures]
    """By case."""
    broken: tuple[str, ...]
    """Gates that it fails, each with its case, in words."""

    @property
    def is_passed(self) -> bool:
        """Whether it may fly."""
        return not self.broken


def judge(
    reference: Answers, candidate: Answers, labels: NDArray[np.int64], classes: tuple[str, ...], gates: Gates
) -> Verdict:
    """Compare a candidate's answers with FP32's, case by case.

    Args:
        reference: of FP32.
        candidate: on the same examples.
        labels: (n,), -1 where nobody knows.
        classes: labels in index order.
        gates: what to keep to.
    """
    figures = {case: _figures(one, candidate.cases[case], labels, classes) for case, one in reference.cases.items()}
    broken = [f"{case}: {text}" for case, one in figures.items() for text in one.broken(gates)]
    return Verdict(figures=figures, broken=tuple(broken))


def _figures(reference: Fused, found: Fused, labels: NDArray[np.int64], classes: tuple[str, ...]) -> Figures:
    said, original = found.logits.argmax(axis=1), reference.logits.argmax(axis=1)
    truth = labels[found.rows]
    is_known = truth >= 0
    was_right, is_right = (original == truth)[is_known], (said == truth)[is_known]
    of_class = {label: truth[is_known] == n for n, label in enumerate(classes) if (truth[is_known] == n).any()}
    lost = {label: float(was_right[rows].mean() - is_right[rows].mean()) for label, rows in of_class.items()}
    drift = np.abs(found.weights - reference.weights).max(axis=1)
    order = _most_certain(found) != _most_certain(reference)
    return Figures(
        examples=len(found.rows),
        labelled=int(is_known.sum()),
        of_class={label: int(rows.sum()) for label, rows in of_class.items()},
        agreement=float((said == original).mean()),
        accuracy=float(is_right.mean()) if is_known.any() else math.nan,
        accuracy_lost=float(was_right.mean() - is_right.mean()) if is_known.any() else math.nan,
        recall_lost=lost,
        sqnr_db=sqnr_db(reference.logits, found.logits),
        weight_drift=float(np.quantile(drift, 0.99)),
        order_flips=float(order.mean()),
    )


def _most_certain(answers: Fused) -> NDArray[np.intp]:
    """Return (rows,), the modality of least entropy among those that count: one that is gone weighs nothing."""
    places: NDArray[np.intp] = np.where(answers.weights > 0, answers.entropies, np.inf).argmin(axis=1)
    return places


def _above(what: str, value: float, limit: float) -> str:
    return f"{what} {value:.2%}, at most {limit:.2%}" if not value <= limit else ""


def _too_many(what: str, share: float, examples: int, limit: float) -> str:
    """Return the complaint about a share of examples; a single one is chance, however few there are."""
    if not examples or round(share * examples) <= max(1, int(limit * examples + 1e-9)):
        return ""
    return f"{what} in {share:.2%} of {examples} examples, at most {limit:.2%}"

"""How well a model answers: all modalities together, each alone, and whatever can happen to one of them."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from trainer.data.examples import Example
from trainer.evaluation import confidence, metrics
from trainer.evaluation.asking import Asked, Model, ask
from trainer.evaluation.cases import NOT_ASKED, Cases
from trainer.evaluation.result import Calibration, Rows
from trainer.evaluation.result import Evaluation as Evaluation


def evaluate(model: Model, examples: Iterable[Example], on_done: Callable[[int], None]) -> Evaluation:
    """Ask a model about examples; `on_done` learns how many are behind.

    Raises:
        InputError: there are no examples, or one does not fit the model.
    """
    return judge(model, ask(model, examples, on_done))


def judge(model: Model, asked: Asked) -> Evaluation:
    """Return the figures of what a model's branches said."""
    classes, labels = model.spec.classes, asked.labels
    cases = Cases(model=model, asked=asked)
    fused = model.fuse(asked.branches, asked.present)
    there = [name for m, name in enumerate(model.spec.modality_names) if asked.present[:, m].any()]
    answers = {"fused": np.where(asked.present.any(axis=1), fused.logits.argmax(axis=1), NOT_ASKED)}
    answers |= {f"alone_{name}": cases.alone(name) for name in there}
    answers |= {f"without_{name}": cases.missing(name) for name in model.spec.modality_names}
    shares = {case: _accuracy(said, labels) for case, said in answers.items() if (said != NOT_ASKED).any()}
    is_asked = answers["fused"] != NOT_ASKED
    counts = metrics.confusion(labels[is_asked], answers["fused"][is_asked], len(classes))
    recalls = metrics.recalls(counts)
    without = {name: shares[case] for name in model.spec.modality_names if (case := f"without_{name}") in shares}
    return Evaluation(
        classes=classes,
        examples=len(labels),
        accuracy=shares["fused"],
        alone={name: shares[f"alone_{name}"] for name in there},
        without=without,
        average_accuracy=metrics.average_accuracy(counts),
        kappa=metrics.kappa(counts),
        macro_f1=metrics.macro_f1(counts),
        recall={label: float(share) for label, share in zip(classes, recalls, strict=True) if not np.isnan(share)},
        confusion=counts,
        corrupted={name: _corrupted(cases, name) | {"masked": without.get(name, np.nan)} for name in there},
        swapped={name: follows for name in there if (follows := _follows(cases, name))},
        weight_spearman=_weight_spearman(asked, fused.weights, model.spec.modality_names),
        calibration=_calibration(fused.logits[is_asked], labels[is_asked], model.temperature),
        rows=Rows(labels=labels, logits=fused.logits, weights=fused.weights, quality=asked.quality, answers=answers),
    )


def _corrupted(cases: Cases, name: str) -> dict[str, float]:
    labels = cases.asked.labels
    frozen = cases.frozen(name)
    shares = {kind: _accuracy(said, labels) for kind, said in cases.dead(name).items()}
    return shares | {"frozen": float(np.mean([_accuracy(said, labels) for said in frozen]))}


def _follows(cases: Cases, name: str) -> dict[str, float]:
    said, lured = cases.swapped(name)
    if not len(said):
        return {}
    is_asked = said != NOT_ASKED
    swapped = float((said == lured)[is_asked].mean())
    others = float((said == cases.asked.labels)[is_asked].mean())
    return {"swapped": swapped, "others": others, "neither": 1 - swapped - others}


def _weight_spearman(asked: Asked, weights: NDArray[np.float32], names: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for m, name in enumerate(names):
        is_known = np.isfinite(asked.quality[name]) & (asked.present[:, m] > 0)
        if is_known.any():
            found[name] = metrics.spearman(weights[is_known, m], asked.quality[name][is_known])
    return found


def _calibration(logits: NDArray[np.float32], labels: NDArray[np.int64], stored: float) -> Calibration:
    after = confidence.cross_fitted(logits, labels)
    return Calibration(
        bins=confidence.BINS,
        temperature=confidence.fit_temperature(logits, labels),
        stored_temperature=stored,
        ece_before=confidence.calibration_error(logits, labels),
        ece_after=confidence.calibration_error(after, labels),
        ece_stored=confidence.calibration_error(logits / stored, labels),
        nll_before=confidence.likelihood_loss(logits, labels),
        nll_after=confidence.likelihood_loss(after, labels),
        nll_stored=confidence.likelihood_loss(logits / stored, labels),
    )


def _accuracy(said: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    return float((said == labels)[said != NOT_ASKED].mean())

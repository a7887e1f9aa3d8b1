"""Questions to which a model should have no answer: senders of no class, and radio in which nobody sends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.examples import DataSet, HasQuietWindows, HasUnknowns
from trainer.evaluation import confidence, metrics
from trainer.evaluation.asking import Asked, Model, ask
from trainer.evaluation.cases import Cases
from trainer.evaluation.result import as_json

QUIET_SNR_DB = (10, 5)

Entropies = dict[str, NDArray[np.float64]]
"""By who answers, `fused`, `alone_<modality>`, `without_<modality>`: entropy of each answer over its greatest value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Controls:
    """What a model says where it should doubt; what the data set cannot ask is empty.

    JSON: `unknown` holds examples and, by who answers as in `Entropies`, auroc: how likely an unknown sender's answer
    has more entropy than a known one's (0.5: no difference is seen); auroc_by_kind, of the fused answer.
    `quiet_windows` holds the average accuracy of the radio branch on windows without a burst, by the noise: `10_db` and
    `5_db` below the level of the recording's bursts. Chance is one over the classes.
    """

    known: Entropies
    dead: Entropies
    """By sensor and kind of death, `image: black`: of the fused answer."""
    unknown: Entropies
    kinds: tuple[str, ...]
    """Of what is unknown, an element for each example."""
    quiet_accuracy: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON types."""
        told: dict[str, Any] = {}
        if self.kinds:
            kinds = np.array(self.kinds)
            fused, known = self.unknown["fused"], self.known["fused"]
            told["unknown"] = {
                "examples": len(kinds),
                "auroc": {who: metrics.auroc(self.known[who], found) for who, found in self.unknown.items()},
                "auroc_by_kind": {str(kind): metrics.auroc(known, fused[kinds == kind]) for kind in np.unique(kinds)},
            }
        if self.quiet_accuracy:
            told["quiet_windows"] = self.quiet_accuracy
        found: dict[str, Any] = as_json(told)
        return found


def ask_controls(model: Model, asked: Asked, data: DataSet, on_done: Callable[[int], None]) -> Controls:
    """Ask what a data set knows to have no answer, and hold it against the known examples that were asked.

    Raises:
        InputError: as `ask`.
    """
    kinds: tuple[str, ...] = ()
    unknown, quiet = {}, {}
    if isinstance(data, HasUnknowns) and (pairs := list(data.unknown_examples())):
        kinds = tuple(kind for kind, _ in pairs)
        unknown = entropies(model, ask(model, (example for _, example in pairs), on_done))
    if isinstance(data, HasQuietWindows):
        for snr_db in QUIET_SNR_DB:
            examples = list(data.quiet_windows(snr_db))
            if not examples:
                break
            heard = ask(model, examples, on_done)
            said = heard.branches["iq"][1].argmax(axis=1)
            counts = metrics.confusion(heard.labels, said, len(model.spec.classes))
            quiet[f"{snr_db}_db"] = metrics.average_accuracy(counts)
    return Controls(
        known=entropies(model, asked),
        dead=dead_entropies(model, asked),
        unknown=unknown,
        kinds=kinds,
        quiet_accuracy=quiet,
    )


def entropies(model: Model, asked: Asked) -> Entropies:
    """Return how much each answer doubts, at the model's own temperature."""
    found = {"fused": model.fuse(asked.branches, asked.present).logits}
    for m, name in enumerate(model.spec.modality_names):
        found[f"alone_{name}"] = asked.branches[name][1]
        mask = asked.present.copy()
        mask[:, m] = 0.0
        found[f"without_{name}"] = model.fuse(asked.branches, mask).logits
    return {who: confidence.entropies(logits / model.temperature) for who, logits in found.items()}


def dead_entropies(model: Model, asked: Asked) -> Entropies:
    """Return how much each fused answer doubts while a sensor is dead, by sensor and kind of death."""
    cases = Cases(model=model, asked=asked)
    return {
        f"{name}: {kind}": confidence.entropies(logits / model.temperature)
        for m, name in enumerate(model.spec.modality_names)
        if asked.present[:, m].any()
        for kind, logits in cases.dead_logits(name).items()
    }

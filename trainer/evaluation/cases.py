"""What can happen to a sensor, played on a model's answers: missing, dead, frozen, or another place's."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.dead_sensors import dead_inputs
from trainer.evaluation.asking import Asked, BranchAnswers, Model

NOT_ASKED = -1
"""In place of an answer: nothing was there to answer from."""

_SEED = 20_253
_STUCK_PER_CLASS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Cases:
    """A model's branches on a set of examples, ready to be fused in every case.

    Answers are class indices, (examples,), NOT_ASKED where a case has no sense.
    """

    model: Model
    asked: Asked

    def alone(self, name: str) -> NDArray[np.int64]:
        """Return what a branch's own head says."""
        return _judged(self.asked.branches[name][1], self._is_there(name))

    def missing(self, name: str) -> NDArray[np.int64]:
        """Return the fused answers under a mask without a modality."""
        mask = self.asked.present.copy()
        mask[:, self._place(name)] = 0.0
        return _judged(self.model.fuse(self.asked.branches, mask).logits, mask.any(axis=1))

    def dead(self, name: str) -> dict[str, NDArray[np.int64]]:
        """Return, by kind of death, the fused answers where a sensor is dead while the mask says that it lives."""
        is_there = self._is_there(name)
        return {kind: _judged(logits, is_there) for kind, logits in self.dead_logits(name).items()}

    def dead_logits(self, name: str) -> dict[str, NDArray[np.float32]]:
        """Return, by kind of death, the fused logits (examples, classes) that `dead` judges."""
        found = {}
        for kind, inputs in dead_inputs(self.model.spec.modality(name).recipe).items():
            rows = np.arange(len(self.asked.labels)) % len(inputs)
            answers = self.asked.replaced(name, self.model.ask_branch(name, inputs), rows)
            found[kind] = self.model.fuse(answers, self.asked.present).logits
        return found

    def frozen(self, name: str) -> NDArray[np.int64]:
        """Return the fused answers where one input stands still through all examples, (inputs, examples).

        Of every class a few inputs: a single one would say more of itself than of the model.
        """
        labels, is_there = self.asked.labels, self._is_there(name)
        of_label = [np.flatnonzero(is_there & (labels == label)) for label in np.unique(labels[is_there])]
        stuck = [rows[:: max(1, len(rows) // _STUCK_PER_CLASS)][:_STUCK_PER_CLASS] for rows in of_label]
        still = [np.full(len(labels), row) for row in np.concatenate(stuck)]
        own = self.asked.branches[name]
        return np.stack([self._fused(name, self.asked.replaced(name, own, rows)) for rows in still])

    def swapped(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the fused answers where a modality is taken from an example of another class, and that class.

        Both are empty where all examples are of one class.
        """
        labels, is_there = self.asked.labels, self._is_there(name)
        if len(np.unique(labels[is_there])) < 2:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rng = np.random.default_rng([_SEED, self._place(name)])
        others = {label: np.flatnonzero(is_there & (labels != label)) for label in np.unique(labels)}
        rows = np.array([others[label][rng.integers(len(others[label]))] for label in labels])
        return self._fused(name, self.asked.replaced(name, self.asked.branches[name], rows)), labels[rows]

    def _place(self, name: str) -> int:
        return self.model.spec.modality_names.index(name)

    def _is_there(self, name: str) -> NDArray[np.bool_]:
        return self.asked.present[:, self._place(name)] > 0

    def _fused(self, name: str, answers: BranchAnswers) -> NDArray[np.int64]:
        return _judged(self.model.fuse(answers, self.asked.present).logits, self._is_there(name))


def _judged(logits: NDArray[np.float32], is_asked: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(is_asked, logits.argmax(axis=1), NOT_ASKED)

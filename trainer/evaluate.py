"""How well a model answers: all modalities together, each alone, each one missing. The same for network and bundle."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from models.bundle import FUSION, Bundle
from models.errors import BundleError, InputError
from models.spec import ModelSpec
from trainer.data.examples import Example, Inputs, prepare, presence

_CHUNK = 32

BranchAnswers = Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""By modality: feature (batch, D) and logits (batch, C)."""


class Model(Protocol):
    """Anything that classifies."""

    @property
    def spec(self) -> ModelSpec:
        """What it expects and answers."""

    def ask_branches(self, inputs: Inputs) -> BranchAnswers:
        """Return what each branch says."""

    def fuse(self, answers: BranchAnswers, mask: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return fused logits (batch, C) under a mask (batch, M)."""


class BundleModel:
    """The graphs of a bundle, on ONNX Runtime: what will fly. Needs no torch."""

    def __init__(self, bundle: Bundle) -> None:
        """Load the graphs.

        Raises:
            BundleError: ONNX Runtime cannot load one.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.spec = bundle.spec
        try:
            self._sessions = {
                role: onnxruntime.InferenceSession(bundle.graph(role), options, providers=["CPUExecutionProvider"])
                for role in (*bundle.spec.modality_names, FUSION)
            }
        except (ort_state.Fail, ort_state.InvalidGraph, ort_state.InvalidProtobuf, ort_state.NotImplemented) as error:
            raise BundleError(f"{bundle.path}: ONNX Runtime cannot load a graph ({error}): export it anew") from error

    def ask_branches(self, inputs: Inputs) -> BranchAnswers:
        """Return what each branch graph says."""
        answers = {}
        for name in self.spec.modality_names:
            feature, logits = self._sessions[name].run(["feature", "logits"], {"input": inputs[name]})
            answers[name] = (feature, logits)
        return answers

    def fuse(self, answers: BranchAnswers, mask: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the fusion graph says."""
        feeds = {"mask": mask}
        for name, (feature, logits) in answers.items():
            feeds |= {f"feature_{name}": feature, f"logits_{name}": logits}
        return np.asarray(self._sessions[FUSION].run(["logits"], feeds)[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Shares of right answers, 0 to 1."""

    examples: int
    accuracy: float
    """Of the fused answer."""
    alone: dict[str, float]
    """By modality: of its branch's own head, where it is there; left out where it never is."""
    without: dict[str, float]
    """By modality: of the fused answer when it is missing, where another is there."""
    recall: dict[str, float]
    """By class: of the fused answer."""

    def metrics(self) -> dict[str, float]:
        """Return what the manifest of a bundle keeps."""
        flat = {"accuracy": self.accuracy}
        flat |= {f"accuracy_{name}": value for name, value in self.alone.items()}
        flat |= {f"accuracy_without_{name}": value for name, value in self.without.items()}
        return {name: round(value, 4) for name, value in flat.items()} | {"examples": float(self.examples)}

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {**self.metrics(), "recall": {name: round(value, 4) for name, value in self.recall.items()}}


def evaluate(model: Model, examples: Iterable[Example], on_done: Callable[[int], None]) -> Evaluation:
    """Ask a model about examples; `on_done` learns how many are behind.

    Raises:
        InputError: there are no examples, or one does not fit the model.
    """
    spec = model.spec
    names, classes = spec.modality_names, len(spec.classes)
    masks = {"fused": np.ones(len(names), np.float32)}
    masks |= {f"without {name}": np.float32(np.arange(len(names)) != m) for m, name in enumerate(names)}
    masks |= {f"alone {name}": np.float32(np.arange(len(names)) == m) for m, name in enumerate(names)}
    right: dict[str, list[NDArray[np.bool_]]] = {}
    labels: list[NDArray[np.int64]] = []
    for chunk in _chunks(examples):
        inputs, truth = prepare(chunk, spec)
        present = presence(chunk, spec)
        answers = model.ask_branches(inputs)
        logits = {f"alone {name}": answers[name][1] for name in names}
        logits |= {case: model.fuse(answers, mask * present) for case, mask in masks.items() if case not in logits}
        for case, values in logits.items():
            is_asked = (masks[case] * present).any(axis=1)
            right.setdefault(case, []).append((values.argmax(axis=1) == truth)[is_asked])
        labels.append(truth)
        on_done(sum(map(len, labels)))
    if not labels:
        raise InputError("no examples to evaluate: name a pairs file with rows")
    truth = np.concatenate(labels)
    hits = {case: np.concatenate(parts) for case, parts in right.items() if any(map(len, parts))}
    return Evaluation(
        examples=len(truth),
        accuracy=float(hits["fused"].mean()),
        alone={name: float(hits[f"alone {name}"].mean()) for name in names if f"alone {name}" in hits},
        without={name: float(hits[f"without {name}"].mean()) for name in names if f"without {name}" in hits},
        recall={
            spec.classes[label]: float(hits["fused"][truth == label].mean())
            for label in range(classes)
            if (truth == label).any()
        },
    )


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    iterator = iter(examples)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk

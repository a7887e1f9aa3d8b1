"""Models that can be asked, network or bundle alike, and what they answered about a set of examples.

Each branch sees each example once; every case of an evaluation is those answers, put together anew.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from models.bundle import FUSION, Bundle
from models.errors import BundleError, InputError
from models.preprocess import image_planes
from models.spec import ImageRecipe, ModelSpec
from trainer.data.examples import Example, prepare, presence

_CHUNK = 32

BranchAnswer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Feature (batch, D) and logits (batch, C)."""
BranchAnswers = Mapping[str, BranchAnswer]
"""By modality."""


class Fused(NamedTuple):
    """What the fusion head says about a batch."""

    logits: NDArray[np.float32]
    """(batch, C), before the model's temperature."""
    weights: NDArray[np.float32]
    """(batch, M)."""


class Model(Protocol):
    """Anything that classifies."""

    @property
    def spec(self) -> ModelSpec:
        """What it expects and answers."""

    @property
    def temperature(self) -> float:
        """What divides its fused logits before they become probabilities."""

    def ask_branch(self, name: str, inputs: NDArray[np.float32]) -> BranchAnswer:
        """Return what the branch of a modality says about preprocessed inputs."""

    def fuse(self, answers: BranchAnswers, mask: NDArray[np.float32]) -> Fused:
        """Return what the fusion head says under a mask (batch, M)."""


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
        self.temperature = bundle.manifest.temperature
        try:
            self._sessions = {
                role: onnxruntime.InferenceSession(
                    bundle.graph(role, batch="any"), options, providers=["CPUExecutionProvider"]
                )
                for role in (*bundle.spec.modality_names, FUSION)
            }
        except (ort_state.Fail, ort_state.InvalidGraph, ort_state.InvalidProtobuf, ort_state.NotImplemented) as error:
            raise BundleError(f"{bundle.path}: ONNX Runtime cannot load a graph ({error}): export it anew") from error

    def ask_branch(self, name: str, inputs: NDArray[np.float32]) -> BranchAnswer:
        """Return what a branch graph says; one that normalises frames itself gets them back as bytes."""
        session, recipe = self._sessions[name], self.spec.modality(name).recipe
        given: NDArray[Any] = inputs
        if isinstance(recipe, ImageRecipe) and session.get_inputs()[0].type == "tensor(uint8)":
            given = image_planes(inputs, recipe)
        feature, logits = session.run(["feature", "logits"], {"input": given})
        return feature, logits

    def fuse(self, answers: BranchAnswers, mask: NDArray[np.float32]) -> Fused:
        """Return what the fusion graph says."""
        feeds = {"mask": mask}
        for name, (feature, logits) in answers.items():
            feeds |= {f"feature_{name}": feature, f"logits_{name}": logits}
        logits, weights = self._sessions[FUSION].run(["logits", "weights"], feeds)
        return Fused(logits, weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the branches of a model say about a set of examples."""

    labels: NDArray[np.int64]
    branches: dict[str, BranchAnswer]
    present: NDArray[np.float32]
    """(examples, M): 1 where an example has the modality."""
    quality: dict[str, NDArray[np.float64]]
    """By modality: how good the example's input is, higher is better; NaN where nobody knows."""

    def replaced(self, name: str, answer: BranchAnswer, rows: NDArray[np.integer]) -> BranchAnswers:
        """Return the branches' answers with those of one modality taken from rows of another answer."""
        return {**self.branches, name: (answer[0][rows], answer[1][rows])}


def ask(model: Model, examples: Iterable[Example], on_done: Callable[[int], None]) -> Asked:
    """Let every branch see every example once; `on_done` learns how many are behind.

    Raises:
        InputError: there are no examples, or one does not fit the model.
    """
    spec = model.spec
    labels, present, parts = [], [], []
    quality: dict[str, list[float]] = {name: [] for name in spec.modality_names}
    for chunk in _chunks(examples):
        inputs, truth = prepare(chunk, spec)
        parts.append({name: model.ask_branch(name, inputs[name]) for name in spec.modality_names})
        present.append(presence(chunk, spec))
        labels.append(truth)
        for name, values in quality.items():
            values += [example.quality.get(name, np.nan) for example in chunk]
        on_done(sum(map(len, labels)))
    if not labels:
        raise InputError("no examples to evaluate: name a pairs file with rows")
    return Asked(
        labels=np.concatenate(labels),
        branches={name: _joined([part[name] for part in parts]) for name in spec.modality_names},
        present=np.concatenate(present),
        quality={name: np.array(values) for name, values in quality.items()},
    )


def _joined(parts: Sequence[BranchAnswer]) -> BranchAnswer:
    return np.concatenate([feature for feature, _ in parts]), np.concatenate([logits for _, logits in parts])


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    iterator = iter(examples)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk

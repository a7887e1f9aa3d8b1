"""What a set of graphs says about examples: all sensors there, and each one gone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.examples import Examples
from calibration.session import Arrays, Session, branch_feed
from models.bundle import FUSION
from models.spec import ModelSpec

FloatArray = NDArray[np.float32]

ALL = "all"
_ROWS = 32  # at once: few enough for the cache, many enough that calls cost nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Fused:
    """What the fusion head says, of the examples that a case has."""

    rows: NDArray[np.intp]
    """Which examples: those that have a modality left."""
    logits: FloatArray
    """(rows, C)"""
    weights: FloatArray
    """(rows, M)"""
    entropies: FloatArray
    """(rows, M)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """All that a set of graphs says."""

    branch_logits: Mapping[str, FloatArray]
    """By modality, (n, C)."""
    cases: Mapping[str, Fused]
    """By case: `all`, and `without_<modality>`."""


def ask_branches(
    graphs: Mapping[str, bytes], spec: ModelSpec, examples: Examples, *, is_literal: bool = False
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return (feature, logits) of every branch for all examples.

    Args:
        graphs: by modality, for any batch.
        spec: of the model.
        examples: preprocessed.
        is_literal: compute every node as it is written; else the engine may merge integer nodes, as it does in flight.
    Raises:
        BundleError: ONNX Runtime cannot load or run a graph.
    """
    found = {}
    for name, graph in graphs.items():
        session = Session(graph, is_exact=is_literal)
        feed = branch_feed(session, examples.inputs[name], spec.modality(name).recipe)
        feature, logits = _run(session, feed, ("feature", "logits"))
        found[name] = (feature, logits)
    return found


def fuse(
    graph: bytes, spec: ModelSpec, branches: Mapping[str, tuple[FloatArray, FloatArray]], present: FloatArray
) -> Answers:
    """Return what the fusion head makes of the branches' answers in every case.

    Args:
        graph: the head's, for any batch.
        spec: of the model.
        branches: (feature, logits) by modality, (n, ...).
        present: (n, M), which modalities the examples have.
    """
    session = Session(graph)
    feeds = {f"feature_{name}": feature for name, (feature, _) in branches.items()}
    feeds |= {f"logits_{name}": logits for name, (_, logits) in branches.items()}
    cases = {}
    for case, mask in masks(spec, present).items():
        rows = np.flatnonzero(mask.any(axis=1))
        if not len(rows):
            continue
        given = {name: value[rows] for name, value in feeds.items()} | {"mask": mask[rows]}
        logits, weights, entropies = _run(session, given, ("logits", "weights", "entropies"))
        cases[case] = Fused(rows=rows, logits=logits, weights=weights, entropies=entropies)
    return Answers(branch_logits={name: logits for name, (_, logits) in branches.items()}, cases=cases)


def answer(graphs: Mapping[str, bytes], spec: ModelSpec, examples: Examples, *, is_literal: bool = False) -> Answers:
    """Return what branches and fusion head say; arguments and errors as `ask_branches` and `fuse`."""
    branches = {name: graphs[name] for name in spec.modality_names}
    return fuse(graphs[FUSION], spec, ask_branches(branches, spec, examples, is_literal=is_literal), examples.present)


def masks(spec: ModelSpec, present: FloatArray) -> dict[str, FloatArray]:
    """Return the mask of every case, (n, M): what the examples have, and the same with each modality gone."""
    found = {ALL: present}
    for m, name in enumerate(spec.modality_names):
        gone = present.copy()
        gone[:, m] = 0
        found[f"without_{name}"] = gone
    return found


def _run(session: Session, feeds: Arrays, outputs: tuple[str, ...]) -> list[FloatArray]:
    """Return the outputs for all rows, computed some rows at a time."""
    count = len(next(iter(feeds.values())))
    parts = [
        session.run({name: value[first : first + _ROWS] for name, value in feeds.items()}, outputs)
        for first in range(0, count, _ROWS)
    ]
    return [np.concatenate([part[name] for part in parts]) for name in outputs]

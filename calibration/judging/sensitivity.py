"""Which layers suffer from INT8, and which of them to leave in float for the least loss of speed.

Each layer is quantized alone, everything else in float: what that does to the branch's logits, to the fused answer and
to the fusion weights is its harm. Then the most harmful ones are left in float, one more at a time, until the gates are
passed or the time is no longer worth it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from onnx import ModelProto

from calibration.examples import Examples
from calibration.graphs import serialize, with_batch
from calibration.judging.answers import ALL, Answers, ask_branches, fuse
from calibration.judging.gates import Gates, judge
from calibration.judging.ladder import Stopwatch, without_nan
from calibration.quantization.clipping import sqnr_db
from calibration.quantization.emit_int8 import emit_int8
from calibration.quantization.operators import GraphView, view
from calibration.quantization.plan import default_float_nodes, quantizable_nodes
from calibration.quantization.quantize import plan_branch
from calibration.quantization.ranges import Ranges, check_graph
from models.bundle import FUSION, Bundle, Target
from models.errors import ConfigError

MOST_EXAMPLES = 256
"""That harm is measured on; the gates judge the whole set afterwards."""
MOST_STEPS = 6
"""Layers that are left in float at most: with more, FP16 or FP32 is the better choice."""


class Harm(msgspec.Struct, frozen=True, kw_only=True):
    """What quantizing one layer alone does."""

    role: str
    node: str
    operator: str
    branch_sqnr_db: float
    """Of the branch's logits."""
    fused_sqnr_db: float
    changed: float
    """Share of examples whose fused class changes."""
    weight_drift: float
    """99th percentile over examples of the largest change of a fusion weight."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """All layers in INT8 but for some."""

    float_nodes: dict[str, tuple[str, ...]]
    """By role, beyond those that are always float."""
    fused_sqnr_db: float
    broken: tuple[str, ...]
    """Gates that it fails."""
    time: float | None
    """Of all branches, as a share of their time in FP32; None where this machine is not the target."""


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """The whole finding."""

    bundle: str
    target: Target
    method: str
    examples: int
    budget: float
    """Largest time, as a share of FP32's, that is worth it."""
    harms: tuple[Harm, ...]
    """Worst first."""
    steps: tuple[Step, ...]
    """The first with every layer in INT8, each further one with one more in float."""
    chosen: int
    """Index of the step whose float layers `mixed` leaves out."""
    why: str

    @property
    def float_nodes(self) -> dict[str, tuple[str, ...]]:
        """By role: what `mixed` leaves in float."""
        return self.steps[self.chosen].float_nodes

    def lines(self) -> list[str]:
        """Return what was found, in lines for people, the most harmful layers first."""
        told = [
            f"{one.role}: {one.node} ({one.operator}): alone in INT8 {one.fused_sqnr_db:.1f} dB, branch"
            f" {one.branch_sqnr_db:.1f} dB, {one.changed:.1%} of the classes change"
            for one in self.harms
        ]
        for n, step in enumerate(self.steps):
            time = "" if step.time is None else f", {step.time:.0%} of FP32's time"
            told.append(f"{n} in float: {step.fused_sqnr_db:.1f} dB, {len(step.broken)} gates failed{time}")
        kept = ", ".join(f"{role}:{node}" for role, nodes in self.float_nodes.items() for node in nodes)
        return [*told, f"{self.why}: mixed leaves {kept} in float" if kept else self.why]


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What was found for each target: their integers differ, and so does what suffers from them."""

    targets: tuple[Sensitivity, ...]

    @property
    def float_nodes(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """By target and role: what `mixed` leaves in float."""
        return {one.target: one.float_nodes for one in self.targets if one.float_nodes}

    def lines(self) -> list[str]:
        """Return all of it in lines for people."""
        return [line for one in self.targets for line in (f"{one.target}:", *(f"  {text}" for text in one.lines()))]

    def as_json(self) -> dict[str, Any]:
        """Return JSON types; what is not a finite number is null."""
        told: dict[str, Any] = without_nan(msgspec.to_builtins(self))
        return {**told, "float_nodes": msgspec.to_builtins(self.float_nodes)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked of a bundle's layers."""

    bundle: Bundle
    ranges: Ranges
    examples: Examples
    target: Target
    gates: Gates
    budget: float
    stopwatch: Stopwatch | None
    """None where this machine is not the target."""


def examine(question: Question) -> Iterator[tuple[int, int, Sensitivity | None]]:
    """Yield (graphs tried, of how many, None) as it goes, and the finding in the end.

    Raises:
        InputError: the ranges are of other graphs.
        ConfigError: no branch has anything to quantize.
        BundleError: a graph cannot be quantized or run.
    """
    layers = _Layers(question)
    total = len(layers.candidates) + min(MOST_STEPS, len(layers.candidates) - 1) + 1
    harms: list[Harm] = []
    for done, (role, node) in enumerate(layers.candidates):
        yield done, total, None
        harms.append(layers.harm(role, node))
    harms.sort(key=lambda one: (one.fused_sqnr_db, one.branch_sqnr_db))
    steps: list[Step] = []
    for count in range(total - len(harms)):
        yield len(harms) + count, total, None
        steps.append(layers.step([(one.role, one.node) for one in harms[:count]]))
        if not steps[-1].broken:
            break
    chosen, why = choose(steps, question.budget)
    yield (
        total,
        total,
        Sensitivity(
            bundle=question.bundle.manifest.title,
            target=question.target,
            method=question.ranges.method,
            examples=layers.examples.count,
            budget=question.budget,
            harms=tuple(harms),
            steps=tuple(steps),
            chosen=chosen,
            why=why,
        ),
    )


def choose(steps: list[Step], budget: float) -> tuple[int, str]:
    """Return the index of the step to take, and why: the first that passes, else the most exact, both within budget."""
    affordable = [n for n, step in enumerate(steps) if step.time is None or step.time <= budget] or [0]
    passing = [n for n in affordable if not steps[n].broken]
    if passing:
        count = passing[0]
        return count, "every layer may be INT8" if count == 0 else f"all gates are passed with {count} layers in float"
    best = max(affordable, key=lambda n: steps[n].fused_sqnr_db)
    return best, (
        f"no choice passes all gates within {budget:.0%} of FP32's time; the most exact has {best} layers in float and"
        f" fails {len(steps[best].broken)}, first {steps[best].broken[0]}"
    )


class _Layers:
    """The layers of all branches, and what comes of quantizing some."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.spec = question.bundle.spec
        self.examples = thinned(question.examples, MOST_EXAMPLES)
        self._fp32 = {name: question.bundle.graph(name, batch="any") for name in self.spec.modality_names}
        self._views: dict[str, GraphView] = {}
        self.candidates: list[tuple[str, str]] = []
        for modality in self.spec.modalities:
            check_graph(question.ranges, modality.name, self._fp32[modality.name])
            graph = self._views[modality.name] = view(self._fp32[modality.name])
            kept = default_float_nodes(graph)
            self.candidates += [(modality.name, node.name) for node in quantizable_nodes(graph, kept)]
        if not self.candidates:
            raise ConfigError(
                f"{question.bundle.manifest.title}: no branch has a layer that INT8 is for: fly it in fp32, or quantize"
                " --precision fp16 --target trt"
            )
        self._tables = {name: question.ranges.of(name, question.target) for name in self.spec.modality_names}
        self._head = question.bundle.graph(FUSION, batch="any")
        self._answered = ask_branches(self._fp32, self.spec, self.examples)
        self._reference = fuse(self._head, self.spec, self._answered, self.examples.present)

    def harm(self, role: str, node: str) -> Harm:
        """Return what comes of one layer alone in INT8."""
        others = [name for of, name in self.candidates if of == role and name != node]
        found = self._answers({role: self._emitted(role, others)})
        operator = next(one.op_type for one in self._views[role].nodes if one.name == node)
        reference, fused = self._reference.cases[ALL], found.cases[ALL]
        drift = np.abs(fused.weights - reference.weights).max(axis=1)
        return Harm(
            role=role,
            node=node,
            operator=operator,
            branch_sqnr_db=sqnr_db(self._reference.branch_logits[role], found.branch_logits[role]),
            fused_sqnr_db=sqnr_db(reference.logits, fused.logits),
            changed=float((reference.logits.argmax(axis=1) != fused.logits.argmax(axis=1)).mean()),
            weight_drift=float(np.quantile(drift, 0.99)),
        )

    def step(self, kept: list[tuple[str, str]]) -> Step:
        """Return what comes of all layers in INT8 but for some."""
        float_nodes = {role: tuple(name for of, name in kept if of == role) for role in self.spec.modality_names}
        models = {
            role: self._emitted(role, names)
            for role, names in float_nodes.items()
            if len(names) < sum(of == role for of, _ in self.candidates)
        }
        found = self._answers(models)
        verdict = judge(self._reference, found, self.examples.labels, self.spec.classes, self.question.gates)
        return Step(
            float_nodes={role: names for role, names in float_nodes.items() if names},
            fused_sqnr_db=sqnr_db(self._reference.cases[ALL].logits, found.cases[ALL].logits),
            broken=verdict.broken,
            time=self._time(models),
        )

    def _emitted(self, role: str, float_nodes: Collection[str]) -> ModelProto:
        graph = self._views[role]
        plan = plan_branch(graph, self.question.target, self._tables[role], float_nodes)
        return emit_int8(graph, plan)

    def _answers(self, models: Mapping[str, ModelProto]) -> Answers:
        graphs = {role: serialize(model) for role, model in models.items()}
        own = ask_branches(graphs, self.spec, self.examples, is_literal=self.question.target == "trt")
        return fuse(self._head, self.spec, self._answered | own, self.examples.present)

    def _time(self, models: Mapping[str, ModelProto]) -> float | None:
        if self.question.stopwatch is None:
            return None
        taken = exact = 0.0
        for role in self.spec.modality_names:
            fp32 = self.question.bundle.graph(role)
            ms, fp32_ms = self.question.stopwatch(
                serialize(with_batch(models[role], 1)) if role in models else fp32, fp32
            )
            taken, exact = taken + ms, exact + fp32_ms
        return taken / exact


def thinned(examples: Examples, most: int) -> Examples:
    """Return at most so many examples, evenly from all."""
    rows = np.unique(np.linspace(0, examples.count - 1, min(most, examples.count)).astype(np.int64))
    return replace(
        examples,
        inputs={name: values[rows] for name, values in examples.inputs.items()},
        present=examples.present[rows],
        labels=examples.labels[rows],
    )

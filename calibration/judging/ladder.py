"""Which precision may fly on which target: each rung of the ladder against FP32, the first that keeps to the gates.

INT8, then INT8 with the sensitive layers in float, then FP16, then FP32 itself. Where the target is the machine that
judges, a graph must also be faster than FP32's, else that role flies in FP32.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from calibration.examples import Examples
from calibration.judging.answers import Answers, ask_branches, fuse
from calibration.judging.gates import Figures, Gates, judge
from models.bundle import FUSION, WHOLE, Bundle, Precision, Target
from models.manifest import TARGETS

LEAST_SPEEDUP = 1.05
"""Of a graph that flies instead of FP32's: less is within what a measurement strays."""
RUNGS: tuple[Precision, ...] = ("int8", "mixed", "fp16")

Stopwatch = Callable[[bytes, bytes], tuple[float, float]]
"""Milliseconds of two graphs of a role for one example, measured in turns."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long a role's graph takes on this machine, beside FP32's in the same run."""

    precision: Precision
    ms: float
    fp32_ms: float

    @property
    def speedup(self) -> float:
        """How many times faster than FP32."""
        return self.fp32_ms / self.ms


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One precision on one target, judged."""

    precision: Precision
    roles: tuple[str, ...]
    """Those that have a graph of it; the others stay FP32."""
    figures: dict[str, Figures]
    """By case."""
    broken: tuple[str, ...]
    """Gates that it fails, in words; empty if it may fly."""


class TargetResult(msgspec.Struct, frozen=True, kw_only=True):
    """What may fly on a target, and why."""

    target: Target
    rungs: tuple[Rung, ...]
    """In the ladder's order, as far as there are graphs."""
    chosen: Precision
    why: str
    timings: dict[str, Timing]
    """By role, where the target is this machine."""
    approved: dict[str, Precision]
    """By role; what is not here flies in FP32."""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The whole finding."""

    bundle: str
    graphs: dict[str, str]
    """SHA-256 of every graph that was judged, and of FP32's, by file."""
    examples: int
    note: str
    """Where the examples come from."""
    gates: Gates
    accuracy: dict[str, float]
    """Of FP32, by case; NaN where nobody knows the labels."""
    targets: tuple[TargetResult, ...]

    @property
    def approved(self) -> dict[str, dict[str, Precision]]:
        """By target and role, as the manifest has it."""
        return {one.target: one.approved for one in self.targets if one.approved}

    def lines(self) -> list[str]:
        """Return what was found, in lines for people."""
        told = []
        for one in self.targets:
            told.append(f"{one.target}: {one.chosen}. {one.why}")
            for role, timing in one.timings.items():
                told.append(
                    f"  {role}: {timing.ms:.3f} ms in {timing.precision}, {timing.fp32_ms:.3f} ms in fp32,"
                    f" {timing.speedup:.2f} x as fast"
                )
            for rung in one.rungs:
                told += [f"  {rung.precision}, {case}: {_figures_text(each)}" for case, each in rung.figures.items()]
        return told

    def as_json(self) -> dict[str, Any]:
        """Return JSON types; what is not a finite number is null."""
        told: dict[str, Any] = without_nan(msgspec.to_builtins(self))
        return {**told, "approved": self.approved}


def verify(
    bundle: Bundle,
    examples: Examples,
    gates: Gates,
    *,
    machine: str,
    stopwatch: Stopwatch,
    on_rung: Callable[[str], None],
) -> tuple[dict[str, float], tuple[TargetResult, ...]]:
    """Return FP32's accuracy by case, and what came of every rung of every target for which there are graphs.

    Args:
        bundle: FP32 graphs and those to be judged.
        examples: preprocessed, none of them used for the ranges.
        gates: what to keep to.
        machine: target that this machine is, such as cpu-x86.
        stopwatch: measures a role's graph against FP32's, batch 1.
        on_rung: learns, in words, what came of a rung.
    Raises:
        BundleError: ONNX Runtime cannot run a graph.
    """
    judged = _Judged(bundle, examples, gates, on_rung)
    own = judge(judged.reference, judged.reference, examples.labels, bundle.spec.classes, gates)
    results = tuple(
        _target(judged, target, stopwatch if target == machine else None)
        for target in TARGETS
        if any(roles(bundle, precision, target) for precision in RUNGS)
    )
    return {case: one.accuracy for case, one in own.figures.items()}, results


class _Judged:
    """Everything that is judged, against FP32's answers, asked once."""

    def __init__(self, bundle: Bundle, examples: Examples, gates: Gates, on_rung: Callable[[str], None]) -> None:
        self.on_rung = on_rung
        self.bundle = bundle
        self.spec = bundle.spec
        self.examples = examples
        self.gates = gates
        own = {name: bundle.graph(name, batch="any") for name in self.spec.modality_names}
        self._fp32 = ask_branches(own, self.spec, examples)
        self.reference = fuse(bundle.graph(FUSION, batch="any"), self.spec, self._fp32, examples.present)

    def rung(self, precision: Precision, target: Target) -> Rung | None:
        """Return a rung's figures; None where no role has a graph of it."""
        there = roles(self.bundle, precision, target)
        if not there:
            return None
        answers = self._answers(there, precision, target)
        found = judge(self.reference, answers, self.examples.labels, self.spec.classes, self.gates)
        told = "keeps to all gates" if found.is_passed else f"fails {len(found.broken)} gates, first {found.broken[0]}"
        self.on_rung(f"{precision} for {target}: {told}")
        return Rung(precision=precision, roles=there, figures=dict(found.figures), broken=found.broken)

    def _answers(self, there: tuple[str, ...], precision: Precision, target: Target) -> Answers:
        graphs = {role: self.bundle.graph(role, precision, target, batch="any") for role in there}
        head = graphs.pop(FUSION, None) or self.bundle.graph(FUSION, batch="any")
        # TensorRT's kernels cannot be had here: its graphs are computed as they are written.
        own = ask_branches(graphs, self.spec, self.examples, is_literal=target == "trt")
        return fuse(head, self.spec, self._fp32 | own, self.examples.present)


def roles(bundle: Bundle, precision: Precision, target: Target) -> tuple[str, ...]:
    """Return the roles, branches and head, that have a graph of a precision for a target."""
    found = (one.role for one in bundle.manifest.graphs if one.precision == precision and one.target in (target, "any"))
    return tuple(role for role in dict.fromkeys(found) if role != WHOLE)


def _target(judged: _Judged, target: Target, stopwatch: Stopwatch | None) -> TargetResult:
    rungs = tuple(rung for precision in RUNGS if (rung := judged.rung(precision, target)) is not None)
    passed = next((rung for rung in rungs if not rung.broken), None)
    timings: dict[str, Timing] = {}
    approved: dict[str, Precision] = {}
    if passed is not None:
        for role in passed.roles:
            if stopwatch is not None:
                timings[role] = _timed(judged.bundle, role, passed.precision, target, stopwatch)
            if role not in timings or timings[role].speedup >= LEAST_SPEEDUP:
                approved[role] = passed.precision
    return TargetResult(
        target=target,
        rungs=rungs,
        chosen=passed.precision if passed is not None and approved else "fp32",
        why=_why(rungs, passed, timings, approved),
        timings=timings,
        approved=approved,
    )


def _timed(bundle: Bundle, role: str, precision: Precision, target: Target, stopwatch: Stopwatch) -> Timing:
    ms, fp32_ms = stopwatch(bundle.graph(role, precision, target), bundle.graph(role))
    return Timing(precision=precision, ms=ms, fp32_ms=fp32_ms)


def _why(
    rungs: tuple[Rung, ...], passed: Rung | None, timings: Mapping[str, Timing], approved: Mapping[str, Precision]
) -> str:
    """Return how the ladder was gone down, in a sentence or two."""
    failed = rungs if passed is None else rungs[: rungs.index(passed)]
    parts = [f"{rung.precision} fails {len(rung.broken)} gates, first {rung.broken[0]}" for rung in failed]
    parts.append("fp32 flies" if passed is None else f"{passed.precision} keeps to all gates")
    slow = [
        f"{role} is not {LEAST_SPEEDUP:g} x as fast in {timing.precision} ({timing.speedup:.2f} x) and stays fp32"
        for role, timing in timings.items()
        if role not in approved
    ]
    untimed = ["not timed: this machine is another"] if passed is not None and not timings else []
    return "; ".join([*parts, *slow, *untimed])


def _figures_text(one: Figures) -> str:
    right = "no labels"
    if one.labelled:
        lost = max(one.recall_lost.values())
        right = f"accuracy {one.accuracy:.1%} (lost {one.accuracy_lost:.1%}, worst class {lost:.1%})"
    return (
        f"agreement {one.agreement:.1%}, {right}, SQNR {one.sqnr_db:.1f} dB, weight drift {one.weight_drift:.4f},"
        f" order flips {one.order_flips:.1%}"
    )


def without_nan(value: Any) -> Any:
    """Return JSON types with null for what is not a finite number."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Do a GPU's graphs answer as FP32 does? The golden examples, and variants of them so that a share means something."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.backends.golden import GOLDEN_TOLERANCE
from edge.backends.onnx import load_engines
from edge.backends.session import Engines
from edge.selfcheck.line import Line, Status
from models.bundle import FUSION, GOLDEN, Bundle, Precision

VARIANTS = 128
_NOISE = 0.05
"""Of a variant, relative to the spread of the golden example that it is made of: enough to move every activation."""
_SEED = 7
LEAST_AGREEMENT = 0.99
"""Share of examples with the same first class as FP32 has."""
MOST_IN_FP16 = 1e-2
"""Of a fused logit from FP32's; of a branch's, relative to the RMS of its logits where that is above 1.

FP16 has 11 bits: beside a logit of 10 it cannot tell 0.004 apart. The shipped model's image branch, whose logits reach
10, differs by 0.018 when ONNX Runtime computes its FP16 graph; the fused answer by 0.009.
"""
_FINEST_FIRST: tuple[Precision, ...] = ("fp32", "fp16", "mixed", "int8")

Answers = dict[str, NDArray[np.float32]]
"""Logits by role, (examples, classes)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """What the graphs are asked."""

    inputs: Mapping[str, NDArray[np.generic]]
    """By modality: (examples, *input), as the graph takes them."""
    masks: NDArray[np.float32]
    """(examples, modalities)."""

    def __len__(self) -> int:
        return len(self.masks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """How one graph compares with FP32 on ONNX Runtime."""

    role: str
    precision: Precision
    """Of the coarsest graph that its answers went through."""
    examples: int
    same_first_class: int
    most_difference: float
    """Largest absolute difference of a logit; infinite where one is not finite."""
    rms: float
    """Of FP32's logits."""

    @property
    def agreement(self) -> float:
        """Return the share of examples with the same first class."""
        return self.same_first_class / self.examples

    @property
    def most_allowed(self) -> float:
        """Return the bound on the difference; integers are held to the classes alone."""
        if self.precision == "fp32":
            return GOLDEN_TOLERANCE
        if self.precision == "fp16":
            return MOST_IN_FP16 * (1.0 if self.role == FUSION else max(1.0, self.rms))
        return float("inf")


def examples_of(bundle: Bundle, variants: int = VARIANTS) -> Examples:
    """Return a bundle's golden examples, followed by variants of them with a little noise, the same every time."""
    with np.load(io.BytesIO(bundle.contents[GOLDEN]), allow_pickle=False) as stored:
        golden = {name: stored[f"input_{name}"] for name in bundle.spec.modality_names}
        masks = np.ones((len(stored["mask"]) + variants, len(golden)), np.float32)
        masks[: len(stored["mask"])] = stored["mask"]
    rng = np.random.default_rng(_SEED)
    inputs = {name: np.concatenate([array, _varied(array, variants, rng)]) for name, array in golden.items()}
    return Examples(inputs=inputs, masks=masks)


def reference(bundle: Bundle, examples: Examples) -> Answers:
    """Return what the FP32 graphs answer on ONNX Runtime."""
    return ask(load_engines(bundle, "fp32"), examples)


def ask(engines: Engines, examples: Examples) -> Answers:
    """Return the logits of every branch, and of the fusion of what these branches said."""
    rows: dict[str, list[NDArray[np.float32]]] = {role: [] for role in (*engines.branches, FUSION)}
    for n in range(len(examples)):
        inputs = engines.fusion.inputs
        for name, engine in engines.branches.items():
            np.copyto(engine.inputs["input"][0], examples.inputs[name][n], casting="no")
            engine.run()
            inputs[f"feature_{name}"][...] = engine.outputs["feature"]
            inputs[f"logits_{name}"][...] = engine.outputs["logits"]
            rows[name].append(engine.outputs["logits"][0].copy())
        inputs["mask"][0] = examples.masks[n]
        engines.fusion.run()
        rows[FUSION].append(engines.fusion.outputs["logits"][0].copy())
    return {role: np.stack(logits) for role, logits in rows.items()}


def compare(found: Answers, expected: Answers, precisions: Mapping[str, Precision]) -> list[Parity]:
    """Return how each graph compares; the fused answer has come through all of them."""
    coarsest = max(precisions.values(), key=_FINEST_FIRST.index)
    return [
        Parity(
            role=role,
            precision=coarsest if role == FUSION else precisions[role],
            examples=len(logits),
            same_first_class=int((logits.argmax(axis=1) == expected[role].argmax(axis=1)).sum()),
            most_difference=difference(logits, expected[role]),
            rms=float(np.sqrt(np.mean(np.square(expected[role], dtype=np.float64)))),
        )
        for role, logits in found.items()
    ]


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest absolute difference; infinite where something is not finite."""
    apart = np.abs(found.astype(np.float64) - expected)
    return float(apart.max()) if np.isfinite(apart).all() else float("inf")


def parity_line(parity: Parity) -> Line:
    """Return the line that judges a comparison; a single example of another class is chance, and a warning."""
    bound = parity.most_allowed
    others = parity.examples - parity.same_first_class
    is_near = parity.most_difference <= bound and np.isfinite(parity.most_difference)
    status: Status = "ok"
    if not is_near or (parity.agreement < LEAST_AGREEMENT and others > 1):
        status = "failed"
    elif parity.agreement < LEAST_AGREEMENT:
        status = "warning"
    expected = f"the first class of FP32 for {LEAST_AGREEMENT:.0%} of {parity.examples} examples"
    if np.isfinite(bound):
        expected += f", logits within {bound:.2g}"
    return Line(
        name=f"answers of {parity.role} in {parity.precision}",
        status=status,
        expected=expected,
        found=f"{parity.agreement:.1%}, logits within {parity.most_difference:.2g}",
        remedy=""
        if status == "ok"
        else "build the plans anew; if it stays, fly a finer precision, and send us the report",
    )


def _varied(golden: NDArray[np.generic], variants: int, rng: np.random.Generator) -> NDArray[np.generic]:
    """Return noisy copies of examples, each in turn, of their own type."""
    chosen = golden[np.arange(variants) % len(golden)].astype(np.float64)
    spread = chosen.reshape(variants, -1).std(axis=1) if variants else np.zeros(0)
    noise = rng.standard_normal(chosen.shape) * _NOISE * spread.reshape(-1, *[1] * (chosen.ndim - 1))
    if golden.dtype == np.uint8:
        return np.clip(np.rint(chosen + noise), 0, 255).astype(np.uint8)
    return (chosen + noise).astype(golden.dtype)

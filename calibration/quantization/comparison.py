"""Which way from histogram to range serves a bundle best: foretold for each tensor, and measured on whole graphs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.examples import Examples
from calibration.quantization.clipping import METHODS, expected_sqnr_db, sqnr_db
from calibration.quantization.emit_int8 import emit_int8
from calibration.quantization.operators import view
from calibration.quantization.plan import default_float_nodes, quantizable_nodes
from calibration.quantization.quantize import plan_branch
from calibration.quantization.ranges import Ranges
from calibration.session import Session, branch_feed
from models.bundle import Bundle
from models.quantization import SCHEMES, affine
from models.spec import ModalitySpec

COMPARED = ("cpu-x86", "trt")
"""Targets: Arm's integers differ from those of x86 by an offset alone."""
MAX_HELD_BACK = 64
"""Examples that whole graphs are judged on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One branch quantized for one target by each method."""

    role: str
    target: str
    examples: int
    """How many held-back examples were answered."""
    logits_db: dict[str, float]
    """By method: SQNR of the INT8 graph's logits against the FP32 graph's."""
    tensors_db: dict[str, dict[str, float]]
    """By tensor and method: SQNR that the histogram foretells."""

    @property
    def best(self) -> str:
        """The method whose logits are nearest to FP32."""
        return max(self.logits_db, key=lambda method: self.logits_db[method])


def compare_methods(bundle: Bundle, examples: Examples, ranges: Ranges) -> Iterator[Comparison]:
    """Yield a comparison for each branch with something to quantize, and target; raises as emitting and running do."""
    for n, modality in enumerate(bundle.spec.modalities):
        data = bundle.graph(modality.name, batch="any")
        graph = view(data)
        if not quantizable_nodes(graph, default_float_nodes(graph)):
            continue
        rows = examples.rows(n, is_held_back=True)[:MAX_HELD_BACK]
        for target in COMPARED:
            yield compare_branch(data, modality, target, ranges, examples.inputs[modality.name][rows])


def best_method(comparisons: Sequence[Comparison]) -> str:
    """Return the method whose worst branch and target is the best: one serves them all; the first of all for none."""
    return max(METHODS, key=lambda method: min((one.logits_db[method] for one in comparisons), default=0.0))


def compare_branch(
    data: bytes, modality: ModalitySpec, target: str, ranges: Ranges, inputs: NDArray[np.float32]
) -> Comparison:
    """Return how the methods compare on a branch's FP32 graph and held-back inputs (n, *input_shape)."""
    graph = view(data)
    exact = _logits(data, modality, inputs)
    logits_db = {}
    tables = {method: ranges.of(modality.name, target, method) for method in METHODS}
    for method, table in tables.items():
        plan = plan_branch(graph, target, table)
        found = _logits(emit_int8(graph, plan).SerializeToString(), modality, inputs)
        logits_db[method] = sqnr_db(exact, found)
    scheme = SCHEMES[target]
    tensors_db = {
        tensor: {method: expected_sqnr_db(histogram, affine(*tables[method][tensor], scheme)) for method in METHODS}
        for tensor, histogram in ranges.histograms[modality.name].items()
        if tensor in plan.affines
    }
    return Comparison(
        role=modality.name, target=target, examples=len(inputs), logits_db=logits_db, tensors_db=tensors_db
    )


def _logits(graph: bytes, modality: ModalitySpec, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    session = Session(graph)
    logits = [
        session.run(branch_feed(session, inputs[n : n + 1], modality.recipe))["logits"] for n in range(len(inputs))
    ]
    return np.concatenate(logits)

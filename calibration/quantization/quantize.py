"""From ranges to graphs: each branch in each precision for each target, checked before anybody sees it."""

import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from calibration import rules
from calibration.graphs import serialize, with_batch
from calibration.quantization.clipping import sqnr_db
from calibration.quantization.emit_fp16 import emit_fp16
from calibration.quantization.emit_int8 import emit_int8
from calibration.quantization.operators import GraphView, view
from calibration.quantization.plan import Plan, default_float_nodes, plan_int8, quantizable_nodes
from calibration.quantization.ranges import Ranges, check_graph
from calibration.quantization.reference import run_reference
from calibration.session import Session, branch_feed
from calibration.work import graph_file
from models.bundle import GOLDEN, Batch, Bundle, GraphEntry, Precision, Target
from models.errors import BundleError

FloatNodes = Mapping[str, Mapping[str, Collection[str]]]
"""By target and role: names of nodes."""

LEAST_AGREEMENT_DB = 40.0
"""Of a graph's logits with its reference: rounding that falls otherwise costs less, a wrong graph costs all."""
_GOLDEN_ROWS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One form that a branch is emitted in."""

    precision: Precision
    target: Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantized:
    """One emitted graph."""

    entry: GraphEntry
    data: bytes
    int8_nodes: tuple[str, ...]
    """Names of nodes that compute in INT8."""
    float_nodes: tuple[str, ...]
    """Names of nodes that could, and do not."""


def quantize_bundle(
    bundle: Bundle,
    ranges: Ranges,
    variants: Collection[Variant],
    float_nodes: FloatNodes,
    method: str,
) -> Iterator[Quantized]:
    """Yield the graphs of every branch in every variant, for one example and for any batch.

    Args:
        bundle: whose FP32 graphs are quantized.
        ranges: of those graphs.
        variants: what to emit; a target without entry in `float_nodes` has no mixed form, a branch of nothing but
            layers that always stay float no INT8.
        float_nodes: what mixed leaves in float beyond what every INT8 graph does; a branch of which nothing is said is
            all INT8 in it, one of which nothing is left all FP32.
        method: from histogram to range.
    Raises:
        InputError: the ranges are of other graphs.
        ConfigError: a float node does not exist.
        BundleError: a graph cannot be quantized, answers otherwise than its reference, or breaks a rule of TensorRT.
    """
    for modality in bundle.spec.modalities:
        data = bundle.graph(modality.name, batch="any")
        check_graph(ranges, modality.name, data)
        graph = view(data)
        inputs = golden_inputs(bundle, modality.name)
        for variant in variants:
            spared = float_nodes.get(variant.target, {}) if variant.precision == "mixed" else {}
            has_int8 = bool(quantizable_nodes(graph, kept_float(graph, spared.get(modality.name, ()))))
            if (variant.precision == "mixed" and not spared) or (variant.precision == "int8" and not has_int8):
                continue
            plan, model = None, graph.model
            if variant.precision == "fp16":
                model = emit_fp16(graph)
            elif has_int8:
                table = ranges.of(modality.name, variant.target, method)
                plan = plan_branch(graph, variant.target, table, spared.get(modality.name, ()))
                model = emit_int8(graph, plan)
            session = Session(model.SerializeToString(), is_exact=True)
            feed = branch_feed(session, inputs, modality.recipe)
            check_emitted(f"{modality.name} in {variant.precision} for {variant.target}", session, feed, graph, plan)
            if variant.target == "trt":
                check_rules(f"{modality.name} in {variant.precision}", model)
            yield from _both_batches(modality.name, variant, graph, plan, model)


def kept_float(graph: GraphView, float_nodes: Collection[str]) -> set[str]:
    """Return what stays float in a branch: what always does, and further nodes."""
    return {*default_float_nodes(graph), *float_nodes}


def check_rules(what: str, model: ModelProto) -> None:
    """Raise BundleError where a graph breaks a rule of TensorRT: it would be refused on the device, or compute wrongly.

    Nothing that is emitted here should; a network of layers that nobody has tried might.
    """
    broken = [one for one in rules.check_graph(model) if one.severity == "error"]
    if broken:
        raise BundleError(f"{what} for trt: node {broken[0].node}: {broken[0].reason}: {broken[0].fix}")


def plan_branch(
    graph: GraphView,
    target: str,
    table: Mapping[str, tuple[float, float]],
    float_nodes: Collection[str] = (),
) -> Plan:
    """Return the plan for a branch: what always stays float, and further nodes."""
    return plan_int8(graph, table, target, kept_float(graph, float_nodes))


def check_emitted(
    what: str, session: Session, feed: Mapping[str, NDArray[Any]], graph: GraphView, plan: Plan | None
) -> float:
    """Compare an emitted graph, run as the standard says, with the NumPy reference; return the logits' agreement in dB.

    Raises:
        BundleError: it is below LEAST_AGREEMENT_DB.
    """
    expected = run_reference(graph, feed, plan)["logits"]
    agreement = sqnr_db(expected, session.run(feed)["logits"])
    if not agreement >= LEAST_AGREEMENT_DB:
        raise BundleError(
            f"{what}: the graph agrees with its NumPy reference to {agreement:.1f} dB, expected at least"
            f" {LEAST_AGREEMENT_DB:.0f}: report the bundle and the releases of onnx and onnxruntime, and fly it in fp32"
        )
    return agreement


def golden_inputs(bundle: Bundle, role: str) -> NDArray[Any]:
    """Return a few of the bundle's own examples, (rows, *input_shape), of the type that the graph takes."""
    with np.load(io.BytesIO(bundle.contents[GOLDEN]), allow_pickle=False) as stored:
        inputs: NDArray[Any] = stored[f"input_{role}"][:_GOLDEN_ROWS]
        return inputs


def _both_batches(
    role: str, variant: Variant, graph: GraphView, plan: Plan | None, model: ModelProto
) -> Iterator[Quantized]:
    int8_nodes = plan.nodes if plan else ()
    candidates = [node.name for node in graph.nodes if node.op_type in ("Conv", "Gemm", "MatMul")]
    batches: tuple[tuple[Batch, ModelProto], ...] = (("one", with_batch(model, 1)), ("any", model))
    for batch, emitted in batches:
        file = graph_file(role, variant.precision, variant.target, batch)
        yield Quantized(
            entry=GraphEntry(role=role, precision=variant.precision, target=variant.target, batch=batch, file=file),
            data=serialize(emitted),
            int8_nodes=int8_nodes,
            float_nodes=tuple(name for name in candidates if name not in int8_nodes),
        )

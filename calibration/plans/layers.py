"""What became of each layer: its precision, its kernel, and where it is not INT8 although the graph wants it, why.

Two sources: the engine inspector, which tells what runs, and where no GPU is at hand to ask it, the parsed network,
which tells what was asked for. Both are compared with the Q/DQ nodes of the ONNX graph.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto, NodeProto

from calibration.plans.engine import NetworkLayer
from calibration.rules.view import DEQUANTIZE, WEIGHTED, AnyGraph, attribute, label, look_up

_WITHOUT_ARITHMETIC = ("CONSTANT", "SHUFFLE", "SQUEEZE", "UNSQUEEZE", "QUANTIZE", "DEQUANTIZE")
_WITH_WEIGHTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
_MOVING = ("reformat", "noop", "shuffle", "constant", "signal", "wait")
"""Kinds of layers of an engine that carry a node's name and none of its products."""
_PASSING = ("SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY")
_ONNX_NAME = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_PRECISIONS = (("INT8", ("int8",)), ("FP16", ("fp16", "half")), ("FP32", ("fp32", "float")))
_MULTIPLE = 4
"""Channels that an INT8 instruction multiplies at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """What the graph says of a node with weights."""

    is_int8: bool
    """Both its operands are quantized."""
    why: str
    """Why not, or what may keep a builder from it all the same; may be empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A line of the report."""

    name: str
    kind: str
    precision: str
    """INT8, FP16, FP32 or unknown."""
    nodes: tuple[str, ...]
    """Of the graph, that it computes."""
    tactic: str = ""
    """Name of the kernel; empty where nobody tells."""
    is_int8_wanted: bool = False
    why: str = ""
    """Why it is not INT8; empty where it is, or where there is nothing to quantize."""


def intents(model: ModelProto) -> dict[str, Intent]:
    """Return what a graph with Q/DQ says of each node that has an INT8 kernel at all, by name."""
    graph = look_up(model)
    if not any(node.op_type == DEQUANTIZE for node in graph.nodes):
        return {}
    return {label(node): _intent(graph, node) for node in graph.nodes if node.op_type in WEIGHTED}


def from_inspector(inspection: Mapping[str, Any], wanted: Mapping[str, Intent]) -> list[Layer]:
    """Return the layers that the engine inspector's JSON names, those that a plan without details names among them."""
    told = inspection.get("Layers") or []
    return [_inspected(one if isinstance(one, dict) else {"Name": str(one)}, wanted) for one in told]


def from_network(network: Sequence[NetworkLayer], wanted: Mapping[str, Intent]) -> list[Layer]:
    """Return the layers that compute something, as the parser understood them."""
    makers = {name: layer for layer in network for name in layer.outputs}
    return [
        _judged(
            Layer(
                name=layer.name,
                kind=layer.kind,
                precision=_asked_for(layer, makers),
                nodes=_nodes(layer.metadata, layer.name),
            ),
            wanted if layer.kind in _WITH_WEIGHTS else {},
        )
        for layer in network
        if layer.kind not in _WITHOUT_ARITHMETIC
    ]


def count_int8(layers: Sequence[Layer]) -> tuple[int, int]:
    """Return how many layers are INT8, and how many the graph wants so."""
    wanted = [layer for layer in layers if layer.is_int8_wanted]
    return sum(layer.precision == "INT8" for layer in wanted), len(wanted)


def _intent(graph: AnyGraph, node: NodeProto) -> Intent:
    operands = [graph.dequantized(name) for name in node.input[:2]]
    if not any(operands):
        return Intent(is_int8=False, why="the graph has no Q/DQ on its inputs: calibration leaves it in float")
    if operands[0] is None or operands[1] is None:
        which = "weights" if operands[0] is None else "input"
        return Intent(is_int8=False, why=f"of its operands only the {which} is quantized")
    return Intent(is_int8=True, why=_obstacle(graph, node))


def _obstacle(graph: AnyGraph, node: NodeProto) -> str:
    """Return what is known to keep builders from INT8 kernels."""
    operand = graph.dequantized(node.input[1])
    weights = None if operand is None else graph.quantized_constant(operand)
    if attribute(node, "group", 1) > 1:
        return "it is a grouped convolution, for which INT8 kernels are few and seldom faster"
    if (
        node.op_type == "Conv"
        and weights is not None
        and (weights.shape[0] % _MULTIPLE or weights.shape[1] % _MULTIPLE)
    ):
        return (
            f"it goes from {weights.shape[1]} to {weights.shape[0]} channels, no multiples of {_MULTIPLE}, which INT8"
            " kernels fill up with zeros"
        )
    return ""


def _inspected(told: Mapping[str, Any], wanted: Mapping[str, Intent]) -> Layer:
    name, kind = str(told.get("Name", "")), str(told.get("LayerType", ""))
    layer = Layer(
        name=name,
        kind=kind,
        precision=_precision(told),
        tactic=str(told.get("TacticName", "")),
        nodes=_nodes(str(told.get("Metadata", "")) or name, name),
    )
    return _judged(layer, {} if kind.lower() in _MOVING else wanted)


def _precision(told: Mapping[str, Any]) -> str:
    """Return what a layer computes in: as its weights are stored, else as what it reads."""
    weights, inputs = told.get("Weights"), told.get("Inputs")
    texts = [str(weights.get("Type", ""))] if isinstance(weights, dict) else []
    if isinstance(inputs, list):
        texts += [str(one.get("Format/Datatype", one.get("Datatype", ""))) for one in inputs if isinstance(one, dict)]
    return next(filter(None, map(_precision_in, texts)), "unknown")


def _precision_in(text: str) -> str:
    lower = text.lower()
    return next((name for name, words in _PRECISIONS if any(word in lower for word in words)), "")


def _asked_for(layer: NetworkLayer, makers: Mapping[str, NetworkLayer]) -> str:
    """Return INT8 where the first two inputs come from a DequantizeLinear, else the type of what the layer makes."""
    sources = list(_sources(layer, makers))[:2]
    if len(sources) == 2 and all(source is not None and source.kind == "DEQUANTIZE" for source in sources):
        return "INT8"
    return {"HALF": "FP16", "FLOAT": "FP32"}.get(layer.dtype, "unknown")


def _sources(layer: NetworkLayer, makers: Mapping[str, NetworkLayer]) -> Iterator[NetworkLayer | None]:
    """Yield the layer behind each input, those that only change the shape left out."""
    for name in layer.inputs:
        maker = makers.get(name)
        while maker is not None and maker.kind in _PASSING and maker.inputs:
            maker = makers.get(maker.inputs[0])
        yield maker


def _nodes(text: str, name: str) -> tuple[str, ...]:
    """Return the names of ONNX nodes that a layer's metadata tells; without any, what its own name is joined of."""
    return tuple(dict.fromkeys(_ONNX_NAME.findall(text))) or tuple(part.strip() for part in name.split(" + "))


def _judged(layer: Layer, wanted: Mapping[str, Intent]) -> Layer:
    """Return a layer with what the graph wants of the nodes in it, and why it is not INT8."""
    told = [wanted[node] for node in layer.nodes if node in wanted]
    is_wanted, why = any(one.is_int8 for one in told), ""
    if layer.precision != "INT8" and is_wanted:
        obstacle = next((one.why for one in told if one.is_int8 and one.why), "")
        why = "the graph quantizes it, the builder does not: " + (
            obstacle or "there is no INT8 kernel for its shape, or a float one was timed as faster"
        )
    elif layer.precision != "INT8" and told:
        why = told[0].why
    return dataclasses.replace(layer, is_int8_wanted=is_wanted, why=why)

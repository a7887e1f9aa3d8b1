"""ONNX graphs as values: how many examples they take at once, what an image branch takes, and all of them in one.

Everything here takes a model and returns another; nothing needs torch.
"""

import copy
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.bundle import FUSION
from models.errors import BundleError
from models.preprocess import image_scaling
from models.spec import ImageRecipe

OPSET = 20
"""The highest that TensorRT 10.3 reads."""
IR_VERSION = 10
"""The highest that goes with it."""


def with_batch(model: ModelProto, batch: int) -> ModelProto:
    """Return a model for any batch as one for exactly `batch` examples at once."""
    fixed = copy.deepcopy(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return fixed


def with_uint8_input(model: ModelProto, recipe: ImageRecipe) -> ModelProto:
    """Return an image branch that takes RGB planes as bytes, and does itself what `preprocess_image` does last.

    A quarter of the bytes has to reach the engine, and TensorRT merges the arithmetic with the first convolution.
    """
    fed = copy.deepcopy(model)
    scale, offset = (numpy_helper.from_array(array, name) for array, name in _named(recipe))
    for node in fed.graph.node:
        node.input[:] = ["normalised" if name == "input" else name for name in node.input]
    nodes = [
        helper.make_node("Cast", ["input"], ["planes"], name="planes", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["planes", scale.name], ["scaled"], name="scaled"),
        helper.make_node("Add", ["scaled", offset.name], ["normalised"], name="normalised"),
        *fed.graph.node,
    ]
    del fed.graph.node[:]
    fed.graph.node.extend(nodes)
    fed.graph.initializer.extend([scale, offset])
    fed.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return fed


def join(branches: Mapping[str, ModelProto], fusion: ModelProto) -> ModelProto:
    """Return branches and fusion head in one: `input_<modality>` and `mask` -> `logits`, `weights`, `entropies`."""
    parts = [
        _renamed(branch, name, {old: f"{old}_{name}" for old in ("input", "feature", "logits")})
        for name, branch in branches.items()
    ]
    kept = [value.name for value in (*fusion.graph.input, *fusion.graph.output)]
    parts.append(_renamed(fusion, FUSION, {name: name for name in kept}))
    graph = helper.make_graph(
        [node for part in parts for node in part.graph.node],
        "whole",
        [*(part.graph.input[0] for part in parts[:-1]), parts[-1].graph.input[-1]],
        list(parts[-1].graph.output),
        [tensor for part in parts for tensor in part.graph.initializer],
    )
    domains = {entry.domain: entry.version for part in parts for entry in part.opset_import}
    opsets = [helper.make_opsetid(domain, version) for domain, version in sorted(domains.items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="uav-calibrate")


def serialize(model: ModelProto) -> bytes:
    """Return a sound model's bytes, the same for the same model.

    Raises:
        BundleError: it is of an opset that not everything that flies reads.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions.get("", 0) > OPSET or model.ir_version > IR_VERSION:
        raise BundleError(
            f"graph of opset {versions.get('')}, IR {model.ir_version}: expected at most {OPSET} and {IR_VERSION}:"
            " make it with the torch, onnx and onnxscript of the extra [export]"
        )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _renamed(model: ModelProto, prefix: str, exceptions: Mapping[str, str]) -> ModelProto:
    """Return a model with every name of a value or node behind a prefix, but for those that get another one."""
    renamed = copy.deepcopy(model)
    graph = renamed.graph

    def rename(name: str) -> str:
        return exceptions.get(name, f"{prefix}/{name}") if name else name

    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = rename(value.name)
    for node in graph.node:
        _rename_node(node, prefix)
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
    return renamed


def _rename_node(node: NodeProto, prefix: str) -> None:
    if any(attribute.HasField("g") for attribute in node.attribute):
        raise BundleError(f"{prefix}: {node.op_type} {node.name} holds a graph of its own: export without control flow")
    node.name = f"{prefix}/{node.name}"


def _named(recipe: ImageRecipe) -> list[tuple[NDArray[np.float32], str]]:
    scale, offset = image_scaling(recipe)
    return [(scale, "planes_scale"), (offset, "planes_offset")]

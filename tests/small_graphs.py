"""Small FP32 graphs for tests of quantization, built by hand: no torch."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from calibration.arrays import pack_arrays
from calibration.graphs import IR_VERSION, OPSET
from calibration.quantization.reference import run_reference
from models.bundle import GOLDEN, SCHEMA_VERSION, Bundle, FileEntry, GraphEntry, Manifest
from models.spec import ImageRecipe, IqRecipe, ModalitySpec, ModelSpec


def graph_bytes(nodes, constants, inputs, outputs, opset=OPSET):
    """Return an any-batch graph; inputs and outputs are name -> shape without the batch."""
    body = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    return model.SerializeToString()


def weights(rng, *shape):
    """Return weights that keep the size of what passes through."""
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def residual_branch(seed=0):
    """Return the graph of an image branch with a residual sum, a Clip, pooling, embedding and a head."""
    rng = np.random.default_rng(seed)
    names = {"one": (8, 3, 3, 3), "two": (8, 8, 3, 3), "three": (8, 8, 3, 3), "four": (8, 1, 3, 3)}
    constants = {f"{name}.weight": weights(rng, *shape) for name, shape in names.items()}
    constants |= {f"{name}.bias": rng.normal(0, 0.2, 8).astype(np.float32) for name in names}
    constants |= {"embed.weight": weights(rng, 6, 16), "embed.bias": rng.normal(0, 0.1, 6).astype(np.float32)}
    constants |= {"head.weight": weights(rng, 3, 6), "head.bias": rng.normal(0, 0.1, 3).astype(np.float32)}
    constants |= {"zero": np.float32(0), "six": np.float32(6), "places": np.array([2, 3], np.int64)}

    def convolution(name, taken, **attributes):
        inputs = [taken, f"{name}.weight", f"{name}.bias"]
        return helper.make_node(
            "Conv", inputs, [f"{name}_sum"], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1], **attributes
        )

    nodes = [
        convolution("one", "input"),
        helper.make_node("Relu", ["one_sum"], ["a"], name="relu_one"),
        convolution("two", "a"),
        helper.make_node("Clip", ["two_sum", "zero", "six"], ["b"], name="clip_two"),
        convolution("three", "b"),
        helper.make_node("Add", ["three_sum", "a"], ["sum"], name="residual"),
        helper.make_node("Relu", ["sum"], ["c"], name="relu_three"),
        convolution("four", "c", strides=[2, 2], group=8),
        helper.make_node("Relu", ["four_sum"], ["d"], name="relu_four"),
        helper.make_node("ReduceMean", ["d", "places"], ["mean"], name="mean", keepdims=0),
        helper.make_node("ReduceMax", ["d", "places"], ["peak"], name="peak", keepdims=0),
        helper.make_node("Concat", ["mean", "peak"], ["pooled"], name="pooled", axis=1),
        helper.make_node("Gemm", ["pooled", "embed.weight", "embed.bias"], ["embedded"], name="embed", transB=1),
        helper.make_node("Relu", ["embedded"], ["feature"], name="relu_embed"),
        helper.make_node("Gemm", ["feature", "head.weight", "head.bias"], ["logits"], name="head", transB=1),
    ]
    return graph_bytes(nodes, constants, {"input": (3, 12, 10)}, {"feature": (6,), "logits": (3,)})


def observed_ranges(graph, inputs):
    """Return the min-max range of every tensor, by the NumPy reference."""
    found = run_reference(graph, {"input": inputs})
    return {name: (float(value.min()), float(value.max())) for name, value in found.items()}


def radio_branch(seed=1):
    """Return the graph of an I/Q branch: three convolutions, pooling, embedding and a head."""
    rng = np.random.default_rng(seed)
    shapes = {"one": (8, 2, 7), "two": (12, 8, 7), "three": (16, 12, 3)}
    constants = {f"{name}.weight": weights(rng, *shape) for name, shape in shapes.items()}
    constants |= {f"{name}.bias": rng.normal(0, 0.2, shape[0]).astype(np.float32) for name, shape in shapes.items()}
    constants |= {"embed.weight": weights(rng, 6, 16), "embed.bias": rng.normal(0, 0.1, 6).astype(np.float32)}
    constants |= {"head.weight": weights(rng, 3, 6), "head.bias": rng.normal(0, 0.1, 3).astype(np.float32)}
    constants["places"] = np.array([2], np.int64)
    nodes, taken = [], "input"
    for name, shape in shapes.items():
        inputs, around = [taken, f"{name}.weight", f"{name}.bias"], [shape[2] // 2] * 2
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_sum"], name=name, strides=[2], pads=around))
        nodes.append(helper.make_node("Relu", [f"{name}_sum"], [f"{name}_out"], name=f"relu_{name}"))
        taken = f"{name}_out"
    nodes += [
        helper.make_node("ReduceMean", [taken, "places"], ["pooled"], name="pooled", keepdims=0),
        helper.make_node("Gemm", ["pooled", "embed.weight", "embed.bias"], ["embedded"], name="embed", transB=1),
        helper.make_node("Relu", ["embedded"], ["feature"], name="relu_embed"),
        helper.make_node("Gemm", ["feature", "head.weight", "head.bias"], ["logits"], name="head", transB=1),
    ]
    return graph_bytes(nodes, constants, {"input": (2, 64)}, {"feature": (6,), "logits": (3,)})


def dense_branch(*shape):
    """Return the graph of a branch that has nothing to quantize: embedding and head, over inputs of a shape."""
    rng, size = np.random.default_rng(6), int(np.prod(shape))
    constants = {"embed.weight": weights(rng, 6, size), "head.weight": weights(rng, 3, 6)}
    nodes = [
        helper.make_node("Flatten", ["input"], ["row"], name="row"),
        helper.make_node("Gemm", ["row", "embed.weight"], ["feature"], name="embed", transB=1),
        helper.make_node("Gemm", ["feature", "head.weight"], ["logits"], name="head", transB=1),
    ]
    return graph_bytes(nodes, constants, {"input": shape}, {"feature": (6,), "logits": (3,)})


def small_spec():
    """Return the spec that `radio_branch` and `residual_branch` are branches of."""
    return ModelSpec(
        classes=("a", "b", "c"),
        modalities=(
            ModalitySpec(name="iq", recipe=IqRecipe(window_samples=64, sample_rate_hz=1000), feature_size=6),
            ModalitySpec(name="image", recipe=ImageRecipe(height_px=12, width_px=10), feature_size=6),
        ),
    )


def small_bundle(folder, images=np.float32, **branches):
    """Return a bundle of the two branches, or others by role; its fusion graph is never run."""
    spec, rng = small_spec(), np.random.default_rng(4)
    graphs = {"iq": radio_branch(), "image": residual_branch(), "fusion": residual_branch(), **branches}
    files = {f"onnx/{role}.fp32-any-batch.onnx": data for role, data in graphs.items()}
    golden = {f"input_{one.name}": rng.normal(size=(3, *one.recipe.input_shape)) for one in spec.modalities}
    golden = {name: one.astype(np.float32) for name, one in golden.items()}
    if images == np.uint8:
        golden["input_image"] = rng.integers(0, 256, golden["input_image"].shape).astype(np.uint8)
    return Bundle(
        path=folder / "small-1.uavb",
        manifest=Manifest(
            schema=SCHEMA_VERSION,
            name="small",
            version=1,
            licence="Apache-2.0",
            description="test",
            reproduce=(),
            spec=spec,
            graphs=tuple(
                GraphEntry(role=role, precision="fp32", file=f"onnx/{role}.fp32-any-batch.onnx") for role in graphs
            ),
            metrics={},
            tools={},
            files={name: FileEntry(sha256="", size_bytes=0) for name in files},
        ),
        sha256="",
        contents={**files, GOLDEN: pack_arrays(golden)},
    )


def example_arrays(spec, count, seed=0):
    """Return what an examples file holds."""
    rng = np.random.default_rng(seed)
    inputs = {f"input_{one.name}": rng.normal(size=(count, *one.recipe.input_shape)) for one in spec.modalities}
    return {
        **{name: one.astype(np.float32) for name, one in inputs.items()},
        "present": np.ones((count, len(spec.modalities)), np.float32),
        "labels": np.arange(count, dtype=np.int64) % len(spec.classes),
        "classes": np.array(spec.classes),
        "modalities": np.array(spec.modality_names),
        "note": np.array("made up"),
    }

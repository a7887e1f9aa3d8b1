"""Graphs of eight-bit weights and graphs that take bytes, as flight and evaluation meet them."""

import dataclasses

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from calibration.graphs import with_uint8_input
from edge.backends.onnx import load_engines
from models.bundle import FUSION, Bundle, GraphEntry, open_bundle, shipped_bundle
from models.errors import BundleError
from models.spec import ImageRecipe
from trainer.data.catalogue import open_data_set
from trainer.data.examples import prepare
from trainer.data.synthetic import SyntheticData
from trainer.evaluation.asking import BundleModel


def in_eight_bits(graph: bytes, change=lambda weights: weights) -> bytes:
    """Return a graph whose weights are INT8, a scale for each output channel, after `change`."""
    model = onnx.load_from_string(graph)
    weights = [one for one in model.graph.initializer if one.data_type == 1 and len(one.dims) >= 2]
    for one in weights:
        values = change(numpy_helper.to_array(one))
        scale = np.abs(values).reshape(len(values), -1).max(axis=1) / 127
        steps = np.rint(values / scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        parts = {"steps": steps, "scale": scale.astype(np.float32), "zero": np.zeros(len(values), np.int8)}
        names = [f"{one.name}/{part}" for part in parts]
        stored = [numpy_helper.from_array(array, name) for name, array in zip(names, parts.values(), strict=True)]
        model.graph.initializer.extend(stored)
        model.graph.node.insert(0, helper.make_node("DequantizeLinear", names, [one.name], name=one.name, axis=0))
        model.graph.initializer.remove(one)
    return model.SerializeToString()


def flying(graph: bytes) -> Bundle:
    """Return the shipped bundle with an INT8 image branch."""
    shipped = open_bundle(shipped_bundle())
    entry = GraphEntry(role="image", precision="int8", target="any", file="onnx/image.int8.onnx")
    manifest = msgspec.structs.replace(shipped.manifest, graphs=(*shipped.manifest.graphs, entry))
    return dataclasses.replace(shipped, manifest=manifest, contents={**shipped.contents, entry.file: graph})


@pytest.fixture(scope="module")
def image_graph() -> bytes:
    return open_bundle(shipped_bundle()).graph("image")


def test_weights_of_eight_bits_fly(image_graph):
    engines = load_engines(flying(in_eight_bits(image_graph)), "int8")
    assert engines.precisions == {"iq": "fp32", "image": "int8", FUSION: "fp32"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda weights: 1.1 * weights, id="scales-a-tenth-too-large"),
        pytest.param(lambda weights: weights[::-1].copy(), id="channels-in-another-order"),
        pytest.param(
            lambda weights: np.random.default_rng(1).normal(0, weights.std(), weights.shape), id="of-another-training"
        ),
        pytest.param(lambda weights: np.full_like(weights, np.nan), id="not-finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_weights_of_another_model_are_refused(image_graph, change):
    with pytest.raises(BundleError, match="image in int8: "):
        load_engines(flying(in_eight_bits(image_graph, change)), "int8")


def test_evaluation_asks_a_graph_that_takes_bytes_what_it_asks_the_other(image_graph):
    shipped = open_bundle(shipped_bundle())
    recipe = shipped.spec.modality("image").recipe
    taking = with_uint8_input(onnx.load_from_string(image_graph), recipe).SerializeToString()
    contents = {**shipped.contents, "onnx/image.fp32.onnx": taking}
    models = [BundleModel(shipped), BundleModel(dataclasses.replace(shipped, contents=contents))]
    data = open_data_set(SyntheticData(validation_examples=8), shipped.spec.modalities)
    inputs, _ = prepare(list(data.validation_examples()), shipped.spec)
    for found, expected in zip(*(model.ask_branch("image", inputs["image"]) for model in models), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_branch_of_anything_but_images_that_takes_bytes_is_refused():
    shipped = open_bundle(shipped_bundle())
    wrong = with_uint8_input(onnx.load_from_string(shipped.graph("iq")), ImageRecipe(height_px=8, width_px=8))
    contents = {**shipped.contents, "onnx/iq.fp32.onnx": wrong.SerializeToString()}
    with pytest.raises(BundleError, match="the branch of iq takes bytes, expected float32 of all but images"):
        load_engines(dataclasses.replace(shipped, contents=contents))


def test_a_graph_of_a_type_that_nothing_flies_in_is_refused(image_graph):
    model = onnx.load_from_string(image_graph)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["single"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "single"
    with pytest.raises(BundleError, match=r"input of tensor\(double\): expected tensor\(float\) or tensor\(uint8\)"):
        load_engines(flying(model.SerializeToString()), "int8")

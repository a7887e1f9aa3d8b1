import contextlib
import dataclasses
import io
import json

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from training import IMAGE, IQ, THERMAL, tiny_network, tiny_sizes, tiny_spec

import calibration.export as export
from calibration.cli import main
from calibration.graphs import serialize, with_batch, with_uint8_input
from edge.backends.golden import GOLDEN_TOLERANCE, check_fusion, check_golden
from edge.backends.iemf import stored_head
from edge.backends.onnx import OnnxSession, load_engines
from models.bundle import FUSION, GOLDEN, WHOLE, open_bundle
from models.errors import BundleError, InputError
from models.nets.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from models.nets.fusion import IemfFusion
from models.preprocess import image_planes, preprocess_image
from models.spec import FusionSpec

PARITY = 2e-6  # float32 against float64


def checkpoint(spec, seed=1):
    header = CheckpointHeader(
        spec=spec,
        sizes=tiny_sizes(spec),
        description="test",
        licence="Apache-2.0",
        reproduce=("uav-train fit --config x.yaml",),
        metrics={"accuracy": 0.5},
        tools={},
        temperature=1.25,
    )
    torch.manual_seed(11)
    golden = {one.name: torch.randn(5, *one.recipe.input_shape) for one in spec.modalities}
    network = tiny_network(spec, seed).train()
    for _ in range(5):
        network(golden)  # moves the normalisation's statistics away from 0 and 1
    return Checkpoint(header=header, network=network.eval(), golden=golden)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    trained = checkpoint(tiny_spec(modalities=(IQ, IMAGE, THERMAL)))
    trained.network.fusion.temperatures.copy_(torch.tensor([0.5, 1.5, 3.0]))
    write_checkpoint(folder / "c.safetensors", trained)
    arguments = ["--checkpoint", str(folder / "c.safetensors"), "--name", "tiny", "--version", "3"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["export", *arguments, "--out", str(folder), "--json"])
    return code, open_bundle(folder / "tiny-3.uavb"), printed.getvalue()


def test_exported_bundle_loads_and_answers_as_torch_did(exported):
    code, bundle, _ = exported
    assert code == 0
    assert check_golden(bundle, load_engines(bundle)) < 0.1 * GOLDEN_TOLERANCE
    assert bundle.manifest.reproduce[0] == "uav-train fit --config x.yaml"
    assert bundle.manifest.reproduce[1].startswith("uav-calibrate export --checkpoint")
    assert {"torch", "onnx", "onnxruntime"} <= set(bundle.manifest.tools)
    assert bundle.manifest.metrics == {"accuracy": 0.5}
    assert bundle.manifest.temperature == 1.25


def test_graphs_keep_the_contract(exported):
    _, bundle, _ = exported
    names = ("iq", "image", "thermal")
    fused = ["logits", "weights", "entropies"]
    contract = {
        "iq": (["input"], ["feature", "logits"]),
        FUSION: ([*(f"feature_{n}" for n in names), *(f"logits_{n}" for n in names), "mask"], fused),
        WHOLE: ([*(f"input_{n}" for n in names), "mask"], fused),
    }
    for role, (inputs, outputs) in contract.items():
        model = onnx.load_from_string(bundle.graph(role))
        assert [node.name for node in model.graph.input] == inputs
        assert [node.name for node in model.graph.output] == outputs
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
        assert model.ir_version == 10
        assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


@pytest.mark.parametrize("role", ["iq", "image", FUSION, WHOLE])
def test_every_graph_is_there_for_one_example_and_for_any_number(exported, role):
    _, bundle, _ = exported
    first = {}
    for batch in ("one", "any"):
        graph = onnx.load_from_string(bundle.graph(role, batch=batch)).graph
        dims = [node.type.tensor_type.shape.dim[0] for node in (*graph.input, *graph.output)]
        first[batch] = {dim.dim_value or dim.dim_param for dim in dims}
    assert first == {"one": {1}, "any": {"batch"}}
    assert {entry.file for entry in bundle.manifest.graphs if entry.role == role} == {
        f"onnx/{role}.fp32.onnx",
        f"onnx/{role}.fp32-any-batch.onnx",
    }


@pytest.mark.parametrize("batch", ["one", "any"])
@pytest.mark.parametrize("role", ["image", FUSION, WHOLE])
def test_every_graph_is_compared_with_torch(exported, role, batch):
    _, bundle, _ = exported
    roles = (*bundle.spec.modality_names, FUSION, WHOLE)
    graphs = {kind: {role: bundle.graph(role, batch=kind) for role in roles} for kind in ("one", "any")}
    with np.load(io.BytesIO(bundle.contents[GOLDEN])) as stored:
        golden = dict(stored)
    assert export.largest_difference(bundle.spec, graphs, golden) <= export.MAX_DIFFERENCE
    model = onnx.load_from_string(graphs[batch][role])
    weights = next(one for one in model.graph.initializer if one.name.endswith("head.weight"))
    weights.CopyFrom(onnx.numpy_helper.from_array(1.1 * onnx.numpy_helper.to_array(weights), weights.name))
    graphs[batch][role] = serialize(model)
    assert export.largest_difference(bundle.spec, graphs, golden) > 10 * export.MAX_DIFFERENCE


@pytest.fixture(scope="module")
def taking_bytes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    write_checkpoint(folder / "c.safetensors", checkpoint(tiny_spec()))
    arguments = ["--checkpoint", str(folder / "c.safetensors"), "--name", "tiny", "--version", "1"]
    assert main(["export", *arguments, "--out", str(folder), "--uint8-images"]) == 0
    return open_bundle(folder / "tiny-1.uavb")


def test_image_branches_take_bytes_where_asked_and_pass_their_self_test(taking_bytes):
    engines = load_engines(taking_bytes)
    assert engines.branches["image"].inputs["input"].dtype == np.uint8
    assert engines.branches["iq"].inputs["input"].dtype == np.float32
    with np.load(io.BytesIO(taking_bytes.contents[GOLDEN])) as golden:
        assert (golden["input_image"].dtype, golden["input_iq"].dtype) == (np.uint8, np.float32)
    whole = onnx.load_from_string(taking_bytes.graph(WHOLE)).graph
    assert [node.type.tensor_type.elem_type for node in whole.input] == [1, 2, 1]
    assert taking_bytes.manifest.reproduce[-1].endswith("--uint8-images")


@pytest.fixture(scope="module")
def image_sessions():
    """Return the same image branch taking bytes, and taking numbers."""
    model = with_batch(export.branch_graph(tiny_network(tiny_spec()), "image"), 1)
    return [OnnxSession(serialize(one)) for one in (with_uint8_input(model, IMAGE.recipe), model)]


@pytest.mark.parametrize("size", [(8, 8), (37, 53), (480, 640)])
def test_frames_as_bytes_get_the_answers_of_frames_as_numbers(image_sessions, size):
    frame = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    for session in image_sessions:
        preprocess_image(frame, IMAGE.recipe, session.inputs["input"][0])
        session.run()
    planes, normalised = (session.inputs["input"][0] for session in image_sessions)
    np.testing.assert_array_equal(image_planes(normalised, IMAGE.recipe), planes)
    for output in ("feature", "logits"):
        found, expected = (session.outputs[output] for session in image_sessions)
        np.testing.assert_allclose(found, expected, atol=PARITY)


def test_golden_examples_agree_with_the_numpy_reference(exported):
    _, bundle, _ = exported
    with np.load(io.BytesIO(bundle.contents[GOLDEN])) as golden:
        assert golden["mask"].tolist() == [[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0.5, 0.5, 0.5]]
        head = stored_head(golden, bundle.spec.fusion)
        assert head.temperatures.tolist() == [0.5, 1.5, 3.0]
        assert export.reference_difference(bundle.spec, golden) <= PARITY


def test_exported_fusion_agrees_with_the_numpy_reference_under_any_mask(exported):
    _, bundle, _ = exported
    assert 0 < check_fusion(bundle, load_engines(bundle).fusion) <= PARITY


def test_a_graph_that_is_not_what_the_manifest_says_is_refused(exported):
    _, bundle, _ = exported
    spec = msgspec.structs.replace(bundle.spec, fusion=FusionSpec(tau=0.4))
    other = dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, spec=spec))
    assert check_golden(other, load_engines(bundle)) < 0.1 * GOLDEN_TOLERANCE
    with pytest.raises(BundleError, match="from the entropy fusion that the manifest names"):
        load_engines(other)


def test_a_torch_head_that_does_not_follow_the_formulas_is_not_exported(tmp_path, monkeypatch):
    original = IemfFusion.weigh
    monkeypatch.setattr(IemfFusion, "weigh", lambda self, entropies, mask: 0.9 * original(self, entropies, mask))
    with pytest.raises(BundleError, match="the NumPy reference differs from torch"):
        export.export_bundle(checkpoint(tiny_spec()), export.Release(name="tiny", version=1, command=""), tmp_path)


def test_a_head_with_a_hidden_layer_flies_and_agrees_with_the_numpy_reference(tmp_path):
    spec = msgspec.structs.replace(tiny_spec(), fusion=FusionSpec(hidden=7))
    release = export.Release(name="tiny", version=1, command="")
    path, _ = export.export_bundle(checkpoint(spec), release, tmp_path)
    bundle = open_bundle(path)
    assert 0 < check_fusion(bundle, load_engines(bundle).fusion) <= PARITY


def test_other_fusion_forms_carry_no_head(tmp_path):
    release = export.Release(name="tiny", version=1, command="")
    path, _ = export.export_bundle(checkpoint(tiny_spec("poe")), release, tmp_path)
    bundle = open_bundle(path)
    assert check_fusion(bundle, load_engines(bundle).fusion) == 0


@pytest.mark.parametrize("method", ["iemf", "concat", "sum", "gated", "entropy", "poe", "mean"])
def test_every_fusion_flies_as_it_was_trained(method):
    network = tiny_network(tiny_spec(method, (IQ, IMAGE, THERMAL)))
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 1], [0, 0, 1], [0.3, 1, 0.6], [0, 0, 0]])
    features = [torch.randn(5, one.feature_size) for one in network.spec.modalities]
    logits = [3 * torch.randn(5, 3) for _ in features]
    names = network.spec.modality_names
    feeds = {f"feature_{name}": feature.numpy() for name, feature in zip(names, features, strict=True)}
    feeds |= {f"logits_{name}": one.numpy() for name, one in zip(names, logits, strict=True)}
    graph = export.fusion_graph(network)
    assert [node.name for node in graph.graph.input] == [*feeds, "mask"]
    outputs = ["logits", "weights", "entropies"]
    found = onnxruntime.InferenceSession(serialize(graph)).run(outputs, {**feeds, "mask": mask.numpy()})
    with torch.no_grad():
        expected = network.fusion(features, logits, mask)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=PARITY)


def test_graphs_that_answer_otherwise_than_torch_are_refused(exported, tmp_path, monkeypatch):
    _, bundle, _ = exported
    graphs = {
        role: onnx.load_from_string(bundle.graph(role, batch="any")) for role in ("iq", "image", "thermal", FUSION)
    }
    monkeypatch.setattr(export, "branch_graph", lambda network, name: graphs[name])
    monkeypatch.setattr(export, "fusion_graph", lambda network: graphs[FUSION])
    other = checkpoint(bundle.spec, seed=2)
    with pytest.raises(BundleError, match="ONNX Runtime differs from torch by"):
        export.export_bundle(other, export.Release(name="tiny", version=1, command=""), tmp_path)
    assert not list(tmp_path.iterdir())


def test_checkpoint_without_golden_examples_is_refused(tmp_path):
    complete = checkpoint(tiny_spec())
    bare = Checkpoint(header=complete.header, network=complete.network, golden={})
    with pytest.raises(InputError, match="no golden examples for"):
        export.export_bundle(bare, export.Release(name="tiny", version=1, command=""), tmp_path)


def test_unreadable_checkpoint_ends_with_exit_code_7(tmp_path, capsys):
    arguments = ["--checkpoint", str(tmp_path / "no"), "--name", "x", "--version", "1", "--out", str(tmp_path)]
    assert main(["export", *arguments]) == 7
    assert "no such checkpoint" in capsys.readouterr().err


def test_unusable_name_ends_with_exit_code_2(tmp_path, capsys):
    arguments = ["--checkpoint", str(tmp_path / "no"), "--name", "../x", "--version", "1", "--out", str(tmp_path)]
    assert main(["export", *arguments]) == 2
    assert "expected a plain name" in capsys.readouterr().err


def test_json_is_the_last_line(exported):
    _, bundle, printed = exported
    report = json.loads(printed.splitlines()[-1])
    assert report["max_difference"] <= export.MAX_DIFFERENCE
    assert report["bundle"] == str(bundle.path)

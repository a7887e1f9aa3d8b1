import contextlib
import io
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from training import IMAGE, IQ, THERMAL, tiny_network, tiny_sizes, tiny_spec

import calibration.export as export
from calibration.cli import main
from edge.backends.onnx import GOLDEN_TOLERANCE, check_golden, load_engines
from edge.pipeline.fusion import iemf_weights
from models.bundle import FUSION, GOLDEN, open_bundle
from models.errors import BundleError, InputError
from models.nets.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint

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
    write_checkpoint(folder / "c.safetensors", checkpoint(tiny_spec(modalities=(IQ, IMAGE, THERMAL))))
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
    branch = onnx.load_from_string(bundle.graph("iq"))
    fusion = onnx.load_from_string(bundle.graph(FUSION))
    assert [node.name for node in branch.graph.input] == ["input"]
    assert [node.name for node in branch.graph.output] == ["feature", "logits"]
    names = ("iq", "image", "thermal")
    expected = [*(f"feature_{n}" for n in names), *(f"logits_{n}" for n in names), "mask"]
    assert [node.name for node in fusion.graph.input] == expected
    assert [node.name for node in fusion.graph.output] == ["logits", "weights", "entropies"]
    for model in (branch, fusion):
        assert max(entry.version for entry in model.opset_import) <= 20
        assert all(node.type.tensor_type.shape.dim[0].dim_param for node in (*model.graph.input, *model.graph.output))
        assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_exported_weights_agree_with_the_numpy_reference(exported):
    _, bundle, _ = exported
    with np.load(io.BytesIO(bundle.contents[GOLDEN])) as golden:
        masks = golden["mask"]
        assert masks.tolist() == [[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0.5, 0.5, 0.5]]
        for n, mask in enumerate(masks):
            logits = np.stack([golden[f"logits_{name}"][n] for name in bundle.spec.modality_names])
            fusion = bundle.spec.fusion
            weights, entropies = iemf_weights(logits, mask, fusion.tau, fusion.floor, np.zeros(3))
            np.testing.assert_allclose(golden["weights"][n], weights, atol=PARITY)
            np.testing.assert_allclose(golden["entropies"][n], entropies, atol=PARITY)


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
    assert [node.name for node in onnx.load_from_string(graph).graph.input] == [*feeds, "mask"]
    outputs = ["logits", "weights", "entropies"]
    found = onnxruntime.InferenceSession(graph).run(outputs, {**feeds, "mask": mask.numpy()})
    with torch.no_grad():
        expected = network.fusion(features, logits, mask)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=PARITY)


def test_graphs_that_answer_otherwise_than_torch_are_refused(exported, tmp_path, monkeypatch):
    _, bundle, _ = exported
    monkeypatch.setattr(export, "branch_graph", lambda network, name: bundle.graph(name))
    monkeypatch.setattr(export, "fusion_graph", lambda network: bundle.graph(FUSION))
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

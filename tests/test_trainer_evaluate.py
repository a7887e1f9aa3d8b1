import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from training import Tones, tiny_network, tiny_sizes, tiny_spec, write_tiny_root

from models.bundle import open_bundle
from models.errors import BundleError, InputError
from models.nets.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from trainer.answers import NetworkModel
from trainer.asking import BundleModel, Fused
from trainer.cli import main
from trainer.data.catalogue import open_data_set
from trainer.data.synthetic import SyntheticData
from trainer.evaluate import evaluate

FOUR_SIGMA = 0.12  # of a share of about 0.9 in 160 examples


class Told:
    """Reads the truth off the colour, and errs as told."""

    spec = tiny_spec()

    temperature = 1.0

    def ask_branch(self, name, inputs):
        if name == "image":
            label = 2 - inputs.mean(axis=(2, 3)).argmax(axis=1)  # planes are RGB, frames BGR
            right = np.eye(3, dtype=np.float32)[label]
            return right, right
        pitch = np.abs(np.fft.fft(inputs[:, 0] + 1j * inputs[:, 1])).argmax(axis=1) / 64
        label = np.clip(np.rint(pitch * 10).astype(int) - 1, 0, 2)
        wrong = np.eye(3, dtype=np.float32)[(label + 1) % 3]
        return wrong, wrong

    def fuse(self, answers, mask):
        logits = mask[:, 1:] * answers["image"][1] + 0.5 * answers["iq"][1]
        return Fused(logits, mask / np.maximum(mask.sum(axis=1, keepdims=True), 1))


def test_each_share_is_of_its_own_case():
    seen = []
    evaluation = evaluate(Told(), Tones().validation_examples(), seen.append)
    assert evaluation.examples == 60 == seen[-1]
    assert evaluation.accuracy == 1
    assert evaluation.alone == {"iq": 0, "image": 1}
    assert evaluation.without == {"iq": 1, "image": 0}
    assert evaluation.recall == {"a": 1, "b": 1, "c": 1}
    assert evaluation.metrics()["accuracy_without_image"] == 0


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(InputError, match="no examples to evaluate"):
        evaluate(Told(), [], print)


def test_network_answers_as_when_asked_directly():
    network = tiny_network(tiny_spec())
    model = NetworkModel(network)
    rng = np.random.default_rng(1)
    inputs = {"iq": rng.normal(size=(4, 2, 64)), "image": rng.normal(size=(4, 3, 8, 8))}
    inputs = {name: value.astype(np.float32) for name, value in inputs.items()}
    mask = np.array([[1, 1], [0, 1], [1, 0], [1, 0.5]], np.float32)
    import torch

    with torch.no_grad():
        direct = network({k: torch.from_numpy(v) for k, v in inputs.items()}, torch.from_numpy(mask)).logits.numpy()
    answers = {name: model.ask_branch(name, value) for name, value in inputs.items()}
    np.testing.assert_array_equal(model.fuse(answers, mask).logits, direct)


def test_bundle_and_its_own_figures_agree_on_fresh_examples(root):
    bundle = open_bundle(root / "models" / "bundles" / "demo-1.uavb")
    data = open_data_set(SyntheticData(validation_examples=160), bundle.spec.modalities)
    found = evaluate(BundleModel(bundle), data.validation_examples(), lambda done: None)
    assert found.accuracy == pytest.approx(bundle.manifest.metrics["accuracy"], abs=FOUR_SIGMA)
    assert found.accuracy > max(found.alone.values())


def test_bundle_with_a_graph_that_does_not_load_is_refused(root):
    whole = open_bundle(root / "models" / "bundles" / "demo-1.uavb")
    broken = dataclasses.replace(whole, contents=dict.fromkeys(whole.contents, b"no graph"))
    with pytest.raises(BundleError, match="ONNX Runtime cannot load a graph"):
        BundleModel(broken)


@pytest.fixture
def checkpoint(tmp_path):
    spec = tiny_spec()
    header = CheckpointHeader(
        spec=spec, sizes=tiny_sizes(spec), description="", licence="", reproduce=(), metrics={}, tools={}
    )
    write_checkpoint(tmp_path / "c.safetensors", Checkpoint(header=header, network=tiny_network(spec), golden={}))
    return tmp_path / "c.safetensors"


def test_data_of_other_classes_are_refused(checkpoint, capsys):
    assert main(["evaluate", "--checkpoint", str(checkpoint), "--data", "synthetic"]) == 2
    assert "the model knows a, b, c; synthetic holds farmland" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--checkpoint", "none.safetensors", "--data", "uavpair7"], 7, "no such checkpoint"),
        (["--bundle", "none.uavb", "--data", "uavpair7"], 3, "no such bundle folder"),
        (["--bundle", "none.uavb", "--data", "synthetic", "--pairs", "x.csv"], 2, "--pairs goes with --data uavpair7"),
    ],
)
def test_unusable_arguments_end_with_their_exit_code(arguments, code, message, capsys):
    assert main(["evaluate", *arguments]) == code
    assert message in capsys.readouterr().err


FIT = """
description: test
out: {out}
data: {{kind: uavpair7, root: {root}}}
modalities:
  - name: iq
    recipe: {{kind: iq, window_samples: 8192, sample_rate_hz: 250_000}}
    feature_size: 8
  - name: image
    recipe: {{kind: image, height_px: 16, width_px: 16}}
    feature_size: 8
fusion: {{method: iemf}}
sizes:
  iq: {{widths: [4, 4], strides: [16, 8]}}
  image: {{widths: [4, 4], strides: [2, 2]}}
method: {{kind: gcmt}}
epochs: 1
examples_per_epoch: 8
batch: 4
learning_rate: 0.003
seed: 1
"""


@pytest.fixture
def run(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text(FIT.format(out=tmp_path / "out", root=tmp_path / "data"))
    return SimpleNamespace(config=config, root=tmp_path / "data", out=tmp_path / "out")


def test_fit_then_evaluate_from_the_command_line(run, capsys):
    write_tiny_root(run.root)
    assert main(["fit", "--config", str(run.config), "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out.splitlines()[-1])
    arguments = ["--checkpoint", fitted["checkpoint"], "--data", "uavpair7", "--root", str(run.root), "--json"]
    assert main(["evaluate", *arguments]) == 0
    evaluated = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"accuracy", "accuracy_iq", "accuracy_image", "accuracy_without_iq", "recall"} <= set(evaluated)
    assert all(evaluated[name] == fitted[name] for name in evaluated if name != "model")


def test_fit_without_the_data_says_so_with_exit_code_7(run, capsys):
    assert main(["fit", "--config", str(run.config)]) == 7
    assert "rf_ism433: expected one rf_windows_*.npz, found none" in capsys.readouterr().err
    assert not run.out.exists()


def test_fit_names_every_problem_of_its_configuration_with_exit_code_2(run, capsys):
    run.config.write_text(run.config.read_text().replace("epochs: 1", "epoch: 1").replace("seed: 1", "seed: one"))
    assert main(["fit", "--config", str(run.config)]) == 2
    said = capsys.readouterr().err
    assert "epoch: unknown key: did you mean epochs?" in said
    assert "seed: expected `int`, got 'one'".replace("`", "") in said


def test_help_needs_no_torch_and_fit_names_the_extra():
    script = "import sys; sys.modules['torch'] = None; from trainer.cli import main; sys.exit(main(sys.argv[1:]))"
    shown = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    refused = subprocess.run(
        [sys.executable, "-c", script, "fit", "--config", "x.yaml"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 4
    assert "torch is not installed: pip install 'uav-fusion-edge[train]'" in refused.stderr


def test_shipped_configurations_are_valid(root):
    from models.schema import load_yaml
    from trainer.config import TrainConfig

    for name in ("train-demo.yaml", "train-uavpair7.yaml", "train-houston2013.yaml"):
        config = load_yaml(root / "launch" / name, TrainConfig)
        assert {one.name for one in config.modalities} == set(config.sizes)

import dataclasses
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from training import Tones, tiny_network, tiny_sizes, tiny_spec, write_tiny_root

from models.bundle import open_bundle
from models.errors import BundleError, InputError
from models.nets.checkpoint import Checkpoint, CheckpointHeader, write_checkpoint
from models.spec import ModelSpec
from trainer.cli import main
from trainer.data.catalogue import open_data_set
from trainer.data.pairs import PairedSites, UavPair7Data
from trainer.data.synthetic import SyntheticData
from trainer.data.uavpair7 import UavPair7
from trainer.evaluation.answers import NetworkModel
from trainer.evaluation.asking import BundleModel, Fused
from trainer.evaluation.evaluate import evaluate

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


def test_what_happens_to_a_sensor_shows_whom_the_model_follows():
    told = evaluate(Told(), Tones().validation_examples(), lambda done: None).as_json()
    assert told["swapped"]["image"] == {"swapped": 1, "others": 0, "neither": 0}
    assert told["swapped"]["iq"] == {"swapped": 0, "others": 1, "neither": 0}
    assert told["corrupted"]["iq"] == {"noise": 1, "frozen": 1, "masked": 1}
    labels = np.array([example.label for example in Tones().validation_examples()])
    of_grey = (labels == 2).mean()  # Told calls any grey by the last plane
    assert told["corrupted"]["image"] == {
        "black": pytest.approx(of_grey, abs=1e-4),
        "overexposed": pytest.approx(of_grey, abs=1e-4),
        "blank": pytest.approx(of_grey, abs=1e-4),
        "frozen": pytest.approx(1 / 3, abs=1e-4),
        "masked": 0,
    }
    assert np.array(told["confusion"]).sum() == np.trace(told["confusion"]) == 60
    assert told["kappa"] == told["macro_f1"] == told["average_accuracy"] == 1


def test_every_example_is_encoded_once():
    class Counting(Told):
        asked = 0

        def ask_branch(self, name, inputs):
            self.asked += len(inputs)
            return super().ask_branch(name, inputs)

    model = Counting()
    evaluate(model, Tones().validation_examples(), lambda done: None)
    dead = 64 + 1 + 1 + 15  # windows of noise; black, white, grey levels
    assert model.asked == 2 * 60 + dead


def test_weights_are_ranked_against_known_quality_alone():
    class Trusting(Told):
        def fuse(self, answers, mask):
            logits = super().fuse(answers, mask).logits
            trust = np.linspace(0, 1, len(logits))
            return Fused(logits, np.stack([trust, 1 - trust], axis=1).astype(np.float32))

    examples = [
        dataclasses.replace(example, quality={"iq": float(n)})
        for n, example in enumerate(Tones().validation_examples())
    ]
    assert evaluate(Trusting(), examples, print).as_json()["weight_spearman"] == {"iq": 1}
    assert evaluate(Told(), examples, print).as_json()["weight_spearman"] == {"iq": None}


def test_rows_say_what_was_answered_to_each_example():
    rows = evaluate(Told(), Tones().validation_examples(), lambda done: None).rows.as_json()
    assert rows["answers"]["fused"] == rows["labels"]
    assert rows["answers"]["without_image"] == [(label + 1) % 3 for label in rows["labels"]]
    right, wrong = np.exp([1.0, 0.5])
    assert rows["truth_probability"] == pytest.approx([right / (right + wrong + 1)] * 60, abs=1e-5)


def test_examples_of_one_class_cannot_be_swapped():
    examples = [example for example in Tones().validation_examples() if example.label == 1]
    assert evaluate(Told(), examples, lambda done: None).swapped == {}


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


def test_a_bundle_is_judged_by_the_temperature_that_flies(root):
    whole = open_bundle(root / "models" / "bundles" / "demo-1.uavb")
    softened = dataclasses.replace(whole, manifest=msgspec.structs.replace(whole.manifest, temperature=3.0))
    data = open_data_set(SyntheticData(validation_examples=40), whole.spec.modalities)
    plain, soft = (evaluate(BundleModel(one), data.validation_examples(), print) for one in (whole, softened))
    assert soft.calibration.stored_temperature == 3
    assert plain.calibration.ece_stored == plain.calibration.ece_before == soft.calibration.ece_before
    assert soft.calibration.nll_stored > soft.calibration.nll_before
    assert soft.accuracy == plain.accuracy


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
        (
            ["--bundle", "none.uavb", "--data", "synthetic", "--pairs", "x.csv"],
            2,
            "--pairs: synthetic has no such thing",
        ),
        (
            ["--bundle", "none.uavb", "--data", "uavpair7", "--preset", "mid", "--pairs", "x"],
            2,
            "leave one of them out",
        ),
        (
            ["--bundle", "none.uavb", "--data", "pairxor3", "--preset", "mid-imb10"],
            2,
            "known for combinations are easy",
        ),
        (["--bundle", "none.uavb", "--data", "uavpear7"], 2, "uavpear7"),
        (["--bundle", "none.uavb", "--data", "{kind: houston2013, fould: 1}"], 2, "did you mean fold?"),
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
    assert all(evaluated[name] == fitted[name] for name in set(evaluated) & set(fitted))


@pytest.fixture
def sites_checkpoint(tmp_path):
    from models.nets.multimodal import MultimodalNet
    from models.schema import parse_yaml
    from trainer.config import TrainConfig

    config = parse_yaml(FIT.format(out=tmp_path, root=tmp_path).encode(), TrainConfig, "test")
    spec = ModelSpec(classes=PairedSites.classes, modalities=config.modalities, fusion=config.fusion)
    network = MultimodalNet(spec, config.sizes)
    header = CheckpointHeader(
        spec=spec, sizes=config.sizes, description="", licence="", reproduce=(), metrics={}, tools={}, temperature=2.0
    )
    write_checkpoint(tmp_path / "c.safetensors", Checkpoint(header=header, network=network, golden={}))
    return tmp_path / "c.safetensors"


def test_a_held_root_is_asked_by_its_pairs_file_bit_for_bit(sites_checkpoint, tmp_path, capsys):
    root = tmp_path / "held"
    pairs = write_tiny_root(root, suffix="held")
    moved = pairs.rename(tmp_path / "pairs.csv")
    data = UavPair7(root)
    sites = PairedSites(UavPair7Data(root=str(root), pairs=str(moved)), ())
    for row, (pair, example) in enumerate(zip(data.read_pairs(moved), sites.validation_examples(), strict=True)):
        made = data.example(pair, np.random.default_rng([20251, row]))
        np.testing.assert_array_equal(example.sensors["iq"], made.iq)
        np.testing.assert_array_equal(example.sensors["image"], made.image)
        assert example.quality == {"iq": -3.5, "image": -0.25}
    arguments = ["--checkpoint", str(sites_checkpoint), "--data", "uavpair7", "--root", str(root)]
    assert main(["evaluate", *arguments, "--pairs", str(moved), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["examples"] == 7
    assert found["calibration"]["stored_temperature"] == 2
    assert not {"unknown", "quiet_windows"} & set(found)  # this root has none


def test_the_page_holds_its_pictures_and_loads_nothing(sites_checkpoint, tmp_path, capsys):
    write_tiny_root(tmp_path / "data")
    page = tmp_path / "page.html"
    arguments = ["--checkpoint", str(sites_checkpoint), "--data", "uavpair7", "--root", str(tmp_path / "data")]
    assert main(["evaluate", *arguments, "--html", str(page)]) == 0
    text = page.read_text()
    assert text.count("<svg") == 5  # quality is the same for all rows: no grid
    assert "iq noise, no mask" in text
    assert not re.search(r"""(src|href)=["'](?!#|data:)|url\((?!#)|@import""", text)


@pytest.mark.parametrize("folder", ["file", "absent"])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    page = tmp_path / folder / "page.html"
    assert main(["evaluate", "--checkpoint", "none", "--data", "uavpair7", "--html", str(page)]) == 6
    said = capsys.readouterr().err
    assert f"{page}: " in said
    assert "name another path, or make room" in said


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


def test_a_bundle_is_evaluated_without_torch(root):
    script = "import sys; sys.modules['torch'] = None; from trainer.cli import main; sys.exit(main(sys.argv[1:]))"
    bundle = str(root / "models" / "bundles" / "demo-1.uavb")
    data = "{kind: synthetic, validation_examples: 16}"
    done = subprocess.run(
        [sys.executable, "-c", script, "evaluate", "--bundle", bundle, "--data", data, "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["examples"] == 16


def test_shipped_configurations_are_valid(root):
    from models.schema import load_yaml
    from trainer.config import TrainConfig

    files = sorted((root / "launch").glob("train-*.yaml"))
    assert len(files) >= 6
    for path in files:
        config = load_yaml(path, TrainConfig)
        assert {one.name for one in config.modalities} == set(config.sizes), path

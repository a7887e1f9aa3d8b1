import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_graphs import example_arrays
from training import tiny_network, tiny_sizes, tiny_spec

from calibration import cli
from calibration.export import Release, export_bundle
from edge.backends.onnx import load_engines
from edge.backends.select import choose_graphs, cpu_target
from models.bundle import open_bundle
from models.nets.checkpoint import Checkpoint, CheckpointHeader

ARGUMENTS = [
    "auto", "--bundle", "base.uavb", "--examples", "calibrate.npz", "--judged-by", "judge.npz", "--version", "2",
    "--out", "bundles", "--gates", "gates.yaml", "--json",
]  # fmt: skip


@pytest.fixture
def typed(monkeypatch):
    """Return `run`, and the `words` that auto types; nothing of it is run, each ends with its exit code of `codes`."""
    found = SimpleNamespace(run=cli.main, words=[], codes={})

    def told(argv):
        found.words.append(" ".join(argv))
        return found.codes.get(argv[0], 0)

    monkeypatch.setattr(cli, "main", told)
    monkeypatch.setattr("models.bundle.open_bundle", lambda path: SimpleNamespace(manifest=SimpleNamespace(version=1)))
    monkeypatch.setattr("models.schema.load_yaml", lambda path, kind: kind())
    return found


def test_each_step_is_typed_with_the_examples_and_the_gates_that_are_its_own(typed, tmp_path, capsys):
    (tmp_path / "verify.json").write_text('{"approved": {"trt": {"iq": "int8"}}}')
    assert typed.run([*ARGUMENTS, "--work", str(tmp_path)]) == 0
    here = f"--bundle base.uavb --work {tmp_path}"
    judged = "--examples judge.npz --gates gates.yaml"
    assert typed.words == [
        f"collect {here} --examples calibrate.npz --method best",
        f"sensitivity {here} {judged}",
        f"quantize {here}",
        f"verify {here} {judged}",
        f"bundle build {here} --version 2 --out bundles",
    ]
    told = capsys.readouterr().out.splitlines()
    assert [f"$ uav-calibrate {words}" for words in typed.words] == told[:5]
    assert json.loads(told[-1])["approved"] == {"trt": {"iq": "int8"}}


def test_the_first_step_that_fails_ends_it_with_its_exit_code(typed, tmp_path):
    typed.codes = {"quantize": 7}
    assert typed.run([*ARGUMENTS, "--work", str(tmp_path)]) == 7
    assert [words.split()[0] for words in typed.words] == ["collect", "sensitivity", "quantize"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A bundle as export writes it."""
    folder = tmp_path_factory.mktemp("base")
    spec = tiny_spec()
    torch.manual_seed(11)
    golden = {one.name: torch.randn(5, *one.recipe.input_shape) for one in spec.modalities}
    network = tiny_network(spec, seed=2)
    header = CheckpointHeader(
        spec=spec, sizes=tiny_sizes(spec), description="test", licence="Apache-2.0", reproduce=("train it",),
        metrics={}, tools={},
    )  # fmt: skip
    checkpoint = Checkpoint(header=header, network=network, golden=golden)
    path, _ = export_bundle(checkpoint, Release(name="tiny", version=1, command="export it"), folder)
    return path


def examples_file(path, seed):
    np.savez(path, **example_arrays(tiny_spec(), 60, seed))
    return str(path)


def auto(base, tmp_path, *more, judged_by="judge.npz"):
    calibrate = examples_file(tmp_path / "calibrate.npz", 1)
    examples_file(tmp_path / "judge.npz", 2)
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "bundles")]
    judge = str(tmp_path / judged_by)
    return cli.main(["auto", "--bundle", str(base), "--examples", calibrate, "--judged-by", judge, *places, *more])


def test_from_a_bundle_and_examples_to_a_bundle_that_flies_what_was_approved(base, tmp_path, capsys):
    gates = tmp_path / "gates.yaml"
    gates.write_text("{least_sqnr_db: 10, least_agreement: 0.5, most_weight_drift: 0.5, most_order_flips: 0.5}")
    assert auto(base, tmp_path, "--version", "2", "--gates", str(gates), "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    bundle = open_bundle(tmp_path / "bundles" / "tiny-2.uavb")
    assert bundle.manifest.approved == told["approved"]
    assert told["approved"]["trt"] == {"iq": "int8", "image": "int8"}
    here = choose_graphs(bundle, "auto", cpu_target())
    assert dict(load_engines(bundle).precisions) == here
    assert load_engines(bundle, "int8").precisions["image"] == "int8"
    steps = [line.split()[1] for line in bundle.manifest.reproduce if line.startswith("uav-calibrate")]
    assert steps == ["collect", "sensitivity", "quantize", "verify", "bundle"]
    assert {"reports/verify.html", "reports/sensitivity.html", "calibration/ranges.npz"} <= set(bundle.contents)


def test_a_version_that_cannot_be_ends_it_before_the_first_step(base, tmp_path, capsys):
    assert auto(base, tmp_path, "--version", "1") == 2
    assert "--version 1: expected above 1, the base's" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_examples_that_made_the_ranges_do_not_judge_them(base, tmp_path, capsys):
    assert auto(base, tmp_path, "--version", "2", judged_by="calibrate.npz") == 7
    assert "these examples made the ranges, and would judge too kindly" in capsys.readouterr().err
    assert not (tmp_path / "bundles").exists()

import json
from types import SimpleNamespace

import pytest

from calibration import cli

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

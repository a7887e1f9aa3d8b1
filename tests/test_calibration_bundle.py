import hashlib
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from calibration.cli import main
from calibration.release.assembly import assemble
from calibration.work import graph_file
from models.bundle import open_bundle, shipped_bundle, write_bundle
from models.errors import BundleError, ConfigError, DeviceError
from models.manifest import graph_entry

COMMANDS = ("build", "info", "diff", "verify", "keygen", "sign", "install", "rollback")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """What calibration leaves behind: another graph of the demo model, its ranges, reports and a verdict."""
    folder = tmp_path / "work"
    (folder / "onnx").mkdir(parents=True)
    shutil.copy(shipped_bundle() / "onnx" / "iq.fp32.onnx", folder / "onnx" / "iq.int8-cpu-x86.onnx")
    shutil.copy(shipped_bundle() / "onnx" / "iq.fp32.onnx", folder / "onnx" / "iq.fp16-trt-any-batch.onnx")
    shutil.copy(shipped_bundle() / "onnx" / "image.fp32.onnx", folder / "onnx")
    for name in ("ranges.npz", "sensitivity.json", "sensitivity.html", "verify.html", "notes.txt"):
        (folder / name).write_text(name)
    judge(folder, {"cpu-x86": {"iq": "int8"}})
    return folder


def judge(work: Path, approved: dict) -> None:
    """Write a verdict on the graphs that are there."""
    files = [*(shipped_bundle() / "onnx").iterdir(), *(work / "onnx").iterdir()]
    graphs = {f"onnx/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (work / "verify.json").write_text(json.dumps({"approved": approved, "graphs": graphs, "gates": []}))


def build(work: Path, *more: str) -> int:
    places = ["--bundle", str(shipped_bundle()), "--work", str(work), "--out", str(work.parent / "out")]
    return main(["bundle", "build", *places, "--version", "2", *more])


def keygen(folder: Path) -> str:
    assert main(["bundle", "keygen", str(folder / "key")]) == 0
    return str(folder / "key")


def last_json(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_release_has_the_base_graphs_those_of_the_work_folder_and_its_reports(work: Path) -> None:
    assert build(work) == 0
    bundle = open_bundle(work.parent / "out" / "demo-2.uavb")
    base = open_bundle(shipped_bundle())
    kinds = {(graph.role, graph.precision, graph.target, graph.batch) for graph in bundle.manifest.graphs}
    assert kinds == {
        *((role, "fp32", "any", "any") for role in ("iq", "image", "fusion")),
        ("iq", "int8", "cpu-x86", "one"),
        ("iq", "fp16", "trt", "any"),
    }
    assert bundle.contents.items() > base.contents.items()
    assert set(bundle.contents) - set(base.contents) == {
        "onnx/iq.int8-cpu-x86.onnx",
        "onnx/iq.fp16-trt-any-batch.onnx",
        "calibration/ranges.npz",
        *(f"reports/{name}" for name in ("sensitivity.json", "sensitivity.html", "verify.json", "verify.html")),
    }
    assert bundle.manifest.approved == {"cpu-x86": {"iq": "int8"}}
    assert bundle.manifest.metrics == base.manifest.metrics
    assert bundle.manifest.reproduce[:-1] == base.manifest.reproduce
    assert bundle.manifest.reproduce[-1].startswith("uav-calibrate bundle build --bundle ")


@pytest.mark.parametrize("batch", ["one", "any"])
@pytest.mark.parametrize("target", ["any", "cpu-x86", "cpu-arm", "trt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "mixed", "int8"])
def test_the_name_of_a_graph_in_the_work_folder_says_what_it_is(precision: str, target: str, batch: str) -> None:
    entry = graph_entry(graph_file("iq", precision, target, batch))
    assert (entry.role, entry.precision, entry.target, entry.batch) == ("iq", precision, target, batch)


def test_without_a_verdict_nothing_is_approved_and_it_is_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "verify.json").unlink()
    assert build(work) == 0
    assert "no verify.json approves of a precision: the FP32 graphs will fly" in capsys.readouterr().out
    assert open_bundle(work.parent / "out" / "demo-2.uavb").manifest.approved == {}


def test_a_release_of_a_release_leaves_the_older_graphs_behind(work: Path) -> None:
    assert build(work) == 0
    shutil.rmtree(work / "onnx")
    (work / "onnx").mkdir()
    shutil.copy(shipped_bundle() / "onnx" / "image.fp32.onnx", work / "onnx" / "image.int8-cpu-arm.onnx")
    (work / "verify.json").unlink()
    again = ["--work", str(work), "--out", str(work.parent), "--version", "3"]
    assert main(["bundle", "build", "--bundle", str(work.parent / "out" / "demo-2.uavb"), *again]) == 0
    bundle = open_bundle(work.parent / "demo-3.uavb")
    assert {graph.file for graph in bundle.manifest.graphs if graph.precision != "fp32"} == {
        "onnx/image.int8-cpu-arm.onnx"
    }
    assert len(bundle.manifest.reproduce) == 4


@pytest.mark.parametrize("name", ["iq.int8-gpu.onnx", "iq.int4.onnx", "iq.int8-cpu-x86.onnx.tmp", "a b.int8.onnx", "x"])
def test_a_file_that_is_no_graph_by_its_name_is_refused(
    work: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "onnx" / name).write_bytes(b"x")
    assert build(work) == BundleError.exit_code
    assert f"onnx/{name}: expected onnx/<role>.<fp32|fp16|mixed|int8>" in capsys.readouterr().err
    assert not (work.parent / "out").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("onnx/image.fp32.onnx", "other", "image.fp32.onnx: differs from the base bundle's"),
        ("onnx/radar.int8.onnx", "x", "graph roles ['radar'] are unknown"),
        ("onnx/iq.fp32-any-batch.onnx", "x", "expected each kind once"),
        ("verify.json", "{}", "verify.json: no verdict to read"),
        ("verify.json", "[", "verify.json: no verdict to read"),
        ("verify.json", '{"approved": {"cpu-x86": {"iq": "int7"}}}', "verify.json: no verdict to read"),
        ("verify.json", '{"approved": {"cpu-x86": {"iq": "int8"}}}', "verify.json: no verdict to read"),
    ],
)
def test_a_work_folder_that_contradicts_itself_is_refused(
    work: Path, file: str, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / file).write_text(content)
    assert build(work) == BundleError.exit_code
    assert message in capsys.readouterr().err
    assert not (work.parent / "out").exists()


def test_a_verdict_that_approves_what_is_not_there_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge(work, {"trt": {"image": "int8"}})
    assert build(work) == BundleError.exit_code
    assert "image in int8, for which there is no graph" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["onnx/iq.int8-cpu-x86.onnx", "onnx/iq.fp16-trt-any-batch.onnx"])
def test_a_verdict_on_other_graphs_is_refused(work: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(shipped_bundle() / "onnx" / "image.fp32.onnx", work / file)
    assert build(work) == BundleError.exit_code
    assert f"verify.json: a verdict on other graphs than these ({file}" in capsys.readouterr().err
    (work / "verify.json").unlink()
    assert build(work) == 0


def test_a_verdict_on_the_graphs_of_another_base_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads((work / "verify.json").read_text())
    told["graphs"]["onnx/fusion.fp32.onnx"] = "0" * 64
    (work / "verify.json").write_text(json.dumps(told))
    assert build(work) == BundleError.exit_code
    assert "a verdict on other graphs than these (onnx/fusion.fp32.onnx and 0 more" in capsys.readouterr().err


def test_a_copy_of_a_work_folder_is_as_good_as_the_original(work: Path) -> None:
    for file in work.rglob("*.onnx"):
        os.utime(file)
    (work / "onnx" / ".iq.int8-trt.onnx.partial").write_text("left by a power cut")
    assert build(work) == 0


def test_a_link_in_the_work_folder_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "onnx" / "image.int8.onnx").symlink_to(work / "ranges.npz")
    assert build(work) == BundleError.exit_code
    assert "image.int8.onnx: expected a plain file" in capsys.readouterr().err


def test_a_work_folder_without_graphs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(tmp_path / "nothing") == BundleError.exit_code
    assert "no graphs: make them with uav-calibrate quantize --work" in capsys.readouterr().err


def test_a_version_that_is_not_above_the_base_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(work, "--version", "1") == ConfigError.exit_code
    assert "--version 1: expected above 1, the base's" in capsys.readouterr().err


def test_from_the_work_folder_to_the_drone_and_back(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, store = keygen(work.parent), work.parent / "store"
    assert build(work, "--archive", "--key", key, "--json") == 0
    built = last_json(capsys)
    trust = ["--store", str(store), "--keys", f"{key}.pub", "--require-signature"]
    assert main(["bundle", "install", str(shipped_bundle()), "--store", str(store)]) == 0
    assert main(["bundle", "install", built["archive"], *trust, "--json"]) == 0
    assert last_json(capsys) == {"store": str(store), "before": "demo-1", "now": "demo-2", "is_change": True}
    assert open_bundle(store / "current").sha256 == built["sha256"]
    assert main(["bundle", "install", built["archive"], *trust]) == 0
    assert "demo-2 was installed already" in capsys.readouterr().out
    assert main(["bundle", "rollback", "--store", str(store), "--json"]) == 0
    assert last_json(capsys) == {"store": str(store), "before": "demo-2", "now": "demo-1"}
    assert main(["bundle", "rollback", "--store", str(store)]) == BundleError.exit_code


def test_an_unsigned_or_older_bundle_is_not_installed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, store = keygen(work.parent), ["--store", str(work.parent / "store")]
    install = ["bundle", "install", str(shipped_bundle()), *store]
    assert main([*install, "--keys", f"{key}.pub", "--require-signature"]) == BundleError.exit_code
    assert main([*install, "--require-signature"]) == ConfigError.exit_code
    assert not (work.parent / "store").exists()
    assert build(work) == 0
    assert main(["bundle", "install", str(work.parent / "out" / "demo-2.uavb"), *store]) == 0
    assert main(install) == BundleError.exit_code
    assert "demo-1 is older than demo-2" in capsys.readouterr().err
    assert main([*install, "--allow-downgrade"]) == 0


@pytest.fixture
def unsound_work(work: Path) -> Path:
    """A work folder whose approved INT8 graph is another branch's."""
    shutil.copy(shipped_bundle() / "onnx" / "image.fp32.onnx", work / "onnx" / "iq.int8.onnx")
    (work / "onnx" / "iq.int8-cpu-x86.onnx").unlink()
    judge(work, {"cpu-x86": {"iq": "int8"}, "cpu-arm": {"iq": "int8"}})
    return work


def test_a_release_that_would_refuse_to_start_is_not_written(unsound_work: Path) -> None:
    assert build(unsound_work) == BundleError.exit_code
    assert not (unsound_work.parent / "out").exists()


def test_a_bundle_whose_answers_differ_here_is_rolled_back_from(
    unsound_work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(unsound_work.parent / "store")]
    assert main(["bundle", "install", str(shipped_bundle()), *store]) == 0
    made = assemble(open_bundle(shipped_bundle()), unsound_work, 2, "")
    unsound = write_bundle(unsound_work.parent / "out", made.manifest, made.contents)
    assert main(["bundle", "install", str(unsound), *store]) == BundleError.exit_code
    assert "demo-2 failed its self-test: rolled back to demo-1" in capsys.readouterr().err
    assert open_bundle(unsound_work.parent / "store" / "current").manifest.version == 1


def test_info_shows_and_tells_what_a_bundle_holds(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = keygen(work.parent)
    assert build(work, "--key", key, "--archive") == 0
    capsys.readouterr()
    assert main(["bundle", "info", str(work.parent / "out" / "demo-2.uavb.tar"), "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    text, told = "\n".join(lines), json.loads(last)
    assert "demo-2: demo model for the synthetic flight" in text
    assert "approved: cpu-x86: iq int8" in text
    assert "not checked: name its key with --keys" in text
    assert "iq 2x4096 (iq), image 3x72x96 (image); fusion: iemf" in text
    assert told["signature"] == {"key": told["signature"]["key"], "is_trusted": False}
    assert told["approved"] == {"cpu-x86": {"iq": "int8"}}
    assert len(told["spec"]["classes"]) == 8
    sizes = {graph["file"]: graph["size_bytes"] for graph in told["graphs"]}
    assert sizes["onnx/iq.int8-cpu-x86.onnx"] == (shipped_bundle() / "onnx" / "iq.fp32.onnx").stat().st_size
    assert main(["bundle", "info", str(shipped_bundle())]) == 0
    assert "approved: nothing: it flies in fp32" in capsys.readouterr().out


def test_diff_finds_nothing_between_a_folder_and_its_archive(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(work, "--archive") == 0
    out = work.parent / "out"
    assert main(["bundle", "diff", str(out / "demo-2.uavb"), str(out / "demo-2.uavb.tar"), "--json"]) == 0
    assert last_json(capsys) == {"is_same": True, "fields": {}, "files": {}, "metrics": {}}


def test_diff_tells_fields_files_and_metrics_and_exits_with_1(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(work) == 0
    capsys.readouterr()
    assert main(["bundle", "diff", str(shipped_bundle()), str(work.parent / "out" / "demo-2.uavb"), "--json"]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert told["fields"]["version"] == [1, 2]
    assert told["fields"]["approved.cpu-x86.iq"] == [None, "int8"]
    assert told["files"]["onnx/iq.int8-cpu-x86.onnx"] == "added"
    assert told["metrics"] == {}
    assert "added: calibration/ranges.npz" in lines
    assert "export --checkpoint" not in "\n".join(lines)


def test_verify_prints_how_much_it_read_and_how_fast(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "verify", str(shipped_bundle()), "--self-test", "--json"]) == 0
    told = last_json(capsys)
    assert told["bytes"] == sum(file.stat().st_size for file in shipped_bundle().rglob("*") if file.is_file())
    assert told["files"] == 6
    assert told["seconds"] > 0
    assert told["self_tested"] is True
    assert told["signature"] == {"key": None, "is_trusted": False}


def test_sign_signs_folders_and_archives_in_place(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = keygen(work.parent)
    assert build(work, "--archive") == 0
    for name in ("demo-2.uavb", "demo-2.uavb.tar"):
        path = str(work.parent / "out" / name)
        trust = ["--keys", f"{key}.pub", "--require-signature", "--json"]
        assert main(["bundle", "verify", path, *trust]) == BundleError.exit_code
        assert main(["bundle", "sign", path, "--key", key, "--json"]) == 0
        signed_by = last_json(capsys)["key"]
        assert main(["bundle", "verify", path, *trust]) == 0
        assert last_json(capsys)["signature"] == {"key": signed_by, "is_trusted": True}
    with tarfile.open(work.parent / "out" / "demo-2.uavb.tar") as tar:
        assert tar.getnames()[:3] == [f"demo-2.uavb/manifest.{kind}" for kind in ("yaml", "sha256", "sig")]


def test_a_key_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = Path(keygen(tmp_path))
    before = key.read_bytes()
    assert main(["bundle", "keygen", str(key)]) == ConfigError.exit_code
    assert "a key is never overwritten" in capsys.readouterr().err
    assert key.read_bytes() == before


def test_without_cryptography_the_remedy_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert main(["bundle", "keygen", str(tmp_path / "key")]) == DeviceError.exit_code
    assert "pip install 'uav-fusion-edge[keys]'" in capsys.readouterr().err
    assert main(["bundle", "verify", str(shipped_bundle())]) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bundle", command, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_the_bundle_command_alone_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bundle"])
    assert ended.value.code == 2
    assert "COMMAND" in capsys.readouterr().err

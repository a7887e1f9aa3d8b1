"""The selfcheck: its lines, what is compared, its patience with a GPU, and its command line."""

import json
import os
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from selfchecking import ORIN, PLATFORM, fake_gpu, rounded, store_plans

from edge.backends.planned import PlanChoice
from edge.cli import main
from edge.selfcheck import flying, gpu, measuring, planning
from edge.selfcheck.line import Line, judged, line_of_error, worst
from edge.selfcheck.parity import Parity, compare, difference, examples_of, parity_line, reference
from edge.selfcheck.patience import THREAD, run_patiently
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import ConfigError, DeviceError, InputError


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


def _refuse(*_):
    raise DeviceError("expected a thing, found none (nowhere): get one")


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        ("expected a GPU, found none (libcuda.so.1: no): get one", "none (libcuda.so.1: no)", "get one"),
        ("cuInit failed: no device: take another", "cuInit failed: no device", "take another"),
        ("iq: a\nimage: b: rebuild it", "iq: a; image: b", "rebuild it"),
        ("just so", "just so", "report it"),
        ("", "DeviceError", "report it"),
    ],
)  # fmt: skip
def test_a_message_becomes_what_was_found_and_what_to_do(text, found, remedy):
    line = line_of_error("GPU", "one", DeviceError(text))
    assert (line.status, line.found, line.remedy) == ("failed", found, remedy)


def test_a_line_in_words_says_what_was_found_and_where_it_matters_all_of_it():
    assert str(judged("disk", True, "2 GiB", "3 GiB", "make room")) == "disk: 3 GiB"
    assert str(judged("disk", False, "2 GiB", "1 GiB", "make room")) == "disk: expected 2 GiB, found 1 GiB: make room"


def test_the_worst_of_all_lines_is_the_verdict():
    ok, bad = Line(name="a", status="ok", expected="", found=""), Line(name="b", status="failed", expected="", found="")
    assert (worst([]), worst([ok]), worst([ok, bad, ok])) == ("ok", "ok", "failed")


def test_examples_are_the_golden_ones_and_the_same_variants_every_time(bundle):
    one, other = examples_of(bundle, 6), examples_of(bundle, 6)
    assert len(one) == 10
    for name, array in one.inputs.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, other.inputs[name])
        assert not np.array_equal(array[4:8], array[:4])
    assert one.masks[4:].min() == 1.0


def test_the_reference_compared_with_itself_is_the_same(bundle):
    answers = reference(bundle, examples_of(bundle, 2))
    parities = compare(answers, answers, {"iq": "fp32", "image": "int8", "fusion": "fp32"})
    assert {one.role: one.precision for one in parities} == {"iq": "fp32", "image": "int8", "fusion": "int8"}
    assert all((one.agreement, one.most_difference) == (1.0, 0.0) for one in parities)


def test_what_is_not_finite_is_infinitely_far_off():
    assert difference(np.array([[np.nan, 1.0]], np.float32), np.ones((1, 2), np.float32)) == float("inf")


@pytest.mark.parametrize(
    ("role", "precision", "same", "apart", "status"),
    [
        ("iq", "fp32", 100, 9e-4, "ok"),
        ("iq", "fp32", 100, 2e-3, "failed"),
        ("fusion", "fp16", 100, 9e-3, "ok"),
        ("fusion", "fp16", 100, 2e-2, "failed"),
        ("iq", "fp16", 100, 2e-2, "ok"),
        ("iq", "fp16", 100, 4e-2, "failed"),
        ("iq", "int8", 99, 5.0, "ok"),
        ("iq", "int8", 98, 0.1, "failed"),
        ("iq", "mixed", 100, float("inf"), "failed"),
    ],
)
def test_each_precision_has_its_bounds(role, precision, same, apart, status):
    line = parity_line(parity_of(role=role, precision=precision, same_first_class=same, most_difference=apart))
    assert line.status == status
    assert bool(line.remedy) == (status != "ok")


def parity_of(**changes) -> Parity:
    keys = {"role": "iq", "precision": "int8", "examples": 100, "most_difference": 0.1, "rms": 3.0}
    return Parity(**{**keys, **changes})


@pytest.mark.parametrize(("apart", "status"), [(9e-5, "ok"), (2e-4, "failed"), (float("inf"), "failed")])
def test_a_way_that_answers_otherwise_than_the_first_fails(apart, status):
    timing = measuring.Timing(host_p50_ms=1.0, host_p90_ms=2.0, gpu_p50_ms=None)
    way = measuring.WayResult(memory="mapped", cuda_graphs=False, timings={"all": timing}, difference=apart)
    measured = measuring.Measured(precisions={"iq": "fp32"}, gpu_free_mib=1, parities=[], ways=[way])
    (line,) = measuring.lines_of("fp32", measured)
    assert (line.name, line.status) == ("fp32, mapped memory without CUDA graphs", status)


def test_one_example_of_few_is_chance():
    line = parity_line(parity_of(examples=10, same_first_class=9))
    assert line.status == "warning"


def test_work_that_shows_progress_is_waited_for_and_returns_its_result():
    steps = []

    def work(step):
        for _ in range(3):
            step()
        return "done"

    assert run_patiently(work, lambda: steps.append(1)) == "done"
    assert len(steps) == 3


def test_work_that_hangs_is_given_up():
    may_end = threading.Event()
    with pytest.raises(DeviceError, match=r"did not answer within 0.01 s: look at dmesg"):
        run_patiently(lambda step: may_end.wait(20.0), patience_s=0.01)
    may_end.set()


@pytest.mark.parametrize(
    ("error", "told"), [(InputError("of ours"), "of ours"), (AttributeError("not foreseen"), "unforeseen on the GPU")]
)
def test_what_the_work_raises_is_raised_here(error, told):
    def work(step):
        raise error

    with pytest.raises((InputError, DeviceError), match=told):
        run_patiently(work)


def test_missing_plans_are_built_by_calibration_in_its_own_process(bundle, tmp_path):
    """Its words come back: without a GPU it has nothing to build for."""
    choice = PlanChoice(bundle=bundle, precision="int8", folder=tmp_path / "plans", options=None)
    told = planning.build_with_calibrate(choice)
    assert told.startswith("exit code ")
    assert "uav-calibrate: " in told


@pytest.mark.parametrize(
    ("program", "told"), [("/bin/true", ""), ("/bin/false", "exit code 1 ()"), ("/no/such/python", "No such file")]
)
def test_a_build_that_works_has_nothing_to_say_and_one_that_cannot_start_says_why(
    bundle, tmp_path, monkeypatch, program, told
):
    monkeypatch.setattr(sys, "executable", program)
    choice = PlanChoice(bundle=bundle, precision="fp32", folder=tmp_path, options=tmp_path / "plan.yaml")
    found = planning.build_with_calibrate(choice)
    assert (told in found) if told else found == ""


@pytest.mark.slow
def test_a_flight_on_onnx_runtime_is_measured_end_to_end(bundle, tmp_path):
    choice = PlanChoice(bundle=bundle, precision="auto", folder=tmp_path / "plans", options=None)
    done = []
    flights, (line,) = flying.fly_on(choice, ["onnxruntime"], 1.0)(lambda: done.append(1))
    assert (line.status, done) == ("ok", [1])
    assert flights[0].flown == "onnxruntime"
    assert flights[0].results > 0
    assert all(one["p50"] > 0 for one in flights[0].latency_ms.values())
    assert all(stream["balanced"] for stream in flights[0].accounting.values())


def test_everything_that_a_device_lacks_is_looked_for_and_named(monkeypatch):
    for name in ("load_driver", "load_tensorrt", "load_tensorrt_rtx", "load_pycuda", "load_libcuda"):
        monkeypatch.setattr(gpu, name, _refuse)
    found = gpu.find_gpu()
    assert found.gpu is None
    assert [line.name for line in found.lines] == ["GPU", "TensorRT", "pycuda", "CUDA driver"]
    assert all(
        (line.status, line.found, line.remedy) == ("failed", "none (nowhere)", "get one") for line in found.lines
    )


@pytest.mark.parametrize("version", ["8.6.2", "12.0.0"])
def test_a_tensorrt_that_is_too_old_or_too_new_is_named_with_both_versions(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__name__="tensorrt", __version__=version))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    (line,) = [line for line in gpu.find_gpu().lines if line.name == "TensorRT"]
    assert line.status == "failed"
    assert line.expected == "TensorRT 10.3 or newer, below 12"
    assert version in line.found
    assert "JetPack" in line.remedy


def test_tensorrt_for_rtx_stands_in_with_a_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__name__="tensorrt_rtx", __version__="1.7.1"))
    (line,) = [line for line in gpu.find_gpu().lines if line.name == "TensorRT"]
    assert (line.status, line.found) == ("warning", "none, but TensorRT for RTX 1.7.1")


def test_the_command_prints_a_line_a_check_and_ends_with_json(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["selfcheck", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    document = json.loads(lines[-1])
    assert document["verdict"] in ("ok", "warning")
    assert document["device"] is None
    assert len(lines) == len(document["lines"]) + 1
    assert all(line.split()[0] in ("ok", "warning", "failed") for line in lines[:-1])
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_fails_ends_with_1(capsys, tmp_path):
    assert main(["selfcheck", "--bundle", str(tmp_path / "absent.uavb")]) == 1
    assert "failed   bundle: expected" in capsys.readouterr().out


def test_without_a_bundle_the_command_says_that_the_gpu_was_not_looked_at(capsys, tmp_path):
    absent, out = str(tmp_path / "absent.uavb"), tmp_path / "out"
    assert main(["selfcheck", "--device", "--bundle", absent, "--out", str(out)]) == 1
    assert "failed   GPU: expected a bundle to ask it with, found none: name a sound one" in capsys.readouterr().out
    assert json.loads((out / "selfcheck.json").read_text())["device"] is None


def test_without_a_device_the_command_ends_with_4_and_leaves_a_report(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "load_driver", _refuse)
    assert main(["selfcheck", "--device", "--out", str(tmp_path / "out")]) == 4
    assert (
        "failed   GPU: expected an NVIDIA GPU with its driver, found none (nowhere): get one" in capsys.readouterr().out
    )
    document = json.loads((tmp_path / "out" / "selfcheck.json").read_text())
    assert (document["verdict"], document["device"]["gpu"]) == ("failed", None)
    assert "Selfcheck: failed" in (tmp_path / "out" / "selfcheck.html").read_text()


@pytest.fixture
def fake(bundle, monkeypatch, tmp_path):
    """A fake GPU that the command finds, with plans of the shipped bundle in the folder `plans`."""
    made = fake_gpu(bundle)
    monkeypatch.setattr(os, "_exit", lambda code: pytest.fail(f"the process would end at once, with {code}"))
    monkeypatch.setattr(measuring, "RUNS", 2)
    for name, value in (
        ("load_driver", None),
        ("load_tensorrt", made.tensorrt),
        ("load_pycuda", made.driver),
        ("load_libcuda", made.libcuda),
    ):
        monkeypatch.setattr(gpu, name, lambda value=value: value)
    monkeypatch.setattr(gpu, "read_device", lambda driver: ORIN)
    monkeypatch.setattr(gpu, "platform_of", lambda module, facts: PLATFORM)
    store_plans(PlanChoice(bundle=bundle, precision="auto", folder=tmp_path / "plans", options=None))
    return made


def check_fake_device(tmp_path) -> int:
    """Check the fake with the plans that are there, without flights."""
    folders = ["--plans", str(tmp_path / "plans"), "--out", str(tmp_path / "out")]
    return main(["selfcheck", "--device", "--no-build", "--seconds", "0", *folders])


def test_a_sound_device_ends_with_0_and_a_report(fake, tmp_path, capsys):
    assert check_fake_device(tmp_path) == 0
    told = capsys.readouterr().out
    assert "ok       GPU: Orin, compute capability 8.7, 16 multiprocessors, driver 540.4.0, Jetson Linux 36.4.3" in told
    assert "ok       pycuda: built for CUDA 13.0.0" in told
    assert "failed" not in told
    document = json.loads((tmp_path / "out" / "selfcheck.json").read_text())
    assert list(document["device"]["measured"]) == ["fp32"]
    assert "Plans in fp32" in (tmp_path / "out" / "selfcheck.html").read_text()
    assert fake.alive == fake.violations == []


def test_a_device_that_answers_wrong_ends_with_1(fake, bundle, tmp_path, capsys):
    fake.models[bundle.graph("image")] = rounded(fake.models[bundle.graph("image")], 1.0)
    assert check_fake_device(tmp_path) == 1
    assert "failed   answers of image in fp32: expected the first class of FP32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plans", "x"], "--plans goes with --device"),
        (["--no-build"], "--no-build goes with --device"),
        (["--device", "--plan-options", "/no/plan.yaml"], "/no/plan.yaml: cannot be read"),
        (["--device", "--seconds", "-1"], "expected 0 to 3600"),
        (["--device", "--seconds", "nan"], "expected 0 to 3600"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(capsys, arguments, said):
    assert main(["selfcheck", *arguments]) == ConfigError.exit_code
    assert said in capsys.readouterr().err


def test_beside_a_gpu_that_hangs_the_process_ends_at_once(monkeypatch):
    class EndedError(Exception):
        pass

    def end(code):
        raise EndedError(code)

    may_end = threading.Event()
    left = threading.Thread(target=may_end.wait, args=(20.0,), name=THREAD)
    left.start()
    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(EndedError, match="0"):
        main(["selfcheck"])
    may_end.set()
    left.join()

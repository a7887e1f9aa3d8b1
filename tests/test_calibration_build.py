import dataclasses
import io
import json
import logging
import os
import signal
import sys
import threading
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from fake_builder import FakeTensorrt

from calibration.cli import main
from calibration.examples import Examples
from calibration.plans import engine
from calibration.plans.building import Machine, build_one
from calibration.plans.progress import Progress
from calibration.quantization.quantize import Variant, quantize_bundle
from calibration.quantization.ranges import collect_ranges
from edge.backends import device
from edge.backends.device import platform_of
from edge.backends.plan_key import BUILDER_REVISION, BuilderOptions, DeviceFacts, Platform, target_facts, wanted_plans
from edge.backends.plans import PlanCache, PlanConfig
from models.bundle import GOLDEN, open_bundle, shipped_bundle, write_bundle
from models.errors import BundleError, ConfigError, DeviceError
from models.schema import load_yaml

DEMO = open_bundle(shipped_bundle())
ORIN = DeviceFacts(compute_capability="8.7", gpu="Orin", sm_count=16, driver="540.4.0", l4t="36.4.3")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The demo's real networks with INT8 and FP16 graphs for TensorRT, INT8 approved for the radio alone."""
    with np.load(io.BytesIO(DEMO.contents[GOLDEN])) as golden:
        inputs = {
            name: np.resize(golden[f"input_{name}"], (32, *golden[f"input_{name}"].shape[1:]))
            for name in DEMO.spec.modality_names
        }
    examples = Examples(inputs=inputs, present=np.ones((32, 2), np.float32), labels=np.arange(32) % 8, note="golden")
    ranges = collect_ranges(DEMO, examples, "minmax")
    variants = tuple(Variant(precision=precision, target="trt") for precision in ("int8", "fp16"))
    made = list(quantize_bundle(DEMO, ranges, variants, {}, "minmax"))
    graphs = (*DEMO.manifest.graphs, *(one.entry for one in made))
    manifest = msgspec.structs.replace(DEMO.manifest, graphs=graphs, files={}, approved={"trt": {"iq": "int8"}})
    contents = DEMO.contents | {one.entry.file: one.data for one in made}
    return open_bundle(write_bundle(tmp_path_factory.mktemp("bundles"), manifest, contents))


@pytest.fixture
def rtx(monkeypatch):
    """NVIDIA's desktop edition, which builds without a GPU, alone."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs NVIDIA's builder: pip install 'uav-fusion-edge[trt-check]'")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    return trt


def silent():
    return Progress(lambda share: None, lambda name: None)


def on(trt, **facts):
    platform = Platform(provider="tensorrt", version="10.3.0.26", facts=dataclasses.replace(ORIN, **facts))
    return Machine(trt=trt, platform=platform)


def task_of(bundle, machine, config=None, role="iq"):
    return wanted_plans(bundle, "auto", machine.platform, (config or PlanConfig()).builder, (role,))[0]


def built(bundle, folder, trt, config=None, **facts):
    config, machine = config or PlanConfig(), on(trt, **facts)
    return build_one(task_of(bundle, machine, config), machine, config, PlanCache(folder), silent())


def command(bundle, folder, *more, target="8.6"):
    aim = ["--compute-capability", target] if target else []
    return main(["build", "--bundle", str(bundle.path), "--plans", str(folder), *aim, *more])


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(("precision", "int8"), [("fp32", 0), ("fp16", 0), ("int8", 3)])
def test_plans_of_the_real_networks_are_built_and_land_in_the_cache(rtx, bundle, tmp_path, capsys, precision, int8):
    assert command(bundle, tmp_path, "--precision", precision, "--json") == 0
    told = last_json(capsys)
    assert told["builder"] == f"tensorrt_rtx {rtx.__version__}"
    plans = {one["role"]: one for one in told["plans"]}
    assert {role: one["precision"] for role, one in plans.items()} == {
        "iq": precision, "image": precision, "fusion": "fp32",
    }  # fmt: skip
    assert all(one["state"] == "built" and one["size_bytes"] > 100_000 for one in plans.values())
    assert len(PlanCache(tmp_path).entries()) == 3
    report = json.loads((tmp_path / "reports" / f"demo-1.image.{precision}.json").read_text())
    assert (report["int8_layers"], report["int8_layers_wanted"]) == (int8, int8)
    assert {one["precision"] for one in report["layers"]} >= ({"INT8"} if int8 else {precision.upper()})
    assert ("The graph has no Q/DQ" in report["note"]) == (not int8)


def test_auto_builds_what_is_approved_for_tensorrt(rtx, bundle, tmp_path, capsys):
    assert command(bundle, tmp_path, "--json") == 0
    precisions = {one["role"]: one["precision"] for one in last_json(capsys)["plans"]}
    assert precisions == {"iq": "int8", "image": "fp32", "fusion": "fp32"}


def test_a_second_call_finds_the_plans_and_builds_nothing(rtx, bundle, tmp_path, capsys, monkeypatch):
    assert command(bundle, tmp_path) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.plan")}
    monkeypatch.setattr("calibration.plans.building.build_plan", None)
    assert command(bundle, tmp_path, "--json") == 0
    assert {one["state"] for one in last_json(capsys)["plans"]} == {"found"}
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.plan")} == before


def test_the_example_of_options_says_what_holds_without_it(root):
    assert load_yaml(root / "launch" / "plan.yaml", PlanConfig) == PlanConfig()


def test_a_changed_option_builds_anew_and_says_why(rtx, bundle, tmp_path, capsys):
    options = tmp_path / "plan.yaml"
    options.write_text("builder: {optimization_level: 0, workspace_mib: 64, timing_cache: false}\n")
    plans = tmp_path / "plans"
    assert command(bundle, plans, "--role", "iq") == 0
    assert command(bundle, plans, "--role", "iq", "--options", str(options), "--json") == 0
    (one,) = last_json(capsys)["plans"]
    assert one["state"] == "built"
    assert "options: expected optimization_level 0, timing_cache false, workspace_mib 64, found" in one["reasons"][0]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: bytes([data[0] ^ 1]) + data[1:]])
def test_a_damaged_plan_is_built_anew_and_never_loaded(bundle, tmp_path, damage):
    trt = FakeTensorrt()
    first = built(bundle, tmp_path, trt)
    first.file.write_bytes(damage(first.file.read_bytes()))
    again = built(bundle, tmp_path, trt)
    assert again.state == "built"
    assert "SHA-256" in again.reasons[0]
    assert trt.deserialized == [b"plan of main_graph"] * 2


def test_explain_says_why_each_plan_fits_or_does_not(rtx, bundle, tmp_path, capsys):
    assert command(bundle, tmp_path, "--role", "iq") == 0
    capsys.readouterr()
    assert command(bundle, tmp_path, "--role", "iq", "--explain") == 0
    assert ".plan: fits" in capsys.readouterr().out
    assert command(bundle, tmp_path, "--role", "iq", "--explain", "--json", target="8.9") == 1
    out = capsys.readouterr().out
    assert "compute_capability: expected 8.9, found 8.6 (a plan fits the GPU that it was built for" in out
    assert f"rebuild with uav-calibrate build --bundle {bundle.path} --plans {tmp_path} --role iq --comp" in out
    assert json.loads(out.splitlines()[-1])["graphs"][0]["fits"] is False


def test_explain_of_an_empty_cache_names_the_command(rtx, bundle, tmp_path, capsys):
    assert command(bundle, tmp_path / "none", "--explain") == 1
    assert f"{tmp_path / 'none'}: no plan of this graph: rebuild with uav-calibrate build" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_explain_of_a_damaged_plan_says_so(rtx, bundle, tmp_path, capsys):
    assert command(bundle, tmp_path, "--role", "iq") == 0
    next(tmp_path.glob("*.plan")).write_bytes(b"")
    capsys.readouterr()
    assert command(bundle, tmp_path, "--role", "iq", "--explain") == 1
    assert "found 0 bytes" in capsys.readouterr().out


def test_without_a_gpu_and_without_a_target_the_remedy_is_named(rtx, bundle, tmp_path, capsys, monkeypatch):
    def absent(name):
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(device.ctypes, "CDLL", absent)
    assert command(bundle, tmp_path, target=None) == 4
    told = capsys.readouterr().err
    assert "expected an NVIDIA GPU with its driver, found none" in told
    assert "or name a --compute-capability for tensorrt_rtx" in told


@pytest.mark.parametrize("more", [(), ("--explain",)])
@pytest.mark.parametrize("target", ["8.7", "Orin"])
def test_a_target_that_nobody_builds_for_is_named(rtx, bundle, tmp_path, capsys, target, more):
    assert command(bundle, tmp_path, *more, target=target) == 4
    assert f"compute capability {target}: expected one that tensorrt_rtx" in capsys.readouterr().err


def test_tensorrt_builds_for_the_gpu_at_hand_alone(bundle, tmp_path):
    machine = dataclasses.replace(on(FakeTensorrt()), compute_capability="8.6")
    with pytest.raises(DeviceError, match="tensorrt builds for the GPU it runs on: run it on the device"):
        build_one(task_of(bundle, machine), machine, PlanConfig(), PlanCache(tmp_path), silent())


def test_without_tensorrt_the_remedy_is_named(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert command(bundle, tmp_path) == 4
    assert "install tensorrt from JetPack" in capsys.readouterr().err


@pytest.mark.parametrize("version", ["8.6.2.3", "12.0.0.1"])
def test_a_version_that_is_not_supported_is_named(bundle, tmp_path, capsys, monkeypatch, version):
    trt = SimpleNamespace(__name__="tensorrt", __version__=version)
    monkeypatch.setattr(engine, "load_builder", lambda: trt)
    assert command(bundle, tmp_path) == 4
    assert f"expected version 10.3 or newer, below 12, found {version}: install" in capsys.readouterr().err


def test_a_folder_that_others_may_write_to_is_refused_before_anything_is_built(bundle, tmp_path, capsys):
    tmp_path.chmod(0o777)
    assert command(bundle, tmp_path) == 4
    assert "a plan is executable code" in capsys.readouterr().err


def test_plans_within_the_bundle_are_refused(bundle, capsys):
    assert command(bundle, bundle.path / "plans") == 2
    assert "expected a folder outside of the bundle" in capsys.readouterr().err


def test_an_unknown_role_is_named(bundle):
    with pytest.raises(ConfigError, match=r"^role radio: expected iq, image, fusion or whole"):
        wanted_plans(bundle, "auto", on(FakeTensorrt()).platform, BuilderOptions(), ("radio",))


def test_a_graph_that_breaks_a_rule_never_reaches_nvidia(bundle, tmp_path):
    trt = FakeTensorrt()
    (file,) = (one.file for one in bundle.manifest.graphs if one.serves("iq", "int8", "trt") and one.batch == "one")
    broken = dataclasses.replace(bundle, contents=bundle.contents | {file: opset_21(bundle.contents[file])})
    with pytest.raises(BundleError, match=r"demo-1\.iq\.int8: breaks a rule of TensorRT: .*opset"):
        built(broken, tmp_path, trt)
    assert trt.configs == []


def opset_21(data):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(data)
    model.opset_import[0].version = 21
    return model.SerializeToString()


def test_a_graph_with_other_inputs_than_in_flight_is_refused(bundle, tmp_path):
    machine = on(FakeTensorrt())
    task = dataclasses.replace(task_of(bundle, machine), graph=bundle.graph("fusion"))
    with pytest.raises(BundleError, match=r"graph with inputs \['feature_image'.*expected \['input'\]"):
        build_one(task, machine, PlanConfig(), PlanCache(tmp_path), silent())


def test_options_reach_the_builder_and_no_precision_does(bundle, tmp_path):
    trt = FakeTensorrt()
    options = BuilderOptions(optimization_level=5, workspace_mib=256, profiling_verbosity="layer_names_only")
    built(bundle, tmp_path, trt, PlanConfig(builder=options))
    (config,) = trt.configs
    assert (config.builder_optimization_level, config.profiling_verbosity) == (5, "names")
    assert config.limits == {"workspace": 256 << 20}
    assert config.flags == set()
    assert config.max_aux_streams == 0
    assert trt.shapes == [("input", (1, 2, 4096), (1, 2, 4096), (1, 2, 4096))]


FIXED_SETTINGS = {1: {"network_flags": {1 << 1}, "flags": set(), "max_aux_streams": 0}}
"""By revision of the builder, what it sets beside the options: another setting is another revision."""


def test_what_the_builder_sets_beside_the_options_is_what_its_revision_stands_for(bundle, tmp_path):
    trt = FakeTensorrt()
    built(bundle, tmp_path, trt)
    (config,) = trt.configs
    of_options = {"builder_optimization_level", "profiling_verbosity", "limits", "cache"}
    found = {name: value for name, value in vars(config).items() if name not in {*of_options, "trt"}}
    del found["progress_monitor"]
    assert {"network_flags": set(trt.network_flags), **found} == FIXED_SETTINGS[BUILDER_REVISION]


def test_a_build_never_drops_plans_that_fly_with_its_own(rtx, bundle, tmp_path, capsys):
    options = tmp_path / "plan.yaml"
    options.write_text("cache: {plans: 1}\n")
    plans = tmp_path / "plans"
    for more in ([], ["--role", "iq", "--precision", "fp32"]):
        assert command(bundle, plans, "--options", str(options), *more) == 0
    assert command(bundle, plans, "--options", str(options), "--explain") == 0
    assert {entry.title for entry in PlanCache(plans).entries()} == {
        "demo-1.iq.int8", "demo-1.iq.fp32", "demo-1.image.fp32", "demo-1.fusion.fp32",
    }  # fmt: skip


def test_too_little_memory_is_named_with_a_remedy(bundle, tmp_path):
    with pytest.raises(DeviceError, match=r"not enough GPU memory \(.*\): close .* builder\.workspace_mib"):
        built(bundle, tmp_path, FakeTensorrt(complaint="Error Code 2: OutOfMemory (Requested size was 1 GiB)"))


def test_the_desktop_edition_says_that_it_times_nothing(rtx, bundle, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert command(bundle, tmp_path, "--role", "fusion") == 0
    assert "tensorrt_rtx times no kernels when it builds" in caplog.text
    assert "demo-1.fusion.fp32: Building engine" in caplog.text  # no terminal here: phases go to the log


@pytest.fixture
def ctrl_c():
    """Let SIGINT interrupt, as in a terminal: what a shell starts in the background is born deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_build_at_its_next_step_and_leaves_the_cache_as_it_was(bundle, tmp_path):
    progress = silent()
    interrupted = threading.Event()

    def interrupt(step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(500):
                if progress.is_cancelled:
                    break
                interrupted.wait(0.01)

    trt, machine = FakeTensorrt(on_step=interrupt), on(FakeTensorrt())
    machine = dataclasses.replace(machine, trt=trt)
    with pytest.raises(KeyboardInterrupt):
        build_one(task_of(bundle, machine), machine, PlanConfig(), PlanCache(tmp_path), progress)
    for worker in threading.enumerate():
        if worker.name.startswith("build"):
            worker.join()
    assert trt.steps == [0, 1]
    assert PlanCache(tmp_path).entries() == []
    assert not (tmp_path / "timing").exists()


def test_a_cancelled_build_of_nvidias_builder_makes_no_plan(rtx, bundle, tmp_path):
    facts = target_facts("8.6")
    machine = Machine(trt=rtx, platform=platform_of(rtx, facts), compute_capability="8.6")
    progress = silent()
    progress.cancel()
    with pytest.raises(BundleError, match=r"builds no plan: .*[Cc]anceled by user"):
        build_one(task_of(bundle, machine), machine, PlanConfig(), PlanCache(tmp_path), progress)
    assert PlanCache(tmp_path).entries() == []


def test_the_report_names_precision_and_kernel_and_why_a_layer_is_not_int8(bundle, tmp_path):
    layers = [
        {
            "Name": "node_Conv_65 + node_relu_1", "LayerType": "CaskConvolution", "TacticName": "sm80_xmma_i8i8",
            "Inputs": [{"Name": "a", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
            "Metadata": "[ONNX Layer: node_Conv_65]\u001e[ONNX Layer: node_relu_1]",
        },
        {
            "Name": "node_Conv_67", "LayerType": "CaskConvolution", "TacticName": "sm80_fp16_hmma",
            "Inputs": [{"Name": "b", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
        },
    ]  # fmt: skip
    outcome = built(bundle, tmp_path, FakeTensorrt(layers))
    assert outcome.summary == "1 of 3 quantized layers are INT8 (engine inspector)"
    page = outcome.report.read_text()
    assert "sm80_xmma_i8i8" in page
    assert "the graph quantizes it, the builder does not: there is no INT8 kernel for its shape" in page
    told = json.loads(outcome.report.with_suffix(".json").read_text())
    assert [one["precision"] for one in told["layers"]] == ["INT8", "FP16"]
    assert told["inspector"]["Layers"] == layers
    assert told["unnamed"] == ["node_Conv_69"]
    assert "The graph quantizes node_Conv_69; no layer names them: they were joined with others." in page


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        ("engine has no layers", "The engine inspector's answer is no JSON"),
        ("[]", "The engine inspector's answer is no JSON"),
        ('{"Layers": ["node_Conv_65", "a\u001e\x1fb"]}', "set builder.profiling_verbosity to detailed"),
        ("{}", "set builder.profiling_verbosity to detailed"),
    ],
)
def test_an_inspector_that_says_little_costs_details_and_no_plan(bundle, tmp_path, answer, note):
    trt = FakeTensorrt()
    trt.answer = answer
    outcome = built(bundle, tmp_path, trt)
    assert outcome.file.is_file()
    assert note in json.loads(outcome.report.with_suffix(".json").read_text())["note"]


def test_a_report_without_a_gpu_says_that_it_is_of_what_was_asked_for(rtx, bundle, tmp_path):
    assert command(bundle, tmp_path, "--role", "iq") == 0
    told = json.loads((tmp_path / "reports" / "demo-1.iq.int8.json").read_text())
    assert told["source"] == "parsed network"
    assert "No GPU was at hand" in told["note"]
    kept = {node for one in told["layers"] if one["why"] for node in one["nodes"]}
    assert len(kept) == 3  # the front end, the embedding and the head
    assert "calibration leaves it in float" in (tmp_path / "reports" / "demo-1.iq.int8.html").read_text()

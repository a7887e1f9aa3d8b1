"""From a deployment's folder of plans to engines that run: what is missing on the way is told with its remedy."""

import ctypes
import dataclasses
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from fake_gpu import Gpu
from fake_tensorrt import module_of, onnx_model

from edge.backends import planned, trt, worker
from edge.backends.cuda import load_libcuda, load_pycuda
from edge.backends.plan_key import BuilderOptions, DeviceFacts, Platform, wanted_plans
from edge.backends.planned import PlanChoice, find_plans, opener, plans_of_this_machine
from edge.backends.plans import PlanCache
from edge.backends.trt import load_tensorrt
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import BundleError, DeviceError, NotBuiltError

ORIN = DeviceFacts(compute_capability="8.7", gpu="Orin", sm_count=16, driver="540.4.0", l4t="36.4.3")
PLATFORM = Platform(provider="tensorrt", version="10.3.0.30", facts=ORIN)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


@pytest.fixture
def choice(bundle: Bundle, tmp_path: Path) -> PlanChoice:
    """Return what is wanted of a cache that holds all of it; each plan is the graph that it was made of."""
    cache = PlanCache(tmp_path / "plans")
    for wanted in wanted_plans(bundle, "auto", PLATFORM, BuilderOptions()):
        cache.store(wanted.key, wanted.graph, wanted.title)
    return PlanChoice(bundle=bundle, precision="auto", folder=tmp_path / "plans", options=None)


def test_the_plans_of_this_machine_are_found(choice, bundle):
    plans = find_plans(choice, PLATFORM)
    assert dict(plans.by_role) == {role: bundle.graph(role) for role in ("iq", "image", "fusion")}
    assert set(plans.precisions.values()) == {"fp32"}


def test_every_plan_that_is_missing_is_named_with_what_to_type(choice):
    other = Platform(provider="tensorrt", version="10.16.2.10", facts=ORIN)
    with pytest.raises(NotBuiltError) as refusal:
        find_plans(choice, other)
    lines = str(refusal.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["iq", "image", "fusion"]
    for line in lines:
        assert "version: expected 10.16.2.10, found 10.3.0.30" in line
        assert f"uav-calibrate build --bundle {choice.bundle.path} --plans {choice.folder}" in line


def test_a_precision_that_was_chosen_is_part_of_what_to_type(choice):
    other = Platform(provider="tensorrt", version="10.16.2.10", facts=ORIN)
    with pytest.raises(DeviceError, match=r"rebuild with uav-calibrate build .* --precision fp32"):
        find_plans(dataclasses.replace(choice, precision="fp32"), other)


def test_plans_built_with_other_options_are_refused(choice, tmp_path):
    options = tmp_path / "plan.yaml"
    options.write_text("builder: {optimization_level: 5}\n")
    other = PlanChoice(bundle=choice.bundle, precision="auto", folder=choice.folder, options=options)
    with pytest.raises(DeviceError, match=f"optimization_level 5, found optimization_level 3.* --options {options}"):
        find_plans(other, PLATFORM)


def test_a_damaged_plan_is_refused(choice):
    path = next(choice.folder.glob("*.plan"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DeviceError, match="SHA-256"):
        find_plans(choice, PLATFORM)


def test_a_precision_without_graphs_for_tensorrt_is_refused(choice):
    other = PlanChoice(bundle=choice.bundle, precision="int8", folder=choice.folder, options=None)
    with pytest.raises(BundleError, match="no graph in int8 for trt"):
        find_plans(other, PLATFORM)


def test_plans_that_are_found_are_loaded(choice, bundle, monkeypatch):
    gpu = Gpu({bundle.graph(role): onnx_model(bundle.graph(role)) for role in ("iq", "image", "fusion")})
    monkeypatch.setattr(trt, "TIMED_RUNS", 1)
    monkeypatch.setattr(planned, "load_tensorrt", lambda: gpu.tensorrt)
    monkeypatch.setattr(planned, "load_driver", lambda: None)
    monkeypatch.setattr(planned, "read_device", lambda driver: ORIN)
    monkeypatch.setattr(planned, "platform_of", lambda module, facts: PLATFORM)
    monkeypatch.setattr(worker, "load_tensorrt", lambda: gpu.tensorrt)
    monkeypatch.setattr(worker, "load_pycuda", lambda: gpu.driver)
    monkeypatch.setattr(worker, "load_libcuda", lambda: gpu.libcuda)
    loaded = opener(partial(plans_of_this_machine, choice))(threading.Event())
    engines = loaded.engines()
    engines.fusion.run()
    assert list(engines.branches) == ["iq", "image"]
    assert engines.precisions == {"iq": "fp32", "image": "fp32", "fusion": "fp32"}
    loaded.close(wait_s=5.0)
    assert gpu.alive == gpu.violations == []


def test_the_end_of_a_flight_reaches_who_loads_the_plans(monkeypatch):
    given, cancel = [], threading.Event()
    monkeypatch.setattr(planned, "open_tensorrt", lambda *args: given.append(args))
    opener(lambda: "plans")(cancel)
    assert given == [("plans", cancel)]


def test_no_tensorrt_is_told_with_where_it_comes_from(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DeviceError, match=r"expected TensorRT, found none .*JetPack.*--system-site-packages"):
        load_tensorrt()


@pytest.mark.parametrize("version", ["8.6.2", "10.2.0", "12.0.0"])
def test_an_older_or_newer_tensorrt_than_supported_is_refused(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "tensorrt", module_of("tensorrt", __version__=version))
    with pytest.raises(DeviceError, match=f"expected version 10.3 or newer, below 12, found {version}"):
        load_tensorrt()


def test_a_supported_tensorrt_is_taken(monkeypatch):
    module = module_of("tensorrt", __version__="10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert load_tensorrt() is module


def test_no_pycuda_is_told_with_how_to_build_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(DeviceError, match=r"expected pycuda, found none .*CUDA_ROOT=/usr/local/cuda"):
        load_pycuda()


def test_no_driver_and_one_without_cuda_graphs_are_refused(monkeypatch):
    def absent(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(DeviceError, match=r"expected a CUDA driver of 11.4 or later, found none \(libcuda.so.1"):
        load_libcuda()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with pytest.raises(DeviceError, match=r"found none \('object' object has no attribute 'cuStreamBeginCapture_v2'"):
        load_libcuda()


def test_the_types_of_the_drivers_functions_are_told(monkeypatch):
    class Library:
        def __getattr__(self, name):
            vars(self)[name] = module_of(name)
            return vars(self)[name]

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    library = load_libcuda()
    assert library.cuGraphLaunch.argtypes == [ctypes.c_void_p, ctypes.c_void_p]
    assert all(function.argtypes for function in vars(library).values())

"""Changing engines in flight, on a fake GPU that answers as ONNX Runtime does: nothing is lost, failures are told."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from fake_gpu import Gpu
from fake_tensorrt import onnx_model

from edge.backends import swap as swap_module
from edge.backends import trt
from edge.backends.cuda import Cuda
from edge.backends.golden import check_golden
from edge.backends.onnx import load_engines
from edge.backends.session import Engines, Plans
from edge.backends.swap import NOT_FINITE, HotSwap
from edge.backends.trt import TrtDevice
from edge.backends.worker import TrtSession, TrtWorker
from models.bundle import FUSION, Bundle, open_bundle, shipped_bundle
from models.errors import BundleError, DeviceError, NotBuiltError

ROLES = ("iq", "image", FUSION)
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    monkeypatch.setattr(trt, "TIMED_RUNS", 1)


@pytest.fixture
def gpu(bundle: Bundle) -> Gpu:
    return Gpu({bundle.graph(role): onnx_model(bundle.graph(role)) for role in ROLES})


@pytest.fixture
def swap(bundle: Bundle):
    made = HotSwap(bundle, load_engines(bundle))
    yield made
    made.close()


def opener(gpu: Gpu, bundle: Bundle):
    """Return what loads the bundle's plans, which are its graphs, into the fake GPU."""
    plans = Plans(by_role={role: bundle.graph(role) for role in ROLES}, precisions=dict.fromkeys(ROLES, "fp32"))
    return lambda cancel: TrtWorker(TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda)), plans, PATIENCE_S, cancel)


def infer(engines: Engines, seed: int = 0) -> list[np.ndarray]:
    """Run every graph on random inputs, and return all outputs."""
    rng = np.random.default_rng(seed)
    found = []
    for session in (*engines.branches.values(), engines.fusion):
        for array in session.inputs.values():
            array[...] = rng.uniform(0, 1, array.shape)
        session.run()
        found += [array.copy() for array in session.outputs.values()]
    return found


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_accelerator_takes_over_at_the_next_inference_and_answers_the_same(swap, gpu, bundle):
    before = infer(swap.engines)
    assert (swap.flying.backend, swap.flying.reason) == ("onnxruntime", "")
    swap.load(opener(gpu, bundle))
    launches = gpu.calls.count("cuGraphLaunch")
    assert_same(infer(swap.engines), before)
    assert gpu.calls.count("cuGraphLaunch") == launches + len(ROLES)
    assert swap.flying.backend == "tensorrt"
    assert "TensorRT 10.3.0 on Fake GPU" in swap.flying.reason


def test_an_inference_that_has_begun_ends_on_the_engine_it_began_on(swap, gpu, bundle):
    session = swap.engines.branches["iq"]
    expected = infer(swap.engines)[:2]
    inputs = session.inputs
    inputs["input"][...] = np.random.default_rng(0).uniform(0, 1, inputs["input"].shape)
    swap.load(opener(gpu, bundle))
    launches = gpu.calls.count("cuGraphLaunch")
    session.run()
    assert_same(list(session.outputs.values()), expected)
    assert gpu.calls.count("cuGraphLaunch") == launches


def test_an_inference_that_fails_is_made_good_with_the_same_inputs(swap, gpu, bundle):
    expected = infer(swap.engines, seed=5)
    swap.load(opener(gpu, bundle))
    infer(swap.engines)
    gpu.fails_at = lambda call, number: call == "cuGraphLaunch"
    assert_same(infer(swap.engines, seed=5), expected)
    assert swap.flying.backend == "onnxruntime"
    assert swap.flying.reason.startswith("cuGraphLaunch failed: CUDA_ERROR_719 (719): ")


def test_after_a_failure_the_gpu_is_released_when_the_last_graph_has_left_it(swap, gpu, bundle):
    swap.load(opener(gpu, bundle))
    infer(swap.engines)
    gpu.fails_at = lambda call, number: call == "query"
    swap.engines.branches["iq"].run()
    assert gpu.alive != []
    infer(swap.engines)
    wait_until(lambda: "detach" in gpu.calls and not gpu.alive)
    assert gpu.violations == []


def test_a_gpu_that_hangs_costs_one_waiting_time_and_no_answer(swap, gpu, bundle):
    expected = infer(swap.engines, seed=5)
    worker = opener(gpu, bundle)(threading.Event())
    swap.load(lambda cancel: worker)
    infer(swap.engines)
    worker._run_timeout_s = 0.05  # from here on alone: a busy machine may take longer over what does not hang
    gpu.held.update(gpu.streams)
    assert_same(infer(swap.engines, seed=5), expected)
    assert "no answer from the GPU within 0.05 s" in swap.flying.reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("role", ROLES)
def test_an_answer_that_is_not_finite_is_made_good_and_the_gpu_given_up(swap, gpu, bundle, role, value):
    expected = infer(swap.engines, seed=5)
    swap.load(opener(gpu, bundle))
    infer(swap.engines)
    model = gpu.models[bundle.graph(role)]
    sound = model.compute

    def spoil(inputs):
        spoiled = {name: array.copy() for name, array in sound(inputs).items()}
        spoiled["logits"][0, -1] = value
        return spoiled

    model.compute = spoil
    assert_same(infer(swap.engines, seed=5), expected)
    assert (swap.flying.backend, swap.flying.reason) == ("onnxruntime", f"{role}: {NOT_FINITE}")


def test_inputs_that_onnx_runtime_cannot_answer_either_are_no_reason_to_give_the_gpu_up(swap, gpu, bundle):
    swap.load(opener(gpu, bundle))
    expected = infer(swap.engines)
    session = swap.engines.branches["iq"]
    session.inputs["input"][...] = np.nan
    assert not session.run()
    assert swap.flying.backend == "tensorrt"
    launches = gpu.calls.count("cuGraphLaunch")
    assert_same(infer(swap.engines), expected)
    assert gpu.calls.count("cuGraphLaunch") == launches + len(ROLES)


def wait_until(is_so) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_plans_that_answer_otherwise_are_not_flown(swap, gpu, bundle):
    model = gpu.models[bundle.graph("image")]
    wrong = dataclasses.replace(model, compute=lambda inputs: dict.fromkeys(model.outputs, 0.5))
    gpu.models[bundle.graph("image")] = wrong
    with pytest.raises(
        BundleError, match=r"answers differ from the golden examples .*: export the bundle anew, or build its plans"
    ):
        swap.load(opener(gpu, bundle))
    assert swap.flying.backend == "onnxruntime"
    infer(swap.engines)
    wait_until(lambda: gpu.alive == [])
    assert gpu.violations == []


def test_a_head_that_breaks_its_formulas_is_not_flown(swap, gpu, bundle, monkeypatch):
    asked = []

    def refuse(its_bundle, engine):
        asked.append((its_bundle, type(engine)))
        raise BundleError("the fusion graph differs")

    monkeypatch.setattr(swap_module, "check_fusion", refuse)  # the shipped bundle does not hold the head's numbers
    with pytest.raises(BundleError, match="the fusion graph differs"):
        swap.load(opener(gpu, bundle))
    assert asked == [(bundle, TrtSession)]
    assert swap.flying.backend == "onnxruntime"


def test_a_gpu_that_fails_at_the_golden_examples_leaves_no_memory_with_its_error(swap, gpu, bundle):
    worker = opener(gpu, bundle)(threading.Event())
    so_far = gpu.calls.count("cuGraphLaunch")
    gpu.fails_at = lambda call, number: (
        gpu.calls.count("cuGraphLaunch") > so_far + 2
    )  # the head: branches have answered
    with pytest.raises(DeviceError, match="cuGraphLaunch failed") as refusal:
        swap.load(lambda cancel: worker)
    worker.close(PATIENCE_S)
    assert (gpu.alive, gpu.violations) == ([], []), refusal


def test_plans_of_another_graph_are_not_flown(swap, gpu, bundle):
    gpu.models[bundle.graph("image")] = gpu.models[bundle.graph("iq")]
    with pytest.raises(DeviceError, match=r"the plan of image is of another graph \(input: expected .*, found float32"):
        swap.load(opener(gpu, bundle))
    wait_until(lambda: gpu.alive == [])


def test_where_there_is_no_accelerator_the_reason_is_told_and_onnx_runtime_flies_on(swap):
    def absent(cancel):
        raise DeviceError("expected TensorRT, found none")

    swap.load_in_background(absent)
    wait_until(lambda: swap.flying.reason)
    assert (swap.flying.backend, swap.flying.reason) == ("onnxruntime", "expected TensorRT, found none")
    infer(swap.engines)


def test_plans_that_are_built_in_flight_take_over_in_flight(swap, gpu, bundle, monkeypatch, caplog):
    monkeypatch.setattr("edge.backends.swap.LOOK_AGAIN_S", 0.001)
    asked, build = [], threading.Event()

    def look(cancel):
        asked.append(1)
        if not build.is_set():
            raise NotBuiltError("image: no plan")
        return opener(gpu, bundle)(cancel)

    swap.load_in_background(look)
    wait_until(lambda: len(asked) > 3)
    assert (swap.flying.backend, swap.flying.reason) == ("onnxruntime", "image: no plan")
    assert caplog.text.count("image: no plan") == 1
    build.set()
    wait_until(lambda: swap.flying.backend == "tensorrt")
    infer(swap.engines)


def test_what_will_never_be_there_is_not_looked_for_again(swap, monkeypatch):
    monkeypatch.setattr("edge.backends.swap.LOOK_AGAIN_S", 0.001)
    asked = []

    def absent(cancel):
        asked.append(1)
        raise DeviceError("expected TensorRT, found none")

    swap.load_in_background(absent)
    swap._loader.join()
    assert len(asked) == 1


@pytest.mark.parametrize("kind", [AttributeError, BufferError, ImportError, SystemError])
def test_what_nobody_foresaw_leaves_onnx_runtime_flying(swap, kind):
    def surprise(cancel):
        raise kind("no such thing here")

    swap.load_in_background(surprise)
    wait_until(lambda: swap.flying.reason)
    assert swap.flying.reason == f"unforeseen: {kind.__name__}('no such thing here'): report it"
    infer(swap.engines)


def test_an_unforeseen_error_at_a_start_that_insists_on_tensorrt_is_one_of_the_device(swap):
    def surprise(cancel):
        raise KeyError("no such thing here")

    with pytest.raises(DeviceError, match=r"^unforeseen: KeyError\('no such thing here'\): report it$"):
        swap.load(surprise)


def test_the_end_of_a_flight_ends_a_load_between_two_plans(bundle, gpu, monkeypatch, caplog):
    monkeypatch.setattr(swap_module, "_RELEASE_S", PATIENCE_S)
    swap = HotSwap(bundle, load_engines(bundle))
    has_begun, may_go_on = threading.Event(), threading.Event()

    def wait_in_the_first_plan(call, number):
        if call == "deserialize_cuda_engine":
            has_begun.set()
            may_go_on.wait(PATIENCE_S)
        return False

    gpu.fails_at = wait_in_the_first_plan
    swap.load_in_background(opener(gpu, bundle))
    assert has_begun.wait(PATIENCE_S)
    closing = threading.Thread(target=swap.close)
    closing.start()
    assert swap._closing.wait(PATIENCE_S)
    may_go_on.set()
    closing.join(PATIENCE_S)
    assert not swap._loader.is_alive()
    assert gpu.calls.count("deserialize_cuda_engine") == 1
    assert gpu.alive == gpu.violations == []
    assert (swap.flying.reason, caplog.text) == ("", "")  # nothing failed: nobody is warned


def test_what_is_ready_after_the_end_of_the_flight_is_released(bundle, gpu):
    swap = HotSwap(bundle, load_engines(bundle))
    may_go_on = threading.Event()

    def late(cancel):
        may_go_on.wait(PATIENCE_S)
        return opener(gpu, bundle)(threading.Event())

    swap.load_in_background(late)
    closing = threading.Thread(target=swap.close)
    closing.start()
    wait_until(swap._closing.is_set)
    may_go_on.set()
    closing.join(PATIENCE_S)
    wait_until(lambda: "detach" in gpu.calls and not gpu.alive)
    assert swap.flying.backend == "onnxruntime"


def test_engines_that_may_change_pass_the_golden_check_like_any_other(swap, gpu, bundle):
    assert check_golden(bundle, swap.engines) < 1e-5
    swap.load(opener(gpu, bundle))
    assert check_golden(bundle, swap.engines) < 1e-5

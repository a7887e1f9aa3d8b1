"""Loading plans into a fake GPU: what is refused, what is given up, and what is left behind."""

import threading
import weakref

import pytest
from fake_gpu import Gpu
from fake_tensorrt import Model
from test_edge_backends_trt import MODELS, PATIENCE_S, PLANS, ROLES, VECTOR, branch, close, open_worker

from edge.backends import trt
from edge.backends import worker as worker_module
from edge.backends.session import Plans
from edge.backends.trt import TrtDevice
from edge.backends.trt_log import logger_of
from models.errors import DeviceError


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    monkeypatch.setattr(trt, "TIMED_RUNS", 2)


@pytest.fixture
def gpu():
    return Gpu(MODELS)


def test_a_gpu_that_hangs_at_the_start_is_given_up_and_released_if_it_comes_back(gpu, monkeypatch):
    may_go_on, load, before = threading.Event(), TrtDevice.open, set(threading.enumerate())

    def open_late(device, plans, cancel):
        may_go_on.wait(PATIENCE_S)
        load(device, plans, cancel)

    monkeypatch.setattr(TrtDevice, "open", open_late)
    monkeypatch.setattr(worker_module, "OPEN_TIMEOUT_S", 0.01)
    with pytest.raises(DeviceError, match=r"the GPU was not ready within 0.01 s: look at dmesg"):
        open_worker(gpu)
    (thread,) = set(threading.enumerate()) - before
    may_go_on.set()
    thread.join(PATIENCE_S)
    assert gpu.calls[-2:] == ["pop", "detach"]
    assert gpu.alive == gpu.violations == []


@pytest.mark.parametrize(
    ("call", "plans_begun", "never"),
    [
        ("init", 0, "deserialize_cuda_engine"),
        ("deserialize_cuda_engine", 1, "set_tensor_address"),
        ("cuGraphLaunch", len(ROLES), "managed_empty"),
    ],
)
def test_a_load_that_nobody_wants_any_more_ends_at_its_next_step_and_leaves_nothing(gpu, call, plans_begun, never):
    cancel = threading.Event()

    def cancel_at(name, number):
        if name == call:
            cancel.set()
        return False

    gpu.fails_at = cancel_at
    with pytest.raises(DeviceError, match=f"^{trt.CANCELLED}$"):
        open_worker(gpu, cancel=cancel)
    assert gpu.calls.count("deserialize_cuda_engine") == plans_begun
    assert never not in gpu.calls
    assert gpu.alive == gpu.violations == []


def test_the_bytes_of_plans_that_are_loaded_are_let_go(gpu):
    class Held(dict):
        pass

    by_role = Held(PLANS.by_role)
    is_held = weakref.ref(by_role)
    worker = open_worker(gpu, Plans(by_role=by_role, precisions=PLANS.precisions))
    del by_role
    assert is_held() is None
    worker.engines().fusion.run()
    close(worker)


def test_a_plan_that_tensorrt_cannot_read_is_refused_with_what_it_says(gpu):
    plans = Plans(by_role={**PLANS.by_role, "image": b"of another machine"}, precisions=PLANS.precisions)
    with pytest.raises(
        DeviceError, match=r"deserialize_cuda_engine failed: image: Serialization assertion failed: .*rebuild"
    ):
        open_worker(gpu, plans)
    assert gpu.alive == []


def test_what_tensorrt_said_of_an_earlier_plan_is_not_told_of_a_later_one(gpu):
    def complain_of_the_first(call, number):
        if gpu.calls.count("deserialize_cuda_engine") == 1:
            logger_of(gpu.tensorrt).lines.append("of an earlier plan")
        return False

    gpu.fails_at = complain_of_the_first
    plans = Plans(by_role={"iq": b"iq plan", "image": b"of another machine"}, precisions=PLANS.precisions)
    with pytest.raises(DeviceError, match=r"^deserialize_cuda_engine failed: image: Serialization assertion failed: "):
        open_worker(gpu, plans)
    assert gpu.alive == []


def test_a_plan_of_other_types_than_the_pipeline_knows_is_refused():
    half = Model({"input": ((1, 4), "HALF")}, {"feature": VECTOR, "logits": VECTOR}, branch)
    gpu = Gpu({**MODELS, b"iq plan": half})
    with pytest.raises(DeviceError, match="plan with input of HALF: expected float32 or uint8"):
        open_worker(gpu)
    assert gpu.alive == []


def test_a_driver_older_than_tensorrt_is_named_as_such(gpu):
    gpu.fails_at = lambda call, number: call == "Runtime"
    with pytest.raises(DeviceError, match=r"^Runtime failed: .*error: 35: the driver is older than TensorRT's CUDA"):
        open_worker(gpu)
    assert gpu.alive == []

"""The TensorRT backend on a fake GPU: in which order it calls, what it does when a call fails, what it leaves behind.

Nothing here has seen a real GPU: what the fake does is what the bindings' documentation says.
"""

import threading

import numpy as np
import pytest
from fake_gpu import Gpu
from fake_tensorrt import Model

from edge.backends import trt
from edge.backends.cuda import MEMORY_MODES, Cuda, device_error
from edge.backends.session import Plans
from edge.backends.trt import TrtDevice
from edge.backends.worker import TrtWorker
from models.errors import DeviceError

ROLES = ("iq", "image", "fusion")
PATIENCE_S = 20.0
VECTOR, FRAME, MASK = ((1, 4), "FLOAT"), ((1, 2, 2, 3), "UINT8"), ((1, 2), "FLOAT")


def branch(inputs):
    return {
        "feature": inputs["input"].reshape(1, -1)[:, :4] + 1.0,
        "logits": inputs["input"].reshape(1, -1)[:, :4] * 2.0,
    }


def head(inputs):
    return {
        "logits": inputs["feature_iq"] + inputs["feature_image"],
        "weights": inputs["mask"],
        "entropies": inputs["mask"],
    }


MODELS = {
    b"iq plan": Model({"input": VECTOR}, {"feature": VECTOR, "logits": VECTOR}, branch),
    b"image plan": Model({"input": FRAME}, {"feature": VECTOR, "logits": VECTOR}, branch),
    b"fusion plan": Model(
        {"feature_iq": VECTOR, "logits_iq": VECTOR, "feature_image": VECTOR, "logits_image": VECTOR, "mask": MASK},
        {"logits": VECTOR, "weights": MASK, "entropies": MASK},
        head,
    ),
}
PLANS = Plans(by_role={role: f"{role} plan".encode() for role in ROLES}, precisions=dict.fromkeys(ROLES, "fp32"))


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    monkeypatch.setattr(trt, "TIMED_RUNS", 2)


@pytest.fixture
def gpu():
    return Gpu(MODELS)


def clock_that_favours(mode):
    """Return a clock by which the runs of one mode are faster than those of the others."""
    steps = [step for one in MEMORY_MODES for step in [0, *[1_000_000 if one == mode else 9_000_000] * trt.TIMED_RUNS]]
    times = iter(np.cumsum(steps).tolist())
    return lambda: next(times)


def open_worker(gpu: Gpu, plans: Plans = PLANS, mode="pinned", cancel=None) -> TrtWorker:
    device = TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda), clock_that_favours(mode))
    return TrtWorker(device, plans, PATIENCE_S, cancel)


def close(worker: TrtWorker) -> None:
    worker.close(PATIENCE_S)


@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_each_graph_answers_as_its_plan_says(gpu, mode):
    worker = open_worker(gpu, mode=mode)
    engines = worker.engines()
    iq, image = engines.branches["iq"], engines.branches["image"]
    iq.inputs["input"][...] = 3.0
    iq.run()
    image.inputs["input"][...] = 7
    image.run()
    for name, session in engines.branches.items():
        engines.fusion.inputs[f"feature_{name}"][...] = session.outputs["feature"]
    engines.fusion.inputs["mask"][...] = 1.0
    engines.fusion.run()
    assert image.inputs["input"].dtype == np.uint8
    assert engines.fusion.outputs["logits"].tolist() == [[12.0] * 4]
    assert iq.outputs["logits"].tolist() == [[6.0] * 4]
    close(worker)
    assert gpu.violations == []


def open_device(gpu: Gpu, mode="pinned") -> TrtDevice:
    device = TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda), clock_that_favours(mode))
    device.open(PLANS)
    return device


def test_the_device_is_taken_first_and_given_back_last(gpu):
    close(open_worker(gpu))
    opening = [
        "init",
        "count",
        "Device",
        "name",
        "retain_primary_context",
        "push",
        "Runtime",
        "deserialize_cuda_engine",
    ]
    assert gpu.calls[: len(opening)] == opening
    assert gpu.calls[-2:] == ["pop", "detach"]


def test_everything_is_released_in_order(gpu):
    worker = open_worker(gpu)
    before = len(gpu.released)
    close(worker)
    order = list(dict.fromkeys(gpu.released[before:]))
    memory = [name for name in ("PagelockedHostAllocation", "DeviceAllocation", "ManagedAllocation") if name in order]
    assert [name for name in order if name not in memory] == [
        "cuGraphExecDestroy", "IExecutionContext", "ICudaEngine", "Runtime", "Stream", "Event", "pop", "detach",
        "Context",
    ]  # fmt: skip
    assert (
        order.index("Runtime") < min(map(order.index, memory)) <= max(map(order.index, memory)) < order.index("Stream")
    )
    assert gpu.alive == []
    assert gpu.memory == gpu.executables == gpu.graphs == {}


def test_addresses_are_set_when_memory_is_made_and_never_in_flight(gpu):
    worker = open_worker(gpu)
    tensors = sum(len(model.inputs) + len(model.outputs) for model in MODELS.values())
    assert gpu.calls.count("set_tensor_address") == tensors * (len(MEMORY_MODES) + 1)
    before = len(gpu.calls)
    for session in (*worker.engines().branches.values(), worker.engines().fusion):
        session.run()
    assert set(gpu.calls[before:]) == {"record", "cuGraphLaunch", "query"}
    close(worker)


def test_a_graph_is_captured_after_two_runs_and_launched_from_then_on(gpu):
    device = open_device(gpu)
    first = gpu.calls.index("cuStreamBeginCapture_v2")
    assert gpu.calls[:first].count("execute_async_v3") == 2
    assert gpu.calls[first : first + 6] == [
        "cuStreamBeginCapture_v2", "memcpy_htod_async", "execute_async_v3", "memcpy_dtoh_async", "memcpy_dtoh_async",
        "cuStreamEndCapture",
    ]  # fmt: skip
    assert all(lane.is_captured for lane in device.lanes.values())
    device.close()


@pytest.mark.parametrize(
    "call", ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphDestroy"]
)
def test_a_graph_that_cannot_be_captured_is_launched_plainly(gpu, call):
    gpu.fails_at = lambda name, number: name == call
    worker = open_worker(gpu)
    image = worker.engines().branches["image"]
    image.inputs["input"][...] = 7
    image.run()
    assert image.outputs["feature"].tolist() == [[8.0] * 4]
    assert "as a CUDA graph" not in worker.description
    close(worker)
    assert gpu.executables == gpu.graphs == {}
    assert "cuGraphLaunch" not in gpu.calls


@pytest.mark.parametrize("mode", MEMORY_MODES)
@pytest.mark.parametrize("as_graphs", [False, True])
def test_every_memory_mode_can_be_tried_with_and_without_cuda_graphs(gpu, mode, as_graphs):
    device = TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda))
    device.load(PLANS)
    device.place(mode, as_graphs)
    device.lanes["iq"].buffers["input"].array[...] = 5
    before = len(gpu.calls)
    device.run_all()
    assert gpu.calls[before:].count("cuGraphLaunch") == (len(ROLES) if as_graphs else 0)
    assert {lane.is_captured for lane in device.lanes.values()} == {as_graphs}
    assert device.lanes["iq"].buffers["feature"].array.tolist() == [[6.0] * 4]
    device.displace()
    assert gpu.executables == gpu.memory == {}
    device.close()
    assert gpu.alive == gpu.violations == []


def test_the_gpu_tells_how_much_memory_is_free(gpu):
    cuda = Cuda(gpu.driver, gpu.libcuda)
    cuda.open()
    assert cuda.memory_bytes() == (8 << 30, 8 << 30)
    cuda.close()


def test_the_fusion_head_waits_for_the_branches_on_the_gpu(gpu):
    device = open_device(gpu)
    for role in ("iq", "image"):
        device.lanes[role].buffers["input"].array[...] = 5
    before = len(gpu.calls)
    device.run_all()
    assert gpu.calls[before:].count("wait_for_event") == 2
    assert gpu.calls[before:].count("synchronize") == 1
    assert device.lanes["iq"].buffers["feature"].array.tolist() == [[6.0] * 4]
    assert device.lanes["image"].buffers["feature"].array.tolist() == [[6.0] * 4]
    device.close()


def test_a_branch_does_not_wait_for_another_one(gpu):
    device = TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda))
    worker = TrtWorker(device, PLANS, 20.0)
    engines, camera = worker.engines(), device.lanes["image"].stream.handle
    gpu.held.add(camera)
    frame = threading.Thread(target=engines.branches["image"].run)
    frame.start()
    engines.branches["iq"].run()
    assert frame.is_alive()
    gpu.held.discard(camera)
    frame.join(20.0)
    assert not frame.is_alive()
    close(worker)


def test_a_gpu_that_hangs_is_given_up(gpu):
    device = TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda))
    worker = TrtWorker(device, PLANS, 0.01)
    gpu.held.add(device.lanes["iq"].stream.handle)
    with pytest.raises(DeviceError, match=r"iq: no answer from the GPU within 0.01 s: look at dmesg"):
        worker.engines().branches["iq"].run()
    close(worker)


def test_after_it_was_given_back_nothing_runs(gpu):
    worker = open_worker(gpu)
    session = worker.engines().fusion
    close(worker)
    with pytest.raises(DeviceError, match="fusion: the GPU was given back"):
        session.run()


def live(gpu: Gpu) -> list[str]:
    """Load the plans, run one of them, release everything, and return all calls, in order."""
    worker = open_worker(gpu)
    try:
        worker.engines().fusion.run()
    finally:
        close(worker)
    return gpu.calls


def positions() -> list[tuple[str, int]]:
    """Return the first, the middle and the last time of every call, by its name."""
    places: dict[str, list[int]] = {}
    for number, call in enumerate(live(Gpu(MODELS))):
        places.setdefault(call, []).append(number)
    return [(call, at) for call, ats in places.items() for at in sorted({ats[0], ats[len(ats) // 2], ats[-1]})]


def failure_of(gpu: Gpu) -> str:
    """Return what a life ends with; nothing where it was a whole one."""
    try:
        live(gpu)
    except DeviceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("raises", [False, True])
def test_whichever_call_fails_once_the_device_flies_or_says_why_and_leaves_nothing(raises):
    found = positions()
    assert len({call for call, _ in found}) > 30
    for call, at in found:
        gpu = Gpu(MODELS, fails_at=lambda name, number, at=at: number == at, raises=raises)
        error = failure_of(gpu)
        assert error == "" or (call in error and error.count(": ") >= 2), (call, at)
        assert gpu.alive == [], (call, at)
        assert gpu.executables == gpu.graphs == gpu.memory == {}, (call, at)
        assert gpu.violations == [], (call, at)


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize(
    "call", ["record", "cuGraphLaunch", "query", "execute_async_v3", "memcpy_htod_async", "memcpy_dtoh_async"]
)
def test_whichever_call_fails_in_flight_every_branch_is_told(gpu, call, raises):
    if call in (
        "execute_async_v3",
        "memcpy_htod_async",
        "memcpy_dtoh_async",
    ):  # in flight without a CUDA graph alone, and pinned memory
        gpu.fails_at = lambda name, number: name in ("cuStreamBeginCapture_v2", "managed_empty", "get_device_pointer")
    worker, before, gpu.raises = open_worker(gpu), gpu.fails_at, raises
    gpu.fails_at = lambda name, number: name == call or before(name, number)
    for session in (*worker.engines().branches.values(), worker.engines().fusion):
        with pytest.raises(DeviceError, match=f"^{call} failed: "):
            session.run()
    close(worker)
    assert gpu.alive == gpu.violations == []


@pytest.mark.parametrize("at_start", [True, False])
def test_what_nobody_foresaw_is_told_and_ends_nothing(gpu, monkeypatch, at_start):
    def surprise(self):
        raise AttributeError("no such thing here")

    worker = None if at_start else open_worker(gpu)
    monkeypatch.setattr(trt.Lane, "enqueue", surprise)
    with pytest.raises(
        DeviceError, match=r"^unforeseen on the GPU: AttributeError\('no such thing here'\): report it$"
    ):
        open_worker(gpu) if worker is None else worker.engines().fusion.run()
    if worker is not None:
        close(worker)
    assert gpu.alive == []


def test_what_nobody_foresaw_at_the_release_keeps_nothing_else_from_it(gpu, monkeypatch):
    worker = open_worker(gpu)

    def surprise(self):
        raise AttributeError("no such thing here")

    monkeypatch.setattr(trt.Lane, "drain", surprise)
    close(worker)
    assert gpu.calls[-2:] == ["pop", "detach"]
    assert gpu.alive == []


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [
        ("cuMemAlloc failed: out of memory", "end other programs"),
        ("[allocator] OutOfMemory (Requested size was 12 bytes.)", "end other programs"),
        ("cuInit failed: no CUDA-capable device is detected", "with an NVIDIA GPU"),
        ("CUDA_ERROR_ILLEGAL_ADDRESS (700)", "until this process ends"),
        ("something else", "look at dmesg"),
    ],
)
def test_each_kind_of_failure_has_its_remedy(failure, remedy):
    assert str(device_error("call", failure)).startswith(f"call failed: {failure}: ")
    assert remedy in str(device_error("call", failure))

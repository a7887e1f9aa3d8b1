"""TensorRT on a real GPU: the answers of every precision in every way, a change of engines in flight, and the release.

Skipped where there is no NVIDIA GPU. `uav-edge selfcheck --device` measures the same, and writes a report of it.
"""

import json
import threading

import numpy as np
import pytest

from edge.backends.onnx import load_engines
from edge.backends.session import Engines
from edge.backends.swap import ONNX_RUNTIME, TENSORRT, HotSwap
from edge.backends.trt import Lane, TrtDevice
from edge.backends.worker import TrtWorker
from edge.cli import main
from edge.selfcheck.gpu import try_gpu
from edge.selfcheck.measuring import SAME_ANSWERS, measure
from edge.selfcheck.parity import parity_line
from models.bundle import FUSION

pytestmark = pytest.mark.gpu

PRECISIONS = ("fp32", "fp16", "int8")
PATIENCE_S = 60.0
NEAR = 1e-3
"""Of FP32 on another processor: see GOLDEN_TOLERANCE."""
MORE_THAN_ANY_GPU_BYTES = 1 << 48
LEFT_BYTES = 16 << 20
"""Other programs on the GPU take and give memory meanwhile, too; a leak of one cycle's plans is more."""


@pytest.fixture(scope="module")
def measured(gpu, plans_of, examples, expected):
    """Return what was measured of a precision, once for all tests."""
    found = {}

    def of(precision):
        if precision not in found:
            found[precision] = measure(gpu, plans_of(precision), examples, expected)
        return found[precision]

    return of


def opener(gpu, plans):
    """Return what loads plans into the GPU."""
    return lambda cancel: TrtWorker(TrtDevice(gpu.trt, gpu.cuda()), plans, PATIENCE_S, cancel)


def infer(engines: Engines, seed: int = 0) -> list[np.ndarray]:
    """Run every graph on random inputs, and return all outputs."""
    rng, found = np.random.default_rng(seed), []
    for session in (*engines.branches.values(), engines.fusion):
        for array in session.inputs.values():
            array[...] = rng.uniform(0, 1, array.shape)
        session.run()
        found += [array.copy() for array in session.outputs.values()]
    return found


def is_near(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(np.allclose(one, other, atol=NEAR) for one, other in zip(found, expected, strict=True))


def test_tensorrt_starts(gpu):
    assert [str(line) for line in try_gpu(gpu) if line.status == "failed"] == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_answers_as_fp32_does(measured, precision):
    parities = measured(precision).parities
    assert {one.role for one in parities} == {"iq", "image", FUSION}
    assert [str(parity_line(one)) for one in parities if parity_line(one).status == "failed"] == []


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_way_to_share_memory_gives_the_same_answers_with_and_without_cuda_graphs(measured, precision):
    for way in measured(precision).ways:
        assert way.failure == "", way.memory
        assert way.difference <= SAME_ANSWERS, (way.memory, way.cuda_graphs)
        assert len(way.captured) == (3 if way.cuda_graphs else 0), way.memory


@pytest.mark.parametrize("precision", PRECISIONS)
def test_events_time_every_graph_within_the_time_of_the_host(measured, precision):
    for way in measured(precision).ways:
        for role, timing in way.timings.items():
            assert role == "all" or 0 < timing.gpu_p50_ms <= timing.host_p50_ms


def test_engines_change_under_load_without_a_wrong_or_lost_answer(gpu, bundle, plans_of):
    swap = HotSwap(bundle, load_engines(bundle, "fp32"))
    expected = infer(load_engines(bundle, "fp32"))
    loading = threading.Thread(target=swap.load, args=(opener(gpu, plans_of("fp32")),))
    asked, right, after = 0, 0, 0
    loading.start()
    while after < 100 and (loading.is_alive() or swap.flying.backend == TENSORRT):
        asked, right = asked + 1, right + is_near(infer(swap.engines), expected)
        after += swap.flying.backend == TENSORRT
    loading.join(PATIENCE_S)
    assert (swap.flying.backend, after) == (TENSORRT, 100)
    assert right == asked
    swap.close()


def test_a_real_lack_of_memory_in_flight_is_named_and_onnx_runtime_answers_at_once(gpu, bundle, plans_of, monkeypatch):
    swap = HotSwap(bundle, load_engines(bundle, "fp32"))
    expected = infer(swap.engines)
    swap.load(opener(gpu, plans_of("fp32")))
    assert is_near(infer(swap.engines), expected)

    def enqueue(lane):
        lane._cuda.call(gpu.pycuda.mem_alloc, MORE_THAN_ANY_GPU_BYTES)

    monkeypatch.setattr(Lane, "enqueue", enqueue)
    assert is_near(infer(swap.engines), expected)
    assert swap.flying.backend == ONNX_RUNTIME
    assert swap.flying.reason.startswith("mem_alloc failed: ")
    assert "end other programs" in swap.flying.reason
    swap.close()


def test_a_release_leaves_no_memory(gpu, bundle, plans_of):
    cuda = gpu.cuda()
    cuda.open()  # the context stays, and with it what the driver keeps for it
    try:
        free_bytes = []
        for _ in range(4):
            worker = opener(gpu, plans_of("fp32"))(None)
            infer(worker.engines())
            worker.close(PATIENCE_S)
            free_bytes.append(cuda.memory_bytes()[0])
    finally:
        cuda.close()
    assert free_bytes[1] - free_bytes[-1] <= LEFT_BYTES  # the first cycle loads kernels, which the driver keeps


def test_the_selfcheck_of_this_device_passes(gpu, bundle, plans_of, plan_folder, tmp_path, monkeypatch):
    for precision in PRECISIONS:
        plans_of(precision)
    arguments = ["--bundle", str(bundle.path), "--plans", str(plan_folder), "--seconds", "3", "--out", str(tmp_path)]
    code = main(["selfcheck", "--device", *arguments])
    document = json.loads((tmp_path / "selfcheck.json").read_text())
    assert [line for line in document["lines"] if line["status"] == "failed"] == []
    assert code == 0

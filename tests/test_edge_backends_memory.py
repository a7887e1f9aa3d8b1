"""How host and GPU share memory, on a fake GPU: which ways there are, which is taken, what measuring them counts."""

import numpy as np
import pytest
from fake_gpu import Gpu
from test_edge_backends_trt import MODELS, PATIENCE_S, PLANS, clock_that_favours, close, open_device, open_worker

from edge.backends import trt
from edge.backends.cuda import MEMORY_MODES, Cuda
from edge.backends.trt import TrtDevice
from edge.backends.worker import TrtWorker


@pytest.fixture(autouse=True)
def few_runs(monkeypatch):
    monkeypatch.setattr(trt, "TIMED_RUNS", 2)


@pytest.fixture
def gpu():
    return Gpu(MODELS)


@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_memory_is_shared_in_the_way_that_was_fastest(gpu, mode):
    device = open_device(gpu, mode)
    assert device.mode == mode
    assert device.times_ms == {one: 1.0 if one == mode else 9.0 for one in MEMORY_MODES}
    copies = {
        lane.role: [one.allocation is not None for one in lane.buffers.values()] for lane in device.lanes.values()
    }
    assert all(set(one) == {mode == "pinned"} for one in copies.values())
    assert f"{mode} memory" in device.describe()
    device.close()


class Bandwidth:
    """A clock that goes on by 1 us with each byte that is copied by NumPy, which is how the fake's GPU copies, too."""

    def __init__(self):
        self.now_ns = 0
        self._copyto = np.copyto

    def __call__(self):
        return self.now_ns

    def copyto(self, target, source, **options):
        self.now_ns += 1000 * source.nbytes
        self._copyto(target, source, **options)


def test_the_measurement_counts_what_the_host_writes_and_reads_for_a_frame(gpu, monkeypatch):
    bandwidth = Bandwidth()
    monkeypatch.setattr(np, "copyto", bandwidth.copyto)
    device = TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda), bandwidth)
    device.open(PLANS)
    written = sum(buffer.array.nbytes for lane in device.lanes.values() for buffer in lane.inputs.values())
    read = sum(buffer.array.nbytes for lane in device.lanes.values() for buffer in lane.outputs.values())
    assert device.times_ms["mapped"] == pytest.approx((written + read) / 1000)
    assert device.times_ms["pinned"] == pytest.approx((2 * written + read) / 1000)  # the fake's download is no copyto
    assert device.times_ms["managed"] == pytest.approx((2 * written + read) / 1000)  # by way of the host's own memory
    device.close()


@pytest.mark.parametrize("call", ["managed_empty", "attach", "mem_alloc"])
def test_a_way_to_share_memory_that_the_gpu_lacks_is_left_out(gpu, call):
    gpu.fails_at = lambda name, number: name == call
    worker = open_worker(gpu)
    missing = "pinned" if call == "mem_alloc" else "managed"
    assert missing not in worker.description
    assert "mapped" in worker.description
    close(worker)
    assert gpu.alive == gpu.violations == []


@pytest.mark.parametrize("mode", MEMORY_MODES)
def test_inputs_can_be_read_while_the_gpu_is_at_work(gpu, mode):
    device = TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda), clock_that_favours(mode))
    worker = TrtWorker(device, PLANS, PATIENCE_S)
    shared = [buffer.array for lane in device.lanes.values() for buffer in lane.buffers.values()]
    for session in (*worker.engines().branches.values(), worker.engines().fusion):
        for array in session.inputs.values():
            assert any(np.shares_memory(array, one) for one in shared) == (mode != "managed")
    del shared, session, array
    close(worker)
    assert gpu.alive == gpu.violations == []

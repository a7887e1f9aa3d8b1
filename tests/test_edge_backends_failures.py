"""Each call that a flight makes of CUDA and TensorRT fails: no answer is lost or wrong, and the reason is told.

A call fails once, and then, as after an illegal access on a real GPU, with all that follow it; or it never returns.
"""

import threading

import numpy as np
import pytest
from fake_gpu import Gpu
from fake_tensorrt import ICudaEngine, IExecutionContext, Model
from test_edge_backends_trt import MODELS, PATIENCE_S, PLANS, ROLES

from edge.backends import swap as swap_module
from edge.backends import trt
from edge.backends.cuda import Cuda
from edge.backends.session import Engines
from edge.backends.swap import HotSwap
from edge.backends.trt import TrtDevice
from edge.backends.worker import RUN_TIMEOUT_S, TrtWorker
from models.bundle import FUSION

FLOWN = 3
"""Inferences of each graph in a life."""
IN_FLIGHT = ("record", "cuGraphLaunch", "query")


class Own:
    """Stands in for ONNX Runtime: computes a model at once."""

    def __init__(self, model: Model):
        self._compute = model.compute
        self.inputs, self.outputs = (
            {
                name: np.zeros(shape, np.uint8 if kind == "UINT8" else np.float32)
                for name, (shape, kind) in ports.items()
            }
            for ports in (model.inputs, model.outputs)
        )

    def run(self):
        for name, value in self._compute(self.inputs).items():
            self.outputs[name][...] = value
        return True


class Life:
    """A flight from its start on ONNX Runtime to its end, on a GPU that may fail."""

    def __init__(self, gpu: Gpu):
        self.gpu = gpu
        sessions = {role: Own(MODELS[f"{role} plan".encode()]) for role in ROLES}
        branches = {role: session for role, session in sessions.items() if role != FUSION}
        own = Engines(branches=branches, fusion=sessions[FUSION], precisions=PLANS.precisions)
        self.swap = HotSwap(None, own)
        self.answers: list[list[float]] = []
        self.worker: TrtWorker | None = None

    def load(self) -> None:
        self.swap.load_in_background(self._open)
        self.swap._loader.join(PATIENCE_S)

    def _open(self, cancel):
        gpu = self.gpu
        device = TrtDevice(gpu.tensorrt, Cuda(gpu.driver, gpu.libcuda), lambda: 0)  # all kinds of memory are as fast
        self.worker = TrtWorker(device, PLANS, PATIENCE_S, cancel)
        return self.worker

    def fly(self) -> None:
        for n in range(FLOWN):
            self.answers += ask(self.swap.engines, n)

    def run(self) -> "Life":
        self.load()
        self.fly()
        self.swap.close()
        return self


def ask(engines: Engines, n: int = 0) -> list[list[float]]:
    """Run every graph once, and return what each says."""
    said = []
    for session in (*engines.branches.values(), engines.fusion):
        for array in session.inputs.values():
            array[...] = n + 1
        assert session.run()
        said += [array.ravel().tolist() for array in session.outputs.values()]
    return said


@pytest.fixture(autouse=True)
def short_life(monkeypatch):
    monkeypatch.setattr(trt, "TIMED_RUNS", 1)
    monkeypatch.setattr(swap_module, "_RELEASE_S", PATIENCE_S)
    monkeypatch.setattr(swap_module, "check_golden", lambda bundle, engines: ask(engines))
    monkeypatch.setattr(swap_module, "check_fusion", lambda bundle, engine: None)


@pytest.fixture
def sound() -> Life:
    """Return a life in which nothing fails, with the number of calls until it flew and until it was to end."""
    life = Life(Gpu(MODELS))
    life.load()
    life.loaded = len(life.gpu.calls)
    life.fly()
    life.flown = len(life.gpu.calls)
    life.swap.close()
    assert life.swap.flying.backend == "tensorrt"
    assert len(set(life.gpu.calls)) > 30
    assert set(life.gpu.calls[life.loaded : life.flown]) == set(IN_FLIGHT)
    return life


def assert_survived(life: Life, sound: Life, at: int) -> None:
    call, flying, gpu = sound.gpu.calls[at], life.swap.flying, life.gpu
    assert life.answers == sound.answers, (call, at)
    if sound.loaded <= at < sound.flown:
        assert flying.backend == "onnxruntime", (call, at)
    if flying.backend == "onnxruntime":
        assert call in flying.reason, (call, at)
        assert flying.reason.count(": ") >= 2, (call, at)
    assert gpu.alive == gpu.violations == [], (call, at)
    assert gpu.executables == gpu.graphs == gpu.memory == {}, (call, at)


def some_of_each(calls: list[str]) -> set[int]:
    """Return where each call is made for the first time, in the middle, and for the last time."""
    places: dict[str, list[int]] = {}
    for at, call in enumerate(calls):
        places.setdefault(call, []).append(at)
    return {at for ats in places.values() for at in (ats[0], ats[len(ats) // 2], ats[-1])}


def assert_all_survived(sound: Life, places, is_lasting: bool) -> None:
    for at in places:
        gpu = Gpu(MODELS, fails_at=lambda _, number, at=at: number >= at if is_lasting else number == at)
        assert_survived(Life(gpu).run(), sound, at)


@pytest.mark.parametrize("is_lasting", [False, True])
def test_whichever_call_fails_no_answer_is_lost_and_the_reason_is_told(sound, is_lasting):
    places = some_of_each(sound.gpu.calls[: sound.loaded]) | set(range(sound.loaded, len(sound.gpu.calls)))
    assert_all_survived(sound, sorted(places), is_lasting)


@pytest.mark.slow
@pytest.mark.parametrize("is_lasting", [False, True])
def test_whenever_a_call_fails_no_answer_is_lost_and_the_reason_is_told(sound, is_lasting):
    assert_all_survived(sound, range(len(sound.gpu.calls)), is_lasting)


def test_whichever_call_of_tensorrt_raises_instead_of_answering_no_answer_is_lost(sound):
    ours = {name for kind in (ICudaEngine, IExecutionContext) for name in vars(kind)}
    places = [at for at, call in enumerate(sound.gpu.calls) if call in ours | {"Runtime", "deserialize_cuda_engine"}]
    assert len(places) > 50
    for at in places:
        gpu = Gpu(MODELS, fails_at=lambda _, number, at=at: number >= at, raises=True)
        assert_survived(Life(gpu).run(), sound, at)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("call", IN_FLIGHT)
def test_a_call_that_never_returns_costs_one_waiting_time_and_no_answer(sound, call, role):
    assert RUN_TIMEOUT_S <= 0.5  # of the second within which ONNX Runtime is to answer
    life, may_return = Life(Gpu(MODELS)), threading.Event()
    life.load()
    ask(life.swap.engines)
    life.worker._run_timeout_s = 0.05
    life.gpu.fails_at = lambda name, number: name == call and not may_return.wait(PATIENCE_S)
    life.fly()
    assert life.answers == sound.answers
    assert life.swap.flying.backend == "onnxruntime"
    assert "no answer from the GPU within 0.05 s" in life.swap.flying.reason
    may_return.set()
    life.swap.close()
    assert life.gpu.alive == life.gpu.violations == []

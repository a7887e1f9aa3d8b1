"""Engines that change while a pipeline flies on real sockets: every message and every answer is accounted for."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import Gpu
from fake_tensorrt import onnx_model
from test_edge_backends_swap import ROLES, opener
from test_edge_live import CONTENTS, PATIENCE_S, Rig, is_fused

from edge.backends import planned, swap, trt, worker
from edge.backends.swap import LOADER
from edge.backends.worker import THREAD
from edge.commands.pipeline import after_crash, end_without_gpu, start
from edge.config import FlightConfig, PipelineConfig, StreamConfig
from edge.pipeline.live import LivePipeline
from edge.sources.synthetic import SiteGenerator
from edge.transport.messages import Classification, Kind, PipelineStatus, unpack
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import decode_message, encode_array
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import DeviceError


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


@pytest.fixture
def gpu(bundle: Bundle, monkeypatch) -> Gpu:
    monkeypatch.setattr(trt, "TIMED_RUNS", 1)
    monkeypatch.setattr(swap, "_RELEASE_S", PATIENCE_S)
    return Gpu({bundle.graph(role): onnx_model(bundle.graph(role)) for role in ROLES})


@pytest.fixture
def may_load() -> threading.Event:
    """Return what the plans wait for before they are loaded."""
    return threading.Event()


def deployment(folder: Path, **keys) -> FlightConfig:
    return FlightConfig(
        bundle="unused",
        streams={
            "radio": StreamConfig(modality="iq", endpoint=f"ipc://{folder}/radio", rate_hz=100.0),
            "camera": StreamConfig(modality="image", endpoint=f"ipc://{folder}/camera", rate_hz=30.0),
        },
        results=f"ipc://{folder}/results",
        pose=f"ipc://{folder}/pose",
        **keys,
    )


@pytest.fixture
def rig(tmp_path: Path, bundle: Bundle, gpu: Gpu, may_load: threading.Event) -> Iterator[Rig]:
    def open_late(cancel):
        may_load.wait(PATIENCE_S)
        return opener(gpu, bundle)(cancel)

    patient = PipelineConfig(max_age_ms=PATIENCE_S * 1000)  # what a busy machine keeps waiting is not dropped as late
    config = deployment(tmp_path, pipeline=patient)
    publishers = [Publisher(f"ipc://{tmp_path}/{name}") for name in ("radio", "camera", "pose")]
    pipeline = LivePipeline(config, bundle, open_accelerator=open_late)
    results, generator, rng = Subscriber(config.results), SiteGenerator(), np.random.default_rng(0)
    pipeline.start()
    assert all(publisher.wait_for_listeners(1, PATIENCE_S) for publisher in publishers)
    windows = [generator.radio(n, rng) for n in range(CONTENTS)]
    yield Rig(pipeline, *publishers, results, windows, [generator.scene(n, rng) for n in range(CONTENTS)])
    pipeline.stop()
    for socket in (*publishers, results):
        socket.close()


def test_a_flight_changes_to_tensorrt_and_back_without_losing_an_answer(rig, gpu, may_load):
    answers = rig.feed_until(is_fused)
    assert rig.pipeline.status().backend == "onnxruntime"
    may_load.set()
    answers += rig.feed_until(lambda answer: rig.pipeline.status().backend == "tensorrt")
    launches = gpu.calls.count("cuGraphLaunch")
    answers += rig.feed_until(lambda answer: gpu.calls.count("cuGraphLaunch") > launches + 30)
    gpu.fails_at = lambda call, number: call == "cuGraphLaunch"
    answers += rig.feed_until(lambda answer: rig.pipeline.status().backend == "onnxruntime")
    last = answers[-1].sequence
    answers += rig.feed_until(lambda answer: answer.sequence > last + 10)
    status = rig.pipeline.stop()
    sequences = [answer.sequence for answer in answers]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert all(answer.has_answer for answer in answers if answer.sequence > sequences[0])
    assert status.backend_reason.startswith("cuGraphLaunch failed: ")
    for stream in status.streams.values():
        assert stream.balanced
        assert stream.rejected == {}
        assert stream.processed + stream.superseded == stream.received
    assert gpu.alive == gpu.violations == []


def answer_to_a_frame(rig: Rig) -> Classification:
    """Send a window and a frame, and wait for the answer that is made of this frame, and until nothing is under way."""
    rig.send_window()
    stamp, frame = rig.stamp(), rig.frames[rig.sent % CONTENTS].copy()
    frame[0, 0] = rig.sent % 256
    rig.camera.send(encode_array(Kind.FRAME, stamp, frame))
    deadline_s, found = time.monotonic() + PATIENCE_S, None
    while found is None or any(one.in_flight for one in rig.pipeline.status().streams.values()):
        assert time.monotonic() < deadline_s, (found, rig.pipeline.status())
        answer = rig.answer()
        if answer is not None and answer.modalities[1].capture_ns == stamp.capture_ns:
            found = answer
    return found


def test_every_frame_is_answered_before_the_next_one_while_engines_change(rig, gpu, may_load):
    """So that no gap in the answers is longer than a camera period, however long that is."""
    answers = [answer_to_a_frame(rig) for _ in range(5)]
    may_load.set()
    while rig.pipeline.status().backend == "onnxruntime":
        answers.append(answer_to_a_frame(rig))
    launches = gpu.calls.count("cuGraphLaunch")
    answers += [answer_to_a_frame(rig) for _ in range(5)]
    assert gpu.calls.count("cuGraphLaunch") >= launches + 2 * 5
    gpu.fails_at = lambda call, number: call == "cuGraphLaunch"
    answers += [answer_to_a_frame(rig) for _ in range(5)]
    status = rig.pipeline.stop()
    assert status.backend_reason.startswith("cuGraphLaunch failed: ")
    assert all(answer.has_answer for answer in answers)
    camera = status.streams["camera"]
    assert (camera.received, camera.processed, camera.superseded) == (len(answers), len(answers), 0)


def test_answers_keep_coming_while_plans_are_being_loaded(rig, may_load):
    first = rig.feed_until(is_fused)[-1].sequence
    rig.feed_until(lambda answer: answer.sequence > first + 10)
    assert not may_load.is_set()
    assert rig.pipeline.status().backend == "onnxruntime"
    may_load.set()


def test_the_end_of_a_flight_releases_the_gpu(rig, gpu, may_load):
    may_load.set()
    rig.feed_until(lambda answer: rig.pipeline.status().backend == "tensorrt")
    status = rig.pipeline.stop()
    assert "TensorRT 10.3.0 on Fake GPU" in status.backend_reason
    assert gpu.calls[-2:] == ["pop", "detach"]
    assert gpu.alive == gpu.violations == []


def test_the_last_status_is_out_before_the_gpu_is_waited_for(rig, may_load, monkeypatch):
    may_load.set()
    rig.feed_until(lambda answer: rig.pipeline.status().backend == "tensorrt")
    close, heard = rig.pipeline._swap.close, []

    def close_slowly():
        while rig.pipeline._final not in heard:
            parts = rig.results.receive(int(PATIENCE_S * 1000))
            assert parts is not None
            header, payload = decode_message(parts)
            heard.extend([unpack(payload, PipelineStatus)] if header.kind == Kind.STATUS else [])
        close()

    monkeypatch.setattr(rig.pipeline._swap, "close", close_slowly)
    assert rig.pipeline.stop() == heard[-1]


@pytest.fixture
def no_tensorrt(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)


@pytest.mark.usefixtures("no_tensorrt")
def test_a_deployment_that_insists_on_tensorrt_does_not_start_without_it(tmp_path, bundle):
    config = deployment(tmp_path, plans=str(tmp_path / "plans"), pipeline=PipelineConfig(backend="tensorrt"))
    pipeline = LivePipeline(config, bundle)
    with pytest.raises(DeviceError, match=r"expected TensorRT, found none .*JetPack"):
        pipeline.start()
    pipeline.stop()


def test_a_deployment_that_insists_on_tensorrt_ends_with_a_message_whatever_is_wrong(tmp_path, bundle, monkeypatch):
    def surprise():
        raise AttributeError("no such thing here")

    monkeypatch.setattr(planned, "load_tensorrt", surprise)
    config = deployment(tmp_path, plans=str(tmp_path / "plans"), pipeline=PipelineConfig(backend="tensorrt"))
    pipeline = LivePipeline(config, bundle)
    with pytest.raises(DeviceError, match=r"^unforeseen: AttributeError\('no such thing here'\): report it$") as ended:
        pipeline.start()
    assert ended.value.exit_code == 4
    pipeline.stop()


@pytest.mark.parametrize(("name", "codes"), [(THREAD, [0]), (LOADER, [0]), ("another", [])])
def test_a_process_whose_gpu_hangs_ends_without_waiting_for_python(monkeypatch, name, codes):
    found, may_end = [], threading.Event()
    monkeypatch.setattr("os._exit", found.append)
    monkeypatch.setattr("logging.shutdown", lambda: None)
    hanging = threading.Thread(target=may_end.wait, name=name, daemon=True)
    hanging.start()
    end_without_gpu()
    may_end.set()
    hanging.join()
    assert found == codes


def test_a_start_on_a_gpu_that_hangs_ends_with_the_code_of_the_device(tmp_path, bundle, gpu, monkeypatch, caplog):
    found, may_go_on = [], threading.Event()
    monkeypatch.setattr("os._exit", found.append)
    monkeypatch.setattr("logging.shutdown", lambda: None)
    monkeypatch.setattr(worker, "OPEN_TIMEOUT_S", 0.01)
    gpu.fails_at = lambda call, number: call == "deserialize_cuda_engine" and not may_go_on.wait(PATIENCE_S)
    config = deployment(tmp_path, plans=str(tmp_path / "plans"), pipeline=PipelineConfig(backend="tensorrt"))
    pipeline = LivePipeline(config, bundle, open_accelerator=opener(gpu, bundle))
    with pytest.raises(DeviceError, match="the GPU was not ready within"):  # where the process goes on in a test
        start(pipeline)
    assert found == [4]
    assert "the process ends without it: the GPU was not ready within 0.01 s" in caplog.text
    may_go_on.set()
    pipeline.stop()
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(PATIENCE_S)
    assert gpu.alive == gpu.violations == []


def test_a_deployment_that_wants_onnx_runtime_never_asks_for_another(tmp_path, bundle):
    def never(cancel):
        raise AssertionError("asked")

    config = deployment(tmp_path, pipeline=PipelineConfig(backend="onnxruntime"))
    pipeline = LivePipeline(config, bundle, open_accelerator=never)
    pipeline.start()
    status = pipeline.stop()
    assert (status.backend, status.backend_reason) == ("onnxruntime", "")


@pytest.mark.parametrize("backend", ["auto", "tensorrt"])
def test_after_a_crash_a_flight_leaves_the_gpu_alone_and_says_why(tmp_path, bundle, backend):
    config = deployment(tmp_path, plans=str(tmp_path / "plans"), pipeline=PipelineConfig(backend=backend))
    pipeline = LivePipeline(*after_crash(config, bundle))
    pipeline.start()
    pipeline._swap._loader.join(PATIENCE_S)
    status = pipeline.stop()
    assert status.backend == "onnxruntime"
    assert status.backend_reason.startswith("the pipeline's process crashed while TensorRT was to fly")


def test_after_a_crash_a_flight_without_plans_has_nothing_to_say(tmp_path, bundle):
    config = deployment(tmp_path)
    assert after_crash(config, bundle) == (config, bundle)


@pytest.mark.usefixtures("no_tensorrt")
def test_a_deployment_with_plans_but_no_tensorrt_flies_on_onnx_runtime_and_says_why(tmp_path, bundle):
    pipeline = LivePipeline(deployment(tmp_path, plans=str(tmp_path / "plans")), bundle)
    pipeline.start()
    pipeline._swap._loader.join(PATIENCE_S)
    status = pipeline.stop()
    assert status.backend == "onnxruntime"
    assert status.backend_reason.startswith("expected TensorRT, found none")

"""From message to answer, over and over: no memory grows, and nothing as large as a message is made on the way."""

import gc
import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.backends.onnx import load_engines
from edge.clock import VirtualClock
from edge.config import FlightConfig, PipelineConfig, StreamConfig
from edge.pipeline.answer import FusionHead
from edge.pipeline.branch import Branch
from edge.pipeline.lane import Lane
from edge.pipeline.live import LivePipeline
from edge.pipeline.scheduler import Scheduler
from edge.pipeline.shedding import open_shedder
from edge.transport.messages import Kind, pack
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import Reason, Stamp, decode_header, decode_message, encode_array
from models.bundle import open_bundle, shipped_bundle

pytest.importorskip("cv2", reason="frames are resized by OpenCV: pip install 'uav-fusion-edge[camera]'")

STREAMS = {
    "radio": StreamConfig(modality="iq", endpoint="ipc:///unused/radio", rate_hz=100.0),
    "camera": StreamConfig(modality="image", endpoint="ipc:///unused/camera", rate_hz=30.0),
}
PERIOD_NS = 10_000_000
PATIENCE_S = 30.0
WARM_UP = 200
MESSAGES = 10_000
LIVE_MESSAGES = 2_500
CAMERA_EVERY = 8
GROWTH_BYTES = 96 << 10
"""Ten bytes a message: less than the smallest object that could be forgotten for each. NumPy 1 fills 60 kB of stores
in the first three thousand messages, and no more after that."""
LIVE_GROWTH_BYTES = 128 << 10
"""Of 2,500 messages with sockets and threads: 106 kB were seen on a busy machine; an object for each would be more."""
PEAK_BYTES = 40_000
"""Of all that a message needs at once; an I/Q message here has 40 kB, a network's input 48 kB, a frame 920 kB."""


def contents() -> dict[str, list[NDArray[Any]]]:
    """Return different messages of each stream: the same again and again would be called frozen."""
    rng = np.random.default_rng(0)
    return {
        "radio": [rng.normal(0, 2000, (10_000, 2)).astype(np.int16) for _ in range(4)],
        "camera": [rng.integers(0, 200 + n, (480, 640, 3), np.uint8) for n in range(4)],
    }


class Flight:
    """The pipeline's own parts in one thread, as the receiver and engine threads use them."""

    def __init__(self) -> None:
        bundle = open_bundle(shipped_bundle())
        engines = load_engines(bundle)
        self.clock = VirtualClock(1_000_000_000)
        self.head = FusionHead(bundle.manifest, engines.fusion, self.clock, 300.0)
        self.branches = {
            name: Branch(bundle.spec.modality(stream.modality), engines.branches[stream.modality], self.clock, stream)
            for name, stream in STREAMS.items()
        }
        config, start_ns = PipelineConfig(), self.clock.now_ns()
        shedder = open_shedder(bundle.spec.modalities, STREAMS, config, start_ns)
        self.scheduler = Scheduler(bundle.spec.modality_names, STREAMS, config, start_ns, shedder)
        self.answers = 0
        self.contents = contents()

    def fly(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            self.clock.advance_to(self.clock.now_ns() + PERIOD_NS)
            self.pass_on("radio", number)
            if number % CAMERA_EVERY == 0:
                self.pass_on("camera", number // CAMERA_EVERY)
            assert self.scheduler.tick(self.clock.now_ns()) is None

    def pass_on(self, stream: str, number: int) -> None:
        now_ns = self.clock.now_ns()
        kind = Kind.IQ if stream == "radio" else Kind.FRAME
        content = self.contents[stream][number % 4]
        parts = encode_array(kind, Stamp(1, 1, number, now_ns - PERIOD_NS, now_ns, 0, 1e6), content)
        self.scheduler.receive(stream, self.branches[stream].admit(decode_message(parts)), now_ns)
        arrival = self.scheduler.take(STREAMS[stream].modality, now_ns)
        pairing = self.scheduler.complete(stream, self.branches[stream].process(arrival), now_ns)
        answer = self.head.answer(pairing) if pairing is not None else None
        self.answers += answer is not None
        if answer is not None:
            pack(answer)


class LiveFlight:
    """The pipeline as it flies, threads and sockets and all, with its sensors and a listener in the same process."""

    def __init__(self, folder: Path) -> None:
        streams = {
            name: StreamConfig(modality=stream.modality, endpoint=f"ipc://{folder}/{name}", rate_hz=100.0)
            for name, stream in STREAMS.items()
        }
        bundle = open_bundle(shipped_bundle())
        results = f"ipc://{folder}/results"
        config = FlightConfig(bundle=str(bundle.path), streams=streams, results=results)
        self.pipeline = LivePipeline(config, bundle)
        self.publishers = {name: Publisher(stream.endpoint) for name, stream in streams.items()}
        self.results = Subscriber(results)
        self.contents = contents()
        self.answers = 0
        self.pipeline.start()
        for publisher in self.publishers.values():
            assert publisher.wait_for_listeners(1, PATIENCE_S)

    def fly(self, numbers: Iterator[int]) -> None:
        """Send a message of each stream and wait for the frame's answer, again and again."""
        for number in numbers:
            self.send("radio", Kind.IQ, number)
            sent_ns = self.send("camera", Kind.FRAME, number)
            while self.heard_ns() < sent_ns:
                pass
            self.answers += 1

    def send(self, stream: str, kind: Kind, number: int) -> int:
        now_ns = time.monotonic_ns()
        stamp = Stamp(1, 1, number, now_ns, now_ns, 0, 1e6 if kind == Kind.IQ else 0.0)
        self.publishers[stream].send(encode_array(kind, stamp, self.contents[stream][number % 4]), keep=True)
        return now_ns

    def heard_ns(self) -> int:
        """Return the capture time of the next answer, -1 for other messages."""
        parts = self.results.receive(round(PATIENCE_S * 1000))
        assert parts is not None, self.pipeline.status().streams
        header = decode_header(parts[0])
        assert not isinstance(header, Reason), header
        return header.capture_ns if header.kind == Kind.CLASSIFICATION else -1

    def close(self) -> None:
        self.pipeline.stop()
        self.results.close()
        for publisher in self.publishers.values():
            publisher.close()


def traced(fly: Callable[[Iterator[int]], None], messages: int, at_once: int) -> tuple[int, list[int]]:
    """Fly while memory is traced.

    Returns:
        by how much it grows over so many messages, in bytes; what each `at_once` of them need beyond what stays.
    """
    numbers = iter(range(2 * WARM_UP + messages))
    fly(itertools.islice(numbers, WARM_UP))
    gc.collect()
    tracemalloc.start()
    peaks = []
    try:
        fly(itertools.islice(numbers, WARM_UP))
        gc.collect()  # Python keeps small objects that were freed for the next of their kind; this empties its stores
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(messages // at_once):
            tracemalloc.reset_peak()
            fly(itertools.islice(numbers, at_once))
            stored, peak = tracemalloc.get_traced_memory()
            peaks.append(peak - stored)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before, peaks


@pytest.mark.slow
def test_ten_thousand_messages_leave_no_memory_behind_and_need_less_than_one_of_them_at_once():
    flight = Flight()
    growth, peaks = traced(flight.fly, MESSAGES, 100)
    assert flight.answers == 1 + (2 * WARM_UP + MESSAGES) // CAMERA_EVERY  # the first of the radio, before a frame came
    assert growth < GROWTH_BYTES
    assert max(peaks) < PEAK_BYTES


def leave_it_to_the_lane(monkeypatch) -> None:
    serve = Lane.serve
    monkeypatch.setattr(Lane, "serve", lambda lane, spare_ns, catch_up: serve(lane, 0, catch_up))


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [lambda monkeypatch: None, leave_it_to_the_lane], ids=["receivers", "lanes"])
def test_so_it_is_from_socket_to_socket_whichever_thread_infers(tmp_path, monkeypatch, prepare):
    prepare(monkeypatch)
    flight = LiveFlight(tmp_path)
    try:
        growth, peaks = traced(flight.fly, LIVE_MESSAGES, 4)  # of either stream
    finally:
        flight.close()
    assert flight.answers == 2 * WARM_UP + LIVE_MESSAGES
    assert growth < LIVE_GROWTH_BYTES
    assert np.percentile(peaks, 90) < PEAK_BYTES  # status and trace, once a second, are as long as they are

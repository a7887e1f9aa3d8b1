"""From message to answer, over and over: no memory grows, and nothing as large as a message is made on the way."""

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from edge.backends.onnx import load_engines
from edge.clock import VirtualClock
from edge.config import PipelineConfig, StreamConfig
from edge.pipeline.answer import FusionHead
from edge.pipeline.branch import Branch
from edge.pipeline.scheduler import Scheduler
from edge.pipeline.shedding import open_shedder
from edge.transport.messages import Kind, pack
from edge.transport.wire import Stamp, decode_message, encode_array
from models.bundle import open_bundle, shipped_bundle

pytest.importorskip("cv2", reason="frames are resized by OpenCV: pip install 'uav-fusion-edge[camera]'")

STREAMS = {
    "radio": StreamConfig(modality="iq", endpoint="ipc:///unused/radio", rate_hz=100.0),
    "camera": StreamConfig(modality="image", endpoint="ipc:///unused/camera", rate_hz=30.0),
}
PERIOD_NS = 10_000_000
WARM_UP = 200
MESSAGES = 10_000
CAMERA_EVERY = 8
GROWTH_BYTES = 96 << 10
"""Ten bytes a message: less than the smallest object that could be forgotten for each. NumPy 1 fills 60 kB of stores
in the first three thousand messages, and no more after that."""
PEAK_BYTES = 40_000
"""Of all that a message needs at once; an I/Q message here has 40 kB, a network's input 48 kB, a frame 920 kB."""


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
        rng = np.random.default_rng(0)
        self.contents = {
            "radio": [rng.normal(0, 2000, (10_000, 2)).astype(np.int16) for _ in range(4)],
            "camera": [rng.integers(0, 200 + n, (480, 640, 3), np.uint8) for n in range(4)],
        }

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


def test_ten_thousand_messages_leave_no_memory_behind_and_need_less_than_one_of_them_at_once():
    flight = Flight()
    numbers = iter(range(2 * WARM_UP + MESSAGES))
    flight.fly(next(numbers) for _ in range(WARM_UP))
    answered = flight.answers
    gc.collect()
    tracemalloc.start()
    try:
        flight.fly(next(numbers) for _ in range(WARM_UP))
        gc.collect()  # Python keeps small objects that were freed for the next of their kind; this empties its stores
        before, _ = tracemalloc.get_traced_memory()
        flight.fly(numbers)
        stored, peak = tracemalloc.get_traced_memory()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert flight.answers - answered == (MESSAGES + WARM_UP) // CAMERA_EVERY
    assert after - before < GROWTH_BYTES
    assert peak - stored < PEAK_BYTES

"""A live pipeline on real sockets with any number of sources, whose messages can be made wrong one by one."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge.config import FlightConfig, PipelineConfig, StreamConfig
from edge.pipeline.live import LivePipeline
from edge.sources.synthetic import SiteGenerator
from edge.transport.messages import Classification, Kind, PipelineStatus, StreamAccounting, unpack
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import Stamp, decode_message, encode_array
from models.bundle import open_bundle, shipped_bundle

PATIENCE_S = 20.0
LOST_AFTER_S = 0.2
CONTENTS = 8
"""Different windows and frames, sent in turn: the same again and again would be called frozen."""
RATES_HZ = {"iq": 100.0, "image": 30.0}
SAMPLE_RATE_HZ = 1_000_000.0
WINDOW_SAMPLES = 4096
MAX_AGE_MS = 300.0

Parts = tuple[Any, Any]


@dataclasses.dataclass
class Source:
    """One sensor, and how it stamps its messages."""

    endpoint: str
    modality: str
    contents: list[np.ndarray]
    stream_id: int
    epoch: int = 1
    sequence: int = 0
    sent: int = 0
    publisher: Publisher | None = None

    def open(self) -> None:
        self.publisher = Publisher(self.endpoint)
        assert self.publisher.wait_for_listeners(1, PATIENCE_S)

    def restart(self) -> None:
        """End, and begin anew at the same endpoint, as a process does that was killed."""
        self.publisher.close()
        self.epoch, self.sequence = self.epoch + 1, 0
        self.open()

    def stamp(self, later_ns: int = 0, sample_rate_hz: float = 0.0) -> Stamp:
        self.sequence = (self.sequence + 1) & 0xFFFF_FFFF
        self.sent += 1
        now_ns = time.monotonic_ns()
        return Stamp(self.stream_id, self.epoch, self.sequence, now_ns + later_ns, now_ns, 0, sample_rate_hz)

    def content(self) -> np.ndarray:
        """Return a window or frame that differs from the one before."""
        content = self.contents[self.sent % CONTENTS].copy()
        content[0, 0] = self.sent % 100
        return content

    def message(self, content: np.ndarray | None = None, later_ns: int = 0, rate_hz: float = SAMPLE_RATE_HZ) -> Parts:
        """Return a sound message, or one with other content or stamps."""
        array = self.content() if content is None else content
        is_iq = self.modality == "iq"
        kind = Kind.IQ if is_iq else Kind.FRAME
        return encode_array(kind, self.stamp(later_ns, rate_hz if is_iq else 0.0), array)


Make = Callable[[Source], Parts | None]
"""Makes a source's next message; None: it sends nothing."""


class LiveRig:
    """The pipeline, its sources, and whoever listens to its answers."""

    def __init__(
        self, folder: Path, streams: Mapping[str, str], heat: Callable[[], str] = lambda: "", **pipeline: Any
    ) -> None:
        """Start it all; `streams` are names with their modalities, and `heat` what slows the board down."""
        generator, rng = SiteGenerator(), np.random.default_rng(0)
        contents = {
            "iq": [generator.radio(n, rng) for n in range(CONTENTS)],
            "image": [generator.scene(n, rng) for n in range(CONTENTS)],
        }
        bundle = open_bundle(shipped_bundle())
        self.config = FlightConfig(
            bundle=str(bundle.path),
            streams={
                name: StreamConfig(modality=modality, endpoint=f"ipc://{folder}/{name}", rate_hz=RATES_HZ[modality])
                for name, modality in streams.items()
            },
            results=f"ipc://{folder}/results",
            pipeline=PipelineConfig(max_age_ms=MAX_AGE_MS, **pipeline),
        )
        self.sources = {
            name: Source(f"ipc://{folder}/{name}", modality, contents[modality], n)
            for n, (name, modality) in enumerate(streams.items())
        }
        self.pipeline = LivePipeline(self.config, bundle, heat=heat)
        self.results = Subscriber(self.config.results)
        self.pipeline.start()
        self.answers: list[Classification] = []
        self.statuses: list[PipelineStatus] = []
        for source in self.sources.values():
            source.open()
        self.feed(LiveRig.is_fused)
        self.open_files = open_files()

    def close(self) -> None:
        self.pipeline.stop()
        self.results.close()
        for source in self.sources.values():
            source.publisher.close()

    def feed(
        self, until: Callable[["LiveRig"], bool], faults: Mapping[str, Make] | None = None
    ) -> list[Classification]:
        """Send a message of each source, and the next when it has arrived, until something holds.

        Args:
            until: asked after each round.
            faults: what sources send instead of sound messages.
        Returns:
            the answers that came meanwhile.
        """
        first, deadline_s = len(self.answers), time.monotonic() + PATIENCE_S
        while not until(self):
            assert time.monotonic() < deadline_s, (self.answers[-1:], self.pipeline.status().streams)
            awaited = {name: stream.received for name, stream in self.pipeline.status().streams.items()}
            for name, source in self.sources.items():
                parts = (faults or {}).get(name, Source.message)(source)
                if parts is not None:
                    source.publisher.send(parts)
                    awaited[name] += 1
            self.await_arrival(awaited)
        return self.answers[first:]

    def await_arrival(self, awaited: Mapping[str, int]) -> None:
        """Listen until so many messages have been received, or so long that one has got lost."""
        give_up_s = time.monotonic() + LOST_AFTER_S
        self.listen(1)
        while any(self.stream(name).received < count for name, count in awaited.items()):
            self.listen(1)
            if time.monotonic() > give_up_s:
                return

    def listen(self, timeout_ms: int) -> None:
        """Take what the pipeline has published; every answer is held to what none may break."""
        parts = self.results.receive(timeout_ms)
        while parts is not None:
            header, payload = decode_message(parts)
            if header.kind == Kind.CLASSIFICATION:
                self.answers.append(unpack(payload, Classification))
                check_answer(self.answers[-1])
            elif header.kind == Kind.STATUS:
                self.statuses.append(unpack(payload, PipelineStatus))
            parts = self.results.receive(0)

    def stream(self, name: str) -> StreamAccounting:
        return self.pipeline.status().streams[name]

    def is_fused(self) -> bool:
        """Say whether the last answer is of all modalities."""
        return bool(self.answers) and all(modality.mask == 1.0 for modality in self.answers[-1].modalities)

    def more(self, answers: int) -> Callable[["LiveRig"], bool]:
        """Return what holds after some more answers."""
        wanted = len(self.answers) + answers
        return lambda _: len(self.answers) >= wanted

    def end(self) -> PipelineStatus:
        """Stop, when no more files are open than at the start; everything is accounted for."""
        self.feed(lambda rig: open_files() <= rig.open_files)
        status = self.pipeline.stop()
        assert all(stream.balanced and not stream.in_flight for stream in status.streams.values()), status.streams
        return status


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def check_answer(answer: Classification) -> None:
    """No answer is stale or no distribution, whatever is sent."""
    assert all(modality.age_ms <= MAX_AGE_MS for modality in answer.modalities if modality.mask)
    assert all(bool(modality.reason) == (modality.mask == 0.0) for modality in answer.modalities)
    if answer.has_answer:
        assert np.isfinite(answer.probs).all()
        assert abs(sum(answer.probs) - 1.0) < 1e-6
        assert abs(sum(modality.weight for modality in answer.modalities) - 1.0) < 1e-5

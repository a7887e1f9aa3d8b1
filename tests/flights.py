"""Messages and features made up for tests of the pipeline, and a virtual flight around the real scheduler."""

import dataclasses
import heapq

import numpy as np

from edge.config import PipelineConfig, StreamConfig
from edge.pipeline.alignment import Feature
from edge.pipeline.scheduler import Arrival, Pairing, Scheduler
from edge.transport.messages import Kind
from edge.transport.wire import Header, Reason, Stamp, decode_header, encode_bytes

MS = 1_000_000
RADIO_RATE_HZ = 100.0
CAMERA_RATE_HZ = 30.0


def sensor_header(sequence: int, capture_ns: int, *, epoch: int = 1, kind: Kind = Kind.ENCODED_FRAME) -> Header:
    """Return the header of an empty sensor message sent at its capture time."""
    header = decode_header(encode_bytes(kind, Stamp(1, epoch, sequence, capture_ns, capture_ns), b"")[0])
    assert isinstance(header, Header)
    return header


def feature_of(arrival: Arrival, modality: str, completed_ns: int) -> Feature:
    """Return what a branch would make of an arrival, in no time."""
    return Feature(
        modality=modality,
        stream=arrival.stream,
        capture_ns=arrival.header.capture_ns,
        send_ns=arrival.header.send_ns,
        arrived_ns=arrival.arrived_ns,
        taken_ns=arrival.taken_ns,
        preprocess_ns=0,
        completed_ns=completed_ns,
        vector=np.zeros(4, np.float32),
        logits=np.zeros(3, np.float32),
    )


def two_streams() -> dict[str, StreamConfig]:
    """Return a radio at 100 Hz and a camera at 30 Hz."""
    return {
        "radio": StreamConfig(modality="iq", endpoint="inproc://radio", rate_hz=RADIO_RATE_HZ),
        "camera": StreamConfig(modality="image", endpoint="inproc://camera", rate_hz=CAMERA_RATE_HZ),
    }


@dataclasses.dataclass
class VirtualFlight:
    """Radio and camera on virtual time through the real scheduler; engines cost what they are told."""

    outages: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Stream -> (from, to) in ms: nothing is sent then."""
    refusals: dict[str, tuple[float, float, Reason]] = dataclasses.field(default_factory=dict)
    """Stream -> (from, to) in ms, reason: what the branch says of messages captured then."""
    cost_ms: dict[str, float] = dataclasses.field(default_factory=lambda: {"radio": 0.5, "camera": 4.0})
    delay_ms: dict[str, float] = dataclasses.field(default_factory=lambda: {"radio": 0.3, "camera": 8.0})
    config: PipelineConfig = dataclasses.field(default_factory=PipelineConfig)

    def fly(self, seconds: float) -> list[tuple[int, Pairing]]:
        """Return every pairing with its time; `scheduler` then holds the accounting."""
        streams = two_streams()
        self.scheduler = Scheduler(("iq", "image"), streams, self.config, 0)
        answers: list[tuple[int, Pairing]] = []
        due: list[tuple[int, int, str, str, Arrival | Header | None]] = []
        for name, stream in streams.items():
            period_ns = 1e9 / stream.rate_hz
            for n in range(int(seconds * stream.rate_hz)):
                capture_ns = int(n * period_ns)
                since, until = self.outages.get(name, (0.0, 0.0))
                if not since * MS <= capture_ns < until * MS:
                    arrival_ns = capture_ns + int(self.delay_ms[name] * MS)
                    heapq.heappush(due, (arrival_ns, len(due), "arrive", name, sensor_header(n, capture_ns)))
        for tick_ns in range(0, int(seconds * 1e9), 20 * MS):
            heapq.heappush(due, (tick_ns, len(due), "tick", "", None))
        count = len(due)
        busy: set[str] = set()
        while due:
            self.now_ns, _, what, name, item = heapq.heappop(due)
            pairing = None
            if what == "tick":
                pairing = self.scheduler.tick(self.now_ns)
            elif what == "arrive":
                assert isinstance(item, Header)
                self.scheduler.receive(name, (item, b""), self.now_ns)
            else:
                assert isinstance(item, Arrival)
                busy.discard(name)
                pairing = self.scheduler.complete(name, self._outcome(name, item), self.now_ns)
            if pairing is not None:
                answers.append((self.now_ns, pairing))
            for stream_name, stream in streams.items():
                arrival = None if stream_name in busy else self.scheduler.take(stream.modality, self.now_ns)
                if arrival is not None:
                    busy.add(stream_name)
                    count += 1
                    done_ns = self.now_ns + int(self.cost_ms[stream_name] * MS)
                    heapq.heappush(due, (done_ns, count, "complete", stream_name, arrival))
        return answers

    def _outcome(self, name: str, arrival: Arrival) -> Feature | Reason:
        since, until, reason = self.refusals.get(name, (0.0, 0.0, Reason.BLACK))
        if since * MS <= arrival.header.capture_ns < until * MS:
            return reason
        return feature_of(arrival, two_streams()[name].modality, self.now_ns)

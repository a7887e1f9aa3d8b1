"""The topic table and the messages that leave the pipeline. Sockets, recorder and reports all derive from it."""

import enum
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from models.errors import InputError


class Kind(enum.IntEnum):
    """What a message on the wire carries."""

    IQ = 1
    """Interleaved I/Q samples, (samples, 2)."""
    FRAME = 2
    """A raw BGR frame, (height, width, 3) uint8."""
    ENCODED_FRAME = 3
    """A JPEG or PNG file."""
    CLASSIFICATION = 4
    """A `Classification`, msgpack."""
    STATUS = 5
    """A `PipelineStatus`, msgpack."""
    POSE = 6
    """A `Pose`, msgpack."""
    TRUTH = 7
    """A `Truth`, msgpack."""
    MAVLINK = 8
    """MAVLink frames, as received or sent."""
    RECORDER = 9
    """A `RecorderStatus`, msgpack."""
    TRACE = 10
    """A `Trace`, msgpack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """One row of the topic table."""

    kind: Kind
    channel: str
    """Topic of the recording; `{id}` is the stream's name."""
    encoding: str
    """MCAP message encoding: `raw` our wire header and payload, `json` a message of this file, `protobuf` an image."""
    schema: str
    """MCAP schema name; Foxglove's own where it has one, so that it opens there as it is."""


TOPICS = {
    topic.kind: topic
    for topic in (
        Topic(kind=Kind.IQ, channel="/iq/{id}", encoding="raw", schema="uav.Iq"),
        Topic(kind=Kind.FRAME, channel="/image/{id}", encoding="protobuf", schema="foxglove.RawImage"),
        Topic(kind=Kind.ENCODED_FRAME, channel="/image/{id}", encoding="protobuf", schema="foxglove.CompressedImage"),
        Topic(kind=Kind.CLASSIFICATION, channel="/classification", encoding="json", schema="uav.Classification"),
        Topic(kind=Kind.STATUS, channel="/status", encoding="json", schema="uav.PipelineStatus"),
        Topic(kind=Kind.POSE, channel="/pose", encoding="json", schema="foxglove.LocationFix"),
        Topic(kind=Kind.TRUTH, channel="/truth", encoding="json", schema="uav.Truth"),
        Topic(kind=Kind.MAVLINK, channel="/mavlink/{id}", encoding="raw", schema="uav.Mavlink"),
        Topic(kind=Kind.RECORDER, channel="/recorder", encoding="json", schema="uav.RecorderStatus"),
        Topic(kind=Kind.TRACE, channel="/trace", encoding="json", schema="uav.Trace"),
    )
}


class ModalityAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one modality brought into a classification."""

    name: str
    stream: str = ""
    """That its input came on; empty when absent."""
    mask: float
    """Availability given to the fusion graph: 0 absent, 1 present."""
    reason: str = ""
    """Why it is absent; empty while it is present."""
    weight: float = 0.0
    """Share of this modality in the fusion, 0 when absent; the weights of all sum to 1."""
    entropy: float = 0.0
    """Of the branch's own answer, in nats over log(classes): 0 certain, 1 knows nothing."""
    class_id: int = -1
    """What the branch alone would answer; -1 when absent."""
    confidence: float = 0.0
    capture_ns: int = 0
    """When its window or frame was captured; 0 when absent."""
    age_ms: float = 0.0
    """From capture to this answer."""


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of the pipeline. `class_id` is -1 (NO_DATA) when every modality is absent."""

    sequence: int
    """Counts up by one an answer."""
    capture_ns: int
    """Capture time of the newest input that went in; time of the answer when there was none."""
    answer_ns: int
    """When the answer was made."""
    class_id: int
    label: str
    confidence: float
    probs: tuple[float, ...]
    """(classes,), sum to 1; empty for NO_DATA."""
    modalities: tuple[ModalityAnswer, ...]
    """In the order of the model's spec."""
    skew_ms: float = 0.0
    """Largest difference of capture times among the inputs."""
    latency_ms: dict[str, float] = {}
    """Of the input that caused the answer, by stage; `total` is from send to answer."""
    pose: "Pose | None" = None
    """Where the vehicle was at `capture_ns`, if known."""

    @property
    def has_answer(self) -> bool:
        """Whether any modality was available."""
        return self.class_id >= 0


NO_DATA = "NO_DATA"


class StreamAccounting(msgspec.Struct, frozen=True, kw_only=True):
    """The fate of every message of one stream.

    `received = processed + superseded + dropped_late + shed + gathered + sum(rejected) + in_flight`,
    exactly.
    """

    received: int
    processed: int
    """Inferred, and its feature handed to the fusion."""
    superseded: int
    """Replaced by a newer message before its turn came."""
    dropped_late: int
    """Older than max_age_ms when its turn came."""
    gathered: int = 0
    """Shorter than the model's window, and kept for the window that a later message completes."""
    restarted_windows: int = 0
    """How often what was gathered was given up, because the next message did not continue it."""
    shed: int = 0
    """Left out on arrival, because the board cannot do it all."""
    rejected: dict[str, int]
    """Refused, by reason: not decodable, or stopped by the quality gate."""
    in_flight: int
    """Waiting or being inferred at the moment of counting."""
    lost_transport: int
    """Gaps in the sequence numbers: sent, never received."""
    state: str
    """`starting`, `live`, `silent`, or the reason why the modality is masked."""

    @property
    def balanced(self) -> bool:
        """Whether the equation holds."""
        unused = self.superseded + self.dropped_late + self.shed + self.gathered + sum(self.rejected.values())
        return self.processed + unused + self.in_flight == self.received


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is left out because the board cannot do it all."""

    level: int = 0
    """0: nothing."""
    name: str = ""
    """What is left out, such as `image every 2nd`: of the frames every second one is inferred."""
    why: str = ""


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """Faults that are injected into a flight on purpose: what is answered in it is a test's, and nobody's news."""

    faults: tuple[str, ...] = ()
    """As they were named; none in a real flight."""
    seed: int = 0
    """Of what they leave to chance."""
    begin_ns: int = 0
    """When the flight began, from which their times count; 0: not yet."""


NOTHING_INJECTED = Injected()


class PipelineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The pipeline's health, published once a second, and when a state changes."""

    time_ns: int
    results: int
    """Answers published so far."""
    streams: dict[str, StreamAccounting]
    model: str
    """Bundle title."""
    bundle_sha256: str
    labels: tuple[str, ...]
    precisions: dict[str, str] = {}
    """Of the graph that flies for each modality, and for the fusion head; recordings of old do not say."""
    backend: str = ""
    """`onnxruntime` or `tensorrt`: whose engines fly; recordings of old do not say."""
    backend_reason: str = ""
    """Why TensorRT does not fly, or how it does; empty while it is being loaded, and where nobody asked for it."""
    load: Load = Load()
    injected: Injected = NOTHING_INJECTED
    is_last: bool | None = None
    """Whether the pipeline was told to stop, and says nothing more; recordings of old and exact replay do not say."""


class Pose(msgspec.Struct, frozen=True, kw_only=True):
    """Where the vehicle was."""

    capture_ns: int
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    """Above mean sea level."""
    roll_rad: float = 0.0
    pitch_rad: float = 0.0
    yaw_rad: float = 0.0
    """Clockwise from north."""


TRUTH_HOLDS_NS = 2_500_000_000


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What was really there, from `capture_ns` until the next one, but for at most TRUTH_HOLDS_NS.

    It is told at each change and at least once a second, so that where one is lost nothing false is held for true.
    """

    capture_ns: int
    class_id: int
    label: str


class RecorderStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the recorder did with what it heard: once a second in the recording, and on `recording.status`."""

    time_ns: int
    free_bytes: int
    """Left on the disk."""
    pause: str
    """Why it pauses, said as the last word of a file; empty while it records."""
    recorded: dict[str, int]
    """Messages since its start, by stream, results or pose."""
    lost: dict[str, int]
    """Sent, but never received: gaps in the sequence numbers."""
    refused: dict[str, int]
    """Received but not recorded: unusable, or no space on the disk."""


class Inference(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message that was inferred, and when, by the pipeline's own clock."""

    stream: str
    epoch: int
    """With `sequence`: of the message; of a window that was gathered, of the message that completed it."""
    sequence: int
    arrived_ns: int
    """When the pipeline received it."""
    taken_ns: int
    """When its turn came."""
    done_ns: int
    """When what came of it was accounted for."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What was inferred, published once a second: what arrived and is not in it was superseded, or never usable."""

    since_ns: int
    time_ns: int
    """Everything done from `since_ns` on and before this time is here."""
    inferences: tuple[Inference, ...]
    """In the order in which they were done."""


Message = Classification | PipelineStatus | Pose | Truth | RecorderStatus | Trace
M = TypeVar("M", Classification, PipelineStatus, Pose, Truth, RecorderStatus, Trace)

_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (Classification, PipelineStatus, Pose, Truth, RecorderStatus, Trace)
}


def pack(message: Message) -> bytes:
    """Serialize a message for the wire (msgpack)."""
    return _ENCODER.encode(message)


def unpack(payload: bytes | memoryview, into: type[M]) -> M:
    """Deserialize a message of the wire.

    Raises:
        InputError: the bytes are not such a message.
    """
    try:
        message: M = _DECODERS[into].decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: text that is no UTF-8
        raise InputError(f"not a {into.__name__}: {error}") from error
    return message

"""Everything a deployment's YAML can say, on one page. Each field: unit, meaning, range."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from edge.backends.select import PrecisionChoice
from edge.mavlink.deployment import MavlinkConfig as MavlinkConfig
from edge.transport.ring import MAX_SLOTS, MIN_SLOTS
from edge.transport.sockets import check_endpoint
from models.errors import ConfigError
from models.schema import load_yaml

_STREAM_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options common to all configuration classes: frozen, by keyword, nothing unknown."""


def _require(claim: bool, text: str) -> None:
    if not claim:
        raise ValueError(text)


def _local(endpoint: str) -> None:
    try:
        check_endpoint(endpoint)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    _require(not endpoint.endswith(":*"), f"endpoint {endpoint!r}: expected a port, 1 to 65535")


class StreamConfig(_Config, frozen=True, kw_only=True):
    """One stream of sensor messages that the pipeline listens to."""

    modality: str
    """Branch of the model that it feeds: a modality's name in the bundle."""
    endpoint: str
    """Where its source publishes: ipc://PATH or tcp://127.0.0.1:PORT."""
    rate_hz: float
    """Messages a second that the source normally sends; silence is judged by it."""
    max_message_bytes: int = 16 << 20
    """A larger message drops the connection to its sender."""
    max_frame_px: int = 8_000_000
    """Encoded frames that claim more pixels are refused before decoding."""
    transport: Literal["socket", "shm"] = "socket"
    """How frames and I/Q come here: shm puts large ones into shared memory, and a mere note through the endpoint.

    Source, pipeline and recorder are then processes of one user. See docs/transport.md.
    """
    shm_slots: int = 8
    """Messages that the shared memory holds; each takes as much as the largest one sent, up to max_message_bytes."""

    cpu: int | None = None
    """Processor on which the stream is received, and as a rule inferred; none: any."""
    rehearse: bool = False
    """Compute once more on the last message just before the next one is due, which then finds warm caches.

    Up to a quarter less latency for up to twice the computing, where a source keeps time: see docs/benchmark.md.
    """

    def __post_init__(self) -> None:
        _local(self.endpoint)
        _require(self.cpu is None or 0 <= self.cpu < 4096, f"cpu is {self.cpu}: expected 0 to 4095")
        _require(
            MIN_SLOTS <= self.shm_slots <= MAX_SLOTS,
            f"shm_slots is {self.shm_slots}: expected {MIN_SLOTS} to {MAX_SLOTS}",
        )
        _require(0 < self.rate_hz <= 10_000, f"rate_hz is {self.rate_hz}: expected above 0 to 10000")
        _require(64 <= self.max_message_bytes <= 1 << 30, "max_message_bytes: expected 64 to 2^30")
        _require(64 <= self.max_frame_px <= 1 << 28, "max_frame_px: expected 64 to 2^28")

    @property
    def ring_slots(self) -> int:
        """Slots of the ring that the stream's source makes, 0 for none."""
        return self.shm_slots if self.transport == "shm" else 0


class PipelineConfig(_Config, frozen=True, kw_only=True):
    """How inputs become answers."""

    max_age_ms: float = 300.0
    """No answer uses an input captured longer ago than this."""
    max_skew_ms: float = 50.0
    """Largest difference of capture times of inputs that are fused."""
    silent_after_periods: float = 3.0
    """A stream that sent nothing usable for this many of its periods no longer paces the answers."""
    trigger_order: tuple[str, ...] = ()
    """Modalities, the one that paces the answers first; the next takes over when it falls silent.

    Empty: slowest stream first.
    """
    precision: PrecisionChoice = "auto"
    """Of the graphs that fly: auto takes for each the fastest that the bundle approves for this kind of machine.

    Another one takes every graph of that precision that there is, and FP32 for the rest.
    """
    backend: Literal["auto", "onnxruntime", "tensorrt"] = "auto"
    """Whose engines fly: auto begins with ONNX Runtime, and changes over to TensorRT in flight where it is installed, a
    GPU is there, and `plans` holds a plan of every graph that fits them.

    onnxruntime never asks. tensorrt starts with nothing less, and ends with exit code 4 where it cannot. Whatever was
    chosen, a GPU that fails in flight is given up, and ONNX Runtime flies on; the status says why.
    """
    shedding: Literal["auto", "economy", "off"] = "auto"
    """What to leave out when the board cannot do it all: frames first, then windows of the radio, then all frames.

    auto: while the board slows itself down, because it is hot or draws too much. economy: also while an engine cannot
    keep up; some two thirds of the work, half as many answers, each of them fresher. See docs/overload.md.
    """

    def __post_init__(self) -> None:
        _require(self.max_age_ms > 0, f"max_age_ms is {self.max_age_ms}: expected above 0")
        _require(0 < self.max_skew_ms <= self.max_age_ms, "max_skew_ms: expected above 0, at most max_age_ms")
        _require(self.silent_after_periods >= 1, "silent_after_periods: expected at least 1")


class SyntheticSource(_Config, frozen=True, kw_only=True, tag_field="kind", tag="synthetic"):
    """Made-up sites with their emitters: for trying everything without hardware. One source per stream."""

    stream: str
    """Name of the stream that it feeds."""
    sensor: Literal["radio", "camera"]
    seed: int = 1
    """Same seed, same flight: give radio and camera the same."""
    dwell_s: float = 3.0
    """Time spent over one site; at least 0.1."""

    def __post_init__(self) -> None:
        _require(self.seed >= 0, f"seed is {self.seed}: expected at least 0")
        _require(self.dwell_s >= 0.1, f"dwell_s is {self.dwell_s}: expected at least 0.1")


class CameraSource(_Config, frozen=True, kw_only=True, tag_field="kind", tag="camera"):
    """A camera or a video file, by OpenCV."""

    stream: str
    """Name of the stream that it feeds."""
    device: str
    """A number (V4L2), a file, or a GStreamer pipeline that ends in appsink (needs an OpenCV with GStreamer)."""
    jpeg_quality: int = 0
    """0 sends raw BGR frames; 1 to 100 sends JPEG."""
    loop: bool = False
    """Start a file again at its end."""
    delay_ms: float = 0.0
    """From the middle of the exposure until a live frame can be read; taken off its capture time."""

    def __post_init__(self) -> None:
        _require(0 <= self.jpeg_quality <= 100, f"jpeg_quality is {self.jpeg_quality}: expected 0 to 100")
        _require(0 <= self.delay_ms <= 1000, f"delay_ms is {self.delay_ms}: expected 0 to 1000")


class SdrFileSource(_Config, frozen=True, kw_only=True, tag_field="kind", tag="sdr_file"):
    """A radio recording (SigMF), played at its own rate."""

    stream: str
    """Name of the stream that it feeds."""
    path: str
    """The .sigmf-meta file."""
    loop: bool = True
    """Start again at its end."""


class SoapySource(_Config, frozen=True, kw_only=True, tag_field="kind", tag="soapy"):
    """A software-defined radio by SoapySDR (system package, not from PyPI)."""

    stream: str
    """Name of the stream that it feeds."""
    device: str
    """SoapySDR device arguments, for example driver=rtlsdr."""
    sample_rate_hz: int
    centre_hz: float
    gain_db: float | None = None
    """Fixed gain; absent: the device's automatic gain."""


class GnuRadioSource(_Config, frozen=True, kw_only=True, tag_field="kind", tag="gnuradio"):
    """A flowgraph of GNU Radio that ends in a ZeroMQ sink, started by itself; it may come and go."""

    stream: str
    """Name of the stream that it feeds, in blocks as long as a period of the stream's rate_hz."""
    endpoint: str
    """Where the flowgraph's sink is bound: ipc://PATH or tcp://127.0.0.1:PORT."""
    sample_rate_hz: int
    """Until a tag rx_rate says otherwise."""
    centre_hz: float = 0.0
    """Until a tag rx_freq says otherwise."""
    tags: bool = True
    """The sink's pass_tags. Without them samples carry no number and no time: what is lost nobody knows."""
    sink: Literal["pub", "push"] = "pub"
    """pub loses samples when this machine is too busy; push holds the flowgraph up instead."""
    sample_type: Literal["complex64", "int16", "int8", "uint8"] = "complex64"
    """Item of the sink: complex, or I and Q as an item of two integers (vlen 2)."""
    queue_ms: float = 250.0
    """Samples of so long a time may wait for this machine; where more do, all that wait are thrown away, counted.

    Of a push sink none are: it waits for them to be taken.
    """

    def __post_init__(self) -> None:
        _local(self.endpoint)
        _require(self.sample_rate_hz > 0, f"sample_rate_hz is {self.sample_rate_hz}: expected above 0")
        _require(10 <= self.queue_ms <= 10_000, f"queue_ms is {self.queue_ms}: expected 10 to 10000")


SourceConfig = SyntheticSource | CameraSource | SdrFileSource | SoapySource | GnuRadioSource


class RecordingConfig(_Config, frozen=True, kw_only=True):
    """Where the flight is recorded, and what of it. See docs/recordings.md."""

    directory: str
    """Folder for <UTC time>.mcap files; made when absent."""
    max_file_bytes: int = 4_000_000_000
    """A file that is so large is followed by the next, looked at once a second; the default suits a FAT disk."""
    max_file_s: float = 600.0
    """So is a file that is so old."""
    min_free_bytes: int = 1_000_000_000
    """Recording pauses while the disk has less free than this, and goes on by itself when there is a tenth more."""
    topics: tuple[str, ...] = ()
    """What is recorded: names of streams, and classification, status, pose, truth, trace, mavlink.

    Empty: everything.
    """
    status: str | None = None
    """Endpoint where the recorder says once a second how it goes; MAVLink tells the ground when it pauses."""
    every: dict[str, int] = {}
    """Of a stream or topic, record one message in so many; those that are not named: all."""

    def __post_init__(self) -> None:
        if self.status is not None:
            _local(self.status)
        _require(self.max_file_bytes >= 1 << 20, f"max_file_bytes is {self.max_file_bytes}: expected at least 2^20")
        _require(self.max_file_s >= 1, f"max_file_s is {self.max_file_s}: expected at least 1")
        _require(self.min_free_bytes >= 0, f"min_free_bytes is {self.min_free_bytes}: expected at least 0")
        for name, step in self.every.items():
            _require(1 <= step <= 1_000_000, f"every.{name} is {step}: expected 1 to 1000000")

    def takes(self, name: str) -> bool:
        """Say whether a stream or topic is recorded."""
        return not self.topics or name in self.topics


RECORDED_TOPICS = ("classification", "status", "pose", "truth", "trace", "mavlink")
"""What a flight records beside its streams."""


class FlightConfig(_Config, frozen=True, kw_only=True):
    """A whole deployment."""

    bundle: str
    """The model, relative to this file: a .uavb folder, a .uavb.tar, or `current` of a store."""
    bundle_keys: tuple[str, ...] = ()
    """Files with public keys, relative to this file; with any, the bundle must be signed by one of them."""
    plans: str | None = None
    """Folder of TensorRT plans that `uav-calibrate build --plans` filled, relative to this file; none without."""
    plan_options: str | None = None
    """The YAML that `uav-calibrate build --options` was given, relative to this file; its defaults without."""
    streams: dict[str, StreamConfig]
    """By name: 1 to 64 letters, digits, underscores, dots and dashes."""
    results: str
    """Endpoint where answers and status are published."""
    pose: str | None = None
    """Endpoint where poses of the vehicle are published; answers carry the nearest."""
    sources: tuple[SourceConfig, ...] = ()
    """Processes started beside the pipeline; leave out what others start."""
    pipeline: PipelineConfig = PipelineConfig()
    mavlink: MavlinkConfig | None = None
    recording: RecordingConfig | None = None

    def __post_init__(self) -> None:
        _local(self.results)
        if self.pose is not None:
            _local(self.pose)
        _require(bool(self.streams), "streams: expected at least one")
        for name in self.streams:
            claim = _STREAM_NAME.fullmatch(name) is not None
            _require(claim, f"stream {name!r}: expected 1 to 64 of the characters A-Z a-z 0-9 _ . -")
        self._require_different_endpoints()
        self._require_recorded_names()
        is_posed = self.mavlink is None or not self.mavlink.poses or self.pose is not None
        _require(is_posed, "mavlink.poses: expected pose, the endpoint where they are published")
        needs = "pipeline.backend is tensorrt: expected plans, the folder that uav-calibrate build --plans filled"
        _require(self.plans is not None or self.pipeline.backend != "tensorrt", needs)
        whose = "plan_options says what plans were built with: expected plans, the folder that they are in"
        _require(self.plans is not None or self.plan_options is None, whose)
        unknown = sorted({source.stream for source in self.sources} - set(self.streams))
        _require(not unknown, f"sources feed unknown streams {unknown}: known are {sorted(self.streams)}")
        camera = self.mavlink.camera if self.mavlink is not None else None
        text = f"camera.stream is {camera.stream}: expected one of {sorted(self.streams)}" if camera is not None else ""
        _require(camera is None or camera.stream in self.streams, f"mavlink.{text}")

    def _require_different_endpoints(self) -> None:
        used = {self.results: "results"}
        others = [(f"streams.{name}", stream.endpoint) for name, stream in self.streams.items()]
        others += [(f"the flowgraph of {s.stream}", s.endpoint) for s in self.sources if isinstance(s, GnuRadioSource)]
        if self.recording is not None and self.recording.status is not None:
            others.append(("recording.status", self.recording.status))
        if self.mavlink is not None and self.mavlink.received is not None:
            _local(self.mavlink.received)
            others.append(("mavlink.received", self.mavlink.received))
        for name, endpoint in (*others, ("pose", self.pose)):
            if endpoint is not None:
                other = used.setdefault(endpoint, name)
                _require(other == name, f"{name} and {other} have the endpoint {endpoint}: give each its own")

    def _require_recorded_names(self) -> None:
        if self.recording is not None:
            known = {*self.streams, *RECORDED_TOPICS}
            unknown = sorted({*self.recording.topics, *self.recording.every} - known)
            _require(not unknown, f"recording names {unknown}: known are {sorted(known)}")


def check_modalities(streams: Mapping[str, StreamConfig], config: PipelineConfig, modalities: Sequence[str]) -> None:
    """Refuse a deployment that names a modality which the model does not have.

    Raises:
        ConfigError: has a line for each.
    """
    named = {f"streams.{name}.modality": stream.modality for name, stream in streams.items()}
    named |= {f"pipeline.trigger_order.{n}": modality for n, modality in enumerate(config.trigger_order)}
    problems = [
        f"{key}: expected one of {', '.join(modalities)} (of the bundle), got {modality}"
        for key, modality in named.items()
        if modality not in modalities
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def load_flight(path: Path) -> FlightConfig:
    """Read a deployment; paths in it are relative to its folder.

    Raises:
        ConfigError: as `load_yaml`.
    """
    config = load_yaml(path, FlightConfig)
    return msgspec.structs.replace(
        config,
        bundle=str((path.parent / config.bundle).resolve()),
        bundle_keys=tuple(str((path.parent / key).resolve()) for key in config.bundle_keys),
        plans=_beside(path, config.plans),
        plan_options=_beside(path, config.plan_options),
        mavlink=config.mavlink.with_paths_in(path.parent) if config.mavlink is not None else None,
    )


def _beside(path: Path, name: str | None) -> str | None:
    """Return where a file is that is named relative to the deployment's own."""
    return str((path.parent / name).resolve()) if name is not None else None

"""What a benchmark found, as it is written to JSON: times in ms unless a name says otherwise.

What is not known is null. A ratio is taken within one run on one machine, so it can be compared with that of another
run; a time cannot.
"""

from typing import Any, Literal

import msgspec

from edge.transport.messages import StreamAccounting
from models.errors import InputError

SCHEMA = "uav-edge-bench-1"
Scenario = Literal["single", "multi", "paced"]


class _Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options common to all of them."""


class Spread(_Result, frozen=True, kw_only=True):
    """Percentiles of samples; null where there are too few of them."""

    samples: int
    p50: float | None
    p90: float | None
    p99: float | None
    too_few_for: dict[str, int]
    """Percentiles that are null, with the samples that they need."""


class Ratio(_Result, frozen=True, kw_only=True):
    """How many times as long as something else, and how far the blocks of the run agree."""

    value: float
    """Of the medians over the whole run."""
    low: float | None
    high: float | None
    """Quartiles of the blocks' ratios; null with fewer than four blocks."""


class Floor(_Result, frozen=True, kw_only=True):
    """The least that this machine needs for the same messages: see docs/benchmark.md."""

    paced_ms: float
    """Median of a bare program at the path's own pace, from send to answer."""
    paced_parts_ms: dict[str, float]
    hot_ms: float
    """The hand-over, and the same computations back to back in warm caches, added up."""
    hot_parts_ms: dict[str, float]


class Stream(_Result, frozen=True, kw_only=True):
    """What was sent."""

    rate_hz: float
    """In the paced scenario."""
    message_bytes: int
    payload: str
    """In words."""


class Latency(_Result, frozen=True, kw_only=True):
    """One path in one of the scenarios that measure time."""

    path: str
    scenario: Scenario
    streams: dict[str, Stream]
    from_send: Spread
    """From the moment its message was sent to the moment an answer was made."""
    from_schedule: Spread | None
    """From the moment a message should have been sent, which no delay of the sender can shift, to the first answer that
    is made of it or a newer one; of the paced scenario alone."""
    unanswered: int | None = None
    """Messages among those that had no answer of their own: superseded, lost or refused."""
    stages: dict[str, Spread]
    """Where the time from the send went."""
    floor: Floor | None
    """Of the paced scenario, where one stream causes the answers."""
    ratio: Ratio | None
    """p50 from the send over the paced floor."""
    hot_ratio: float | None
    """The same over the hot floor."""
    fused_share: float | None
    """Answers that every stream of the path took part in."""
    cpu_ms_per_result: float | None
    """Processor time of the pipeline's process."""
    joules_per_result: float | None
    """Of the whole board, idle power included; null where it has no power sensor."""


class Offline(_Result, frozen=True, kw_only=True):
    """The most results a second, with a message always waiting and none superseded."""

    path: str
    results_per_s: float
    cpu_ms_per_result: float | None


class Overload(_Result, frozen=True, kw_only=True):
    """More messages than can be answered: results stay fresh, and every message is accounted for."""

    path: str
    factor: float
    """Wanted rate over the maximum that was measured just before."""
    maximum_per_s: float
    offered_per_s: float
    """What the sender managed."""
    results_per_s: float
    throughput_share: float
    """Of the maximum."""
    age: Spread
    """Of results when they are made, since the moment their message was due."""
    stages: dict[str, Spread]
    """Where the time from the send went: what queues in the sockets is `transport`."""
    sender_late: Spread | None = None
    """From the moment a message was due to its send: part of the age, and none of the pipeline's doing."""
    from_send: Spread | None = None
    """The rest of the age."""
    busy_share: float | None = None
    """Of the time: a message was being computed. What is short of the maximum beside a full share is computing that
    took longer, because senders and sockets had a part of the processors."""
    period_ms: float
    """Of the offered messages."""
    inference_ms: float | None
    """p99 of preprocessing, inference and fusion together, meanwhile."""
    age_share: float | None
    """p99 of the age over one period and the inference: up to 1 nothing but the newest message was worked on."""
    rss_start_mib: float
    rss_end_mib: float
    """Of the pipeline's process."""
    sent: int
    counts: StreamAccounting
    """Of these messages alone."""
    is_exact: bool
    """Whether sent = received + lost in transport, and received = the sum of the fates."""


class IngestPoint(_Result, frozen=True, kw_only=True):
    """One rate of I/Q samples."""

    wanted_ms_per_s: float
    """Million samples a second."""
    sent_ms_per_s: float
    message_bytes: int
    messages: int
    lost: int
    """Messages, by gaps in their numbers."""
    rejected: int
    inferred: int
    cpu_percent: float
    """Of one core, of the pipeline's process, inference included."""
    is_lossless: bool
    """Nothing lost or rejected, and the sender kept the rate."""


class Ingest(_Result, frozen=True, kw_only=True):
    """int16 I/Q into the pipeline, faster and faster."""

    points: tuple[IngestPoint, ...]
    peak_ms_per_s: float | None
    """The highest lossless rate that was tried; null where there was none."""


class Handover(_Result, frozen=True, kw_only=True):
    """A 1080p frame from one process to another, from send to receipt: nothing is copied on receipt."""

    frame_bytes: int
    socket: Spread
    shm: Spread
    """In shared memory, where it was captured in place."""
    socket_over_shm: Ratio | None
    header_ns: dict[str, float]
    """What it costs to write and to read a header, by call."""


class Core(_Result, frozen=True, kw_only=True):
    """What the pipeline's process costs before the first message."""

    import_s: float
    """Best of several fresh interpreters."""
    rss_mib: float
    """After the start, engines loaded."""
    idle_cpu_percent: float
    """Of one core, while nothing comes."""
    idle_watts: float | None
    """Of the whole board, meanwhile; null where it has no power sensor."""


class Contender(_Result, frozen=True, kw_only=True):
    """One backend and precision beside the first one of its contest."""

    name: str
    latency: Spread
    ratio: Ratio | None
    """To the first one; null for itself, and where there are too few samples."""


class Contest(_Result, frozen=True, kw_only=True):
    """Backends and precisions that took turns, in blocks."""

    subject: str
    """A path, or a branch of the model."""
    measured: Literal["end to end", "inference"]
    """From the send to the answer in real processes, or one inference back to back."""
    contenders: tuple[Contender, ...]


class Absent(_Result, frozen=True, kw_only=True):
    """A backend, a precision or a path that was asked for and is not to be had."""

    name: str
    remedy: str


class Machine(_Result, frozen=True, kw_only=True):
    """What it was measured on."""

    cpu: str
    cores: int
    kernel: str
    arch: str
    python: str
    board: dict[str, Any] = {}
    """Model, power mode, clocks, temperatures and rails before the start, where the board tells."""
    throttled: tuple[str, ...] = ()
    """What slowed the board down during the run, in words."""
    other_cpu_percent: float | None = None
    """Share of all cores' time that went to other programs meanwhile."""

    @property
    def fingerprint(self) -> tuple[str, ...]:
        """What must be equal for milliseconds to be compared."""
        board = (str(self.board.get("model")), str(self.board.get("power_mode")))
        return (self.cpu, str(self.cores), self.arch, *board)


class Report(_Result, frozen=True, kw_only=True):
    """Everything that one run found."""

    schema: str
    model: str
    backend: str
    """What flew: `onnxruntime` or `tensorrt`."""
    precisions: dict[str, str]
    machine: Machine
    core: Core | None = None
    latencies: tuple[Latency, ...] = ()
    offline: tuple[Offline, ...] = ()
    overloads: tuple[Overload, ...] = ()
    ingest: Ingest | None = None
    handover: Handover | None = None
    contests: tuple[Contest, ...] = ()
    absent: tuple[Absent, ...] = ()
    accounting: dict[str, dict[str, StreamAccounting]] = {}
    """By rig and stream: every message of the whole run."""
    unaccounted: dict[str, int] = {}
    """Messages sent that are neither received nor lost by the count, by rig and stream; empty where it is exact."""

    @property
    def is_exact(self) -> bool:
        """Whether every message of every scenario is accounted for."""
        ledgers = [stream for streams in self.accounting.values() for stream in streams.values()]
        return not self.unaccounted and all(stream.balanced for stream in ledgers)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a report."""
    return msgspec.json.schema(Report)


def parse_report(data: bytes, where: str) -> Report:
    """Read a report back.

    Raises:
        InputError: not JSON, of another schema, or not a report.
    """
    try:
        head = msgspec.json.decode(data)
        schema = head.get("schema") if isinstance(head, dict) else None
        if schema != SCHEMA:
            raise InputError(
                f"{where}: schema {schema!r}, expected {SCHEMA!r}: make it anew with uav-edge bench --json, last line"
            )
        return msgspec.json.decode(data, type=Report)
    except msgspec.MsgspecError as error:
        raise InputError(f"{where}: not a report of uav-edge bench ({error}): make it anew with --json") from error

"""Composes a recording from parts that were never recorded together, on one clock, and says so in its metadata."""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge.recording.disk import replacing
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Kind, Message
from edge.transport.wire import Stamp, encode_array, encode_bytes

START_NS = 1_000_000_000
"""Where a composed flight begins; not 0, which says "never captured"."""
RADIO, CAMERA, POSE, MAVLINK = "radio", "camera", "pose", "mavlink/rx"
_STREAM_IDS = {RADIO: 1, CAMERA: 2}
_EPOCH = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Samples of the radio."""

    samples: NDArray[Any]
    """(samples, 2), contiguous, of a type that the wire knows."""
    sample_rate_hz: float
    centre_hz: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Packet:
    """A MAVLink frame that the ground had from the vehicle."""

    frame: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Something that a flight met with: a window, an encoded frame, a MAVLink frame, or a message."""

    capture_ns: int
    arrival_ns: int
    """When a recorder would have received it."""
    content: Window | bytes | Packet | Message


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Moments of one origin."""

    name: str
    """What it contributes: radio, camera, pose, mavlink/rx, truth."""
    origin: str
    """Where it comes from, for the recording's metadata."""
    moments: Iterator[Moment]
    """In the order of arrival, made when asked for: a long video never lies in memory."""
    count: int
    """How many, as far as known beforehand."""
    end_ns: int
    """When the last one's time is over, as far as known beforehand."""


def compose(
    path: Path,
    parts: Sequence[Part],
    *,
    metadata: dict[str, str],
    utc_offset_ns: int,
    watch: Callable[[int], None] = lambda _: None,
) -> dict[str, int]:
    """Write a recording from parts, replacing what is there only when it is complete; return the moments by part name.

    Args:
        path: file to write.
        parts: what it is made of.
        metadata: what else to say about it.
        utc_offset_ns: UTC minus the parts' clock.
        watch: told the number of moments written, for a progress bar.
    Raises:
        RecordingError: a part cannot be read, or the file not be written.
    """
    origins: dict[str, str] = {}
    for part in parts:
        origins[part.name] = f"{origins[part.name]}; {part.origin}" if part.name in origins else part.origin
    text = "parts that were not recorded together, put on one clock"
    sequences: Counter[str] = Counter()
    written: Counter[str] = Counter()
    with (
        replacing(path) as temporary,
        RecordingWriter(
            temporary, metadata={**metadata, "composite": text, **origins}, utc_offset_ns=utc_offset_ns
        ) as writer,
    ):
        named = [zip(part.moments, itertools.repeat(part.name)) for part in parts]
        for done, (moment, name) in enumerate(heapq.merge(*named, key=lambda pair: pair[0].arrival_ns), 1):
            _write(writer, moment, sequences)
            written[name] += 1
            watch(done)
    return dict(written)


def _write(writer: RecordingWriter, moment: Moment, sequences: "Counter[str]") -> None:
    content = moment.content
    if isinstance(content, Window):
        stamp = _stamp(RADIO, moment, sequences)._replace(
            sample_rate_hz=content.sample_rate_hz, centre_hz=content.centre_hz
        )
        writer.write_parts(RADIO, encode_array(Kind.IQ, stamp, content.samples, with_crc=True), moment.arrival_ns)
    elif isinstance(content, bytes):
        stamp = _stamp(CAMERA, moment, sequences)
        parts = encode_bytes(Kind.ENCODED_FRAME, stamp, content, with_crc=True)
        writer.write_parts(CAMERA, parts, moment.arrival_ns)
    elif isinstance(content, Packet):
        writer.write_mavlink(content.frame, moment.arrival_ns)
    else:
        writer.write_message(content, moment.arrival_ns)


def _stamp(stream: str, moment: Moment, sequences: "Counter[str]") -> Stamp:
    sequences[stream] += 1
    return Stamp(_STREAM_IDS[stream], _EPOCH, sequences[stream] - 1, moment.capture_ns, moment.arrival_ns)

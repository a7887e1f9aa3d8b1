"""A synthetic flight as a recording: what the demo replays, with the truth beside it."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from edge.recording.writer import RecordingWriter
from edge.sources.synthetic import SITE_LABELS, SyntheticFlight
from edge.transport.messages import Kind, Truth
from edge.transport.wire import Stamp, encode_array, encode_bytes
from models.errors import RecordingError
from models.preprocess import opencv

START_NS = 1_000_000_000
"""Where a synthetic flight begins; not 0, which says "never captured"."""
POSE_RATE_HZ = 10.0
TRANSPORT_NS = 500_000
"""Between capture and arrival, as a source on the same board would have it."""
JPEG_QUALITY = 90

Write = Callable[[RecordingWriter], None]


def write_synthetic_flight(path: Path, flight: SyntheticFlight, seconds: float, watch: Callable[[int], None]) -> None:
    """Record a synthetic flight: streams `radio` and `camera`, pose, and truth.

    Args:
        path: file to write.
        flight: what is flown over.
        seconds: length.
        watch: told the number of messages written, for a progress bar (see `message_count`).
    Raises:
        RecordingError: the file cannot be written.
    """
    metadata = {"synthetic": f"seed {flight.seed}, {seconds} s"}
    with RecordingWriter(path, metadata=metadata, utc_offset_ns=0) as writer:
        for done, (_, _, write) in enumerate(_messages(flight, seconds), 1):
            write(writer)
            watch(done)


def message_count(flight: SyntheticFlight, seconds: float) -> int:
    """Return how many messages `write_synthetic_flight` writes."""
    return len(_messages(flight, seconds))


def _messages(flight: SyntheticFlight, seconds: float) -> list[tuple[int, int, Write]]:
    """Return (time, order among equals, how to write it), in the order of time."""
    kinds = (
        (_truth_times(flight.dwell_s, seconds), _write_truth),
        (_times(POSE_RATE_HZ, seconds), _write_pose),
        (_times(flight.radio_rate_hz, seconds), _write_radio),
        (_times(flight.camera_rate_hz, seconds), _write_frame),
    )
    messages = [
        (time_ns, order, partial(write, flight, n, time_ns))
        for order, (times_ns, write) in enumerate(kinds)
        for n, time_ns in enumerate(times_ns)
    ]
    return sorted(messages, key=lambda message: message[:2])


def _times(rate_hz: float, seconds: float) -> list[int]:
    return [START_NS + round(n * 1e9 / rate_hz) for n in range(int(seconds * rate_hz + 1e-6))]


def _truth_times(dwell_s: float, seconds: float) -> list[int]:
    """Return when the truth is told: at each change, and each second after it, so that a lost one is soon made up."""
    told_s = [
        stay * dwell_s + second
        for stay in range(math.ceil(seconds / dwell_s - 1e-6))
        for second in range(math.ceil(dwell_s - 1e-6))
    ]
    return [START_NS + round(t_s * 1e9) for t_s in told_s if t_s < seconds - 1e-6]


def _write_truth(flight: SyntheticFlight, n: int, time_ns: int, writer: RecordingWriter) -> None:
    class_id = flight.class_at((time_ns - START_NS) / 1e9 + 1e-6)  # a little later: the time is rounded
    writer.write_message(Truth(capture_ns=time_ns, class_id=class_id, label=SITE_LABELS[class_id]), time_ns)


def _write_pose(flight: SyntheticFlight, n: int, time_ns: int, writer: RecordingWriter) -> None:
    writer.write_message(msgspec.structs.replace(flight.pose_at(n / POSE_RATE_HZ), capture_ns=time_ns), time_ns)


def _write_radio(flight: SyntheticFlight, n: int, time_ns: int, writer: RecordingWriter) -> None:
    stamp = Stamp(1, 1, n, time_ns, time_ns, 0, flight.generator.sample_rate_hz, 2_450_000_000.0)
    parts = encode_array(Kind.IQ, stamp, flight.radio_chunk(n), with_crc=True)
    writer.write_parts("radio", parts, time_ns + TRANSPORT_NS)


def _write_frame(flight: SyntheticFlight, n: int, time_ns: int, writer: RecordingWriter) -> None:
    cv2 = opencv()
    is_encoded, jpeg = cv2.imencode(".jpg", flight.frame(n), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not is_encoded:
        raise RecordingError(f"frame {n}: OpenCV cannot write JPEG: install an OpenCV with JPEG support")
    parts = encode_bytes(Kind.ENCODED_FRAME, Stamp(2, 1, n, time_ns, time_ns), jpeg.tobytes(), with_crc=True)
    writer.write_parts("camera", parts, time_ns + TRANSPORT_NS)

"""Small recordings that several tests need."""

from pathlib import Path

import numpy as np

from edge.recording.writer import RecordingWriter
from edge.transport.messages import Kind
from edge.transport.wire import Header, Reason, Stamp, decode_header, encode_array

UTC_OFFSET_NS = 1_700_000_000_000_000_000
START_NS = 5_000_000_000
PERIOD_NS = 10_000_000
WINDOW_BYTES = 65_536


def iq_message(sequence: int, capture_ns: int) -> tuple[Header, bytes, bytes]:
    """Return header, its bytes and the payload of a random window."""
    samples = np.random.default_rng(sequence).integers(0, 255, (WINDOW_BYTES // 2, 2), dtype=np.uint8)
    stamp = Stamp(1, 9, sequence, capture_ns, capture_ns, sample_rate_hz=250e3, centre_hz=433.92e6)
    header_bytes, payload = encode_array(Kind.IQ, stamp, samples, with_crc=True)
    return decoded(header_bytes), header_bytes, bytes(payload)


def decoded(header_bytes: bytes) -> Header:
    """Return a header that is known to be good."""
    header = decode_header(header_bytes)
    assert not isinstance(header, Reason)
    return header


def write_flight(path: Path, windows: int) -> None:
    """Write a flight of I/Q windows at 100 Hz, each 1 ms after its capture."""
    with RecordingWriter(path, utc_offset_ns=UTC_OFFSET_NS) as writer:
        for sequence in range(windows):
            capture_ns = START_NS + sequence * PERIOD_NS
            writer.write_sensor("radio", *iq_message(sequence, capture_ns), capture_ns + 1_000_000)

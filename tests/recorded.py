"""Small recordings that several tests need."""

import io
from pathlib import Path

import numpy as np
from mcap import records
from mcap.data_stream import RecordBuilder
from mcap.reader import make_reader

from edge.recording import channels
from edge.recording.chunk_reader import MAGIC
from edge.recording.reader import Recording, open_recording
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


def chunks_of(flight: bytes) -> list[tuple[int, int, int]]:
    """Return start, end and message count of every chunk, as the index says."""
    summary = make_reader(io.BytesIO(flight)).get_summary()
    counts = []
    for index in summary.chunk_indexes:
        end = index.chunk_start_offset + index.chunk_length
        counts.append((index.chunk_start_offset, end, index.message_index_length // 16))
    return counts


def with_chunk(compression: str, data: bytes, unpacked_bytes: int) -> bytes:
    """Return a file of one chunk that may be a lie."""
    builder = RecordBuilder()
    records.Header(profile="", library="").write(builder)
    records.Metadata(name=channels.METADATA_NAME, metadata={}).write(builder)
    records.Chunk(
        compression=compression,
        data=data,
        message_start_time=0,
        message_end_time=0,
        uncompressed_crc=0,
        uncompressed_size=unpacked_bytes,
    ).write(builder)
    records.Footer(summary_start=0, summary_offset_start=0, summary_crc=0).write(builder)
    return MAGIC + builder.end() + MAGIC


def opened(folder: Path, data: bytes) -> Recording:
    """Open a recording of these bytes."""
    path = folder / "damaged.mcap"
    path.write_bytes(data)
    return open_recording(path)

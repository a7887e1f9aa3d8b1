"""Recovery: whatever happened to the file, every sound chunk is found, and what is missing is told."""

import io
import struct
import zlib
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from recorded import START_NS, UTC_OFFSET_NS, chunks_of, opened, with_chunk, write_flight

from edge.recording.chunk_reader import MAGIC, MAX_CHUNK_BYTES, SEARCH_BUDGET, read_contents
from edge.recording.reader import Recording, open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Truth
from models.errors import RecordingError

WINDOWS = 80


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    write_flight(path, WINDOWS)
    return path.read_bytes()


def _sequences(recording: Recording) -> list[int]:
    return [event.header.sequence for event in recording.events() if event.header]


def test_file_cut_anywhere_keeps_every_complete_chunk(tmp_path: Path, flight: bytes) -> None:
    chunks = chunks_of(flight)
    first_end = chunks[0][1]
    edges = [edge + step for chunk in chunks for edge in chunk[:2] for step in (-1, 0, 1, 9, 57)]
    for cut in sorted({first_end, *[edge for edge in edges if edge > first_end]}):
        recording = opened(tmp_path, flight[:cut])
        complete = sum(count for _, end, count in chunks if end <= cut)
        assert _sequences(recording) == list(range(complete)), cut
        assert recording.damage.is_truncated
        assert cut - recording.damage.skipped_bytes <= len(flight)


def test_file_cut_in_its_index_keeps_everything(tmp_path: Path, flight: bytes) -> None:
    recording = opened(tmp_path, flight[:-10])
    assert recording.event_count == WINDOWS
    assert "no end" in str(recording.damage)


@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_flipped_bit_costs_its_chunk_only_and_is_told(tmp_path: Path, flight: bytes, chunk: int) -> None:
    start, end, count = chunks_of(flight)[chunk]
    damaged = bytearray(flight)
    damaged[(start + end) // 2] ^= 0x10
    recording = opened(tmp_path, bytes(damaged))
    first = sum(count for _, _, count in chunks_of(flight)[:chunk])
    assert _sequences(recording) == [n for n in range(WINDOWS) if not first <= n < first + count]
    assert (recording.damage.bad_chunks, recording.damage.lost_messages) == (1, count)
    assert recording.damage.skipped_bytes == end - start
    assert not recording.damage.is_truncated
    assert recording.streams["radio"].missing == (count if chunk else 0)


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("byte", [0, 1, 3, 6, 8, 25, 37, 41, 46])
def test_flipped_bit_in_the_head_of_a_chunk_does_not_lose_the_ones_behind(
    tmp_path: Path, flight: bytes, byte: int, bit: int
) -> None:
    start, _, count = chunks_of(flight)[1]
    damaged = bytearray(flight)
    damaged[start + byte] ^= 1 << bit
    recording = opened(tmp_path, bytes(damaged))
    assert recording.event_count == WINDOWS - count
    assert recording.damage.is_damaged


def test_damaged_first_chunk_of_a_cut_file_leaves_the_rest_readable(tmp_path: Path, flight: bytes) -> None:
    (start, _, first), (_, second_end, second) = chunks_of(flight)[:2]
    damaged = bytearray(flight[:second_end])
    damaged[start + 200] ^= 1
    assert _sequences(opened(tmp_path, bytes(damaged))) == list(range(first, first + second))


def test_garbage_between_chunks_is_skipped(tmp_path: Path, flight: bytes) -> None:
    start = chunks_of(flight)[2][0]
    recording = opened(tmp_path, flight[:start] + b"\x06garbage" * 500 + flight[start:])
    assert recording.event_count == WINDOWS
    assert recording.damage.skipped_bytes == 4000


def test_damaged_metadata_does_not_cost_the_clock(tmp_path: Path, flight: bytes) -> None:
    damaged = flight.replace(b"uav.recording", b"uav.rec\xff\xff\xff\xff\xff\xff", 1)
    recording = opened(tmp_path, damaged)
    assert recording.start_ns == START_NS + 1_000_000
    assert recording.event_count == WINDOWS


def test_damaged_attachment_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "flight.mcap"
    with RecordingWriter(path) as writer:
        writer.attach("bundle.yaml", "application/yaml", b"trustworthy")
        writer.write_message(Truth(capture_ns=1, class_id=0, label="site"), 1)
    recording = opened(tmp_path, path.read_bytes().replace(b"trustworthy", b"trustwortHy"))
    assert recording.attachments == {}
    assert recording.damage.skipped_bytes > 0
    assert recording.event_count == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_survived_and_what_is_read_is_true(tmp_path: Path, flight: bytes, data: st.DataObject) -> None:
    short = bytearray(flight[: chunks_of(flight)[1][1] + 100])
    for place in data.draw(st.lists(st.integers(8, len(short) - 1), max_size=5)):
        short[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(8, len(short)))
    try:
        recording = opened(tmp_path, bytes(short[:cut]))
    except RecordingError:
        return
    path = tmp_path / "sound.mcap"
    path.write_bytes(flight)
    sound = {event.header.sequence: event for event in open_recording(path).events() if event.header}
    assert all(event == sound[event.header.sequence] for event in recording.events() if event.header)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="an empty file"):
        opened(tmp_path, b"")


def test_other_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="expected an MCAP recording, found a file that starts with 23 21"):
        opened(tmp_path, b"#!/bin/sh\n")


@pytest.mark.parametrize("name", ["absent.mcap", "."])
def test_absent_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        open_recording(tmp_path / name)


def test_file_without_one_sound_chunk_is_refused(tmp_path: Path, flight: bytes) -> None:
    with pytest.raises(RecordingError, match="holds no readable message"):
        opened(tmp_path, flight[:50_000])


def _foreign(path: Path, metadata: dict[str, str], schema: str = "uav.Iq", **options: object) -> None:
    with path.open("wb") as file:
        writer = Writer(file, **options)  # type: ignore[arg-type]
        writer.start()
        channel = writer.register_channel("/iq/radio", "raw", writer.register_schema(schema, "", b""), metadata)
        writer.add_message(channel, log_time=UTC_OFFSET_NS, data=b"x" * 100, publish_time=0, sequence=0)
        writer.finish()


OURS = {"format": "1", "utc_offset_ns": "0", "kind": "IQ", "stream": "radio"}


def test_mcap_of_another_program_is_refused_with_the_remedy(tmp_path: Path) -> None:
    _foreign(tmp_path / "foreign.mcap", {})
    with pytest.raises(RecordingError, match=r"not recorded by uav-edge: compose .* with uav-edge import"):
        open_recording(tmp_path / "foreign.mcap")


def test_messages_outside_chunks_are_not_trusted(tmp_path: Path) -> None:
    _foreign(tmp_path / "foreign.mcap", OURS, use_chunking=False)
    with pytest.raises(RecordingError, match="holds no readable message"):
        open_recording(tmp_path / "foreign.mcap")


@pytest.mark.parametrize(
    ("change", "schema", "complaint"),
    [
        ({"format": "3"}, "uav.Iq", "written in format 3, this program reads up to 2: update"),
        ({}, "uav.Other", "unknown schema uav.Other"),
        ({"kind": "SONAR"}, "uav.Iq", "unknown schema"),
        ({"utc_offset_ns": "x"}, "uav.Iq", "not recorded by uav-edge"),
    ],
)
def test_recording_of_another_version_is_refused(
    tmp_path: Path, change: dict[str, str], schema: str, complaint: str
) -> None:
    _foreign(tmp_path / "other.mcap", {**OURS, **change}, schema)
    with pytest.raises(RecordingError, match=complaint):
        open_recording(tmp_path / "other.mcap")


@pytest.mark.parametrize("name", ["../x", "", ".", "..", "a/b", "a\nb", "x" * 65, "x" * 1_000_000, "pose", "truth"])
def test_stream_whose_name_is_a_path_or_a_topic_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    _foreign(tmp_path / "other.mcap", {**OURS, "stream": name})
    with pytest.raises(RecordingError, match="expected a name of 1 to 64 letters") as caught:
        open_recording(tmp_path / "other.mcap")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["radio", "results", "Front-camera_2.left", "x" * 64])
def test_stream_with_an_ordinary_name_is_read(tmp_path: Path, name: str) -> None:
    _foreign(tmp_path / "other.mcap", {**OURS, "stream": name})
    assert list(open_recording(tmp_path / "other.mcap").streams) == [name]


def test_mavlink_frames_in_a_recording_are_read_as_they_are(tmp_path: Path) -> None:
    _foreign(tmp_path / "other.mcap", {**OURS, "kind": "MAVLINK", "stream": "rx"}, "uav.Mavlink")
    (event,) = open_recording(tmp_path / "other.mcap").events()
    assert (event.stream, event.payload) == ("mavlink/rx", b"x" * 100)


def test_message_that_is_not_what_its_channel_says_is_refused(tmp_path: Path) -> None:
    _foreign(tmp_path / "other.mcap", OURS)
    recording = open_recording(tmp_path / "other.mcap")
    with pytest.raises(RecordingError, match=r"stream radio at .* unusable header"):
        list(recording.events())


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.LZ4])
def test_recording_compressed_by_another_tool_is_read(
    tmp_path: Path, flight: bytes, compression: CompressionType
) -> None:
    with (tmp_path / "small.mcap").open("wb") as file:
        _compress(flight, Writer(file, compression=compression))
    assert _sequences(open_recording(tmp_path / "small.mcap")) == list(range(WINDOWS))


def _compress(flight: bytes, writer: Writer) -> None:
    writer.start()
    known: dict[int, int] = {}
    for schema, channel, message in make_reader(io.BytesIO(flight)).iter_messages():
        if channel.id not in known:
            schema_id = writer.register_schema(schema.name, schema.encoding, schema.data)
            known[channel.id] = writer.register_channel(channel.topic, "raw", schema_id, channel.metadata)
        writer.add_message(known[channel.id], message.log_time, message.data, message.publish_time, message.sequence)
    writer.finish()


BOMB_BYTES = MAX_CHUNK_BYTES + 1


@pytest.mark.parametrize("claim", [BOMB_BYTES, 1000], ids=["honest", "lying"])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_small_file_that_unpacks_to_much_is_refused(tmp_path: Path, compression: str, claim: int) -> None:
    compress = {"zstd": zstandard.compress, "lz4": lz4.frame.compress}[compression]
    bomb = with_chunk(compression, compress(bytes(BOMB_BYTES)), claim)
    assert len(bomb) < 300_000
    with pytest.raises(RecordingError, match="1 bad chunks"):
        opened(tmp_path, bomb)


def test_compressed_garbage_is_a_bad_chunk(tmp_path: Path) -> None:
    for compression in ("zstd", "lz4"):
        with pytest.raises(RecordingError, match="1 bad chunks"):
            opened(tmp_path, with_chunk(compression, b"garbage", 100))


def test_unknown_compression_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="'brotli': expected none, zstd or lz4"):
        opened(tmp_path, with_chunk("brotli", b"garbage", 100))


def test_record_that_claims_more_than_the_file_is_refused_at_once(flight: bytes) -> None:
    lie = MAGIC + b"\x09" + struct.pack("<Q", 1 << 62) + flight[8:]
    contents = read_contents(io.BytesIO(lie), "lie")
    assert len(contents.rows) // 6 == WINDOWS
    assert zlib.crc32(lie) != zlib.crc32(flight)


def test_text_that_claims_to_be_longer_than_any_memory_is_skipped(flight: bytes) -> None:
    body = struct.pack("<QQIIQ", 0, 0, 0, 0, (1 << 64) - 1)
    lie = MAGIC + b"\x09" + struct.pack("<Q", len(body)) + body + flight[8:]
    contents = read_contents(io.BytesIO(lie), "lie")
    assert len(contents.rows) // 6 == WINDOWS
    assert contents.damage.is_damaged


def test_file_full_of_what_looks_like_chunks_is_given_up_in_time() -> None:
    claimed = 1 << 20
    head = struct.pack("<BQQQQIIQ", 6, 40 + claimed, 0, 0, claimed, 1, 0, claimed)
    checked = _CountingFile(MAGIC + bytes(1) + head * 1_000 + bytes(claimed))
    contents = read_contents(checked, "lie")
    assert contents.damage.skipped_bytes == len(checked.getvalue()) - len(MAGIC)
    assert checked.bytes_read < 3 * SEARCH_BUDGET * len(checked.getvalue())


class _CountingFile(io.BytesIO):
    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data

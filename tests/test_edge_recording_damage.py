"""What a recording lost is told: where, how much, and of which stream."""

import struct
import zlib
from pathlib import Path

import pytest
import zstandard
from mcap.writer import Writer
from recorded import PERIOD_NS, START_NS, chunks_of, iq_message, opened, with_chunk, write_flight

from edge.cli import main
from edge.recording import channels
from edge.recording.checksums import combined
from edge.recording.reader import open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Kind, Truth
from models.errors import RecordingError

OURS = {"format": "1", "utc_offset_ns": "0", "kind": "IQ", "stream": "radio"}


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("flight") / "flight.mcap"
    write_flight(path, 80)
    return path.read_bytes()


def test_a_hole_is_told_with_its_time_and_what_each_stream_lost(tmp_path: Path, flight: bytes) -> None:
    start, end, count = chunks_of(flight)[1]
    damaged = bytearray(flight)
    damaged[(start + end) // 2] ^= 0x10
    recording = opened(tmp_path, bytes(damaged))
    (gap,) = recording.gaps()
    first = START_NS + 1_000_000
    assert (gap.begin_ns, gap.end_ns) == (first + (count - 1) * PERIOD_NS, first + 2 * count * PERIOD_NS)
    assert (gap.skipped_bytes, gap.messages) == (end - start, {"radio": count})


def test_a_hole_at_either_end_is_open_there(tmp_path: Path, flight: bytes) -> None:
    chunks = chunks_of(flight)
    damaged = bytearray(flight[: chunks[2][1] - 1])
    damaged[chunks[0][0] + 100] ^= 1
    begin, end = opened(tmp_path, bytes(damaged)).gaps()
    assert (begin.begin_ns, end.end_ns) == (None, None)
    assert begin.end_ns is not None
    assert end.begin_ns is not None
    assert end.messages == {}


def test_damaged_chunks_that_follow_each_other_are_one_hole(tmp_path: Path, flight: bytes) -> None:
    chunks = chunks_of(flight)
    damaged = bytearray(flight)
    for start, end, _ in chunks[1:4]:
        damaged[(start + end) // 2] ^= 1
    recording = opened(tmp_path, bytes(damaged))
    assert [gap.messages for gap in recording.gaps()] == [{"radio": sum(count for _, _, count in chunks[1:4])}]
    assert recording.damage.bad_chunks == 3


def test_events_of_some_streams_are_read_alone(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        writer.write_sensor("radio", *iq_message(0, START_NS), START_NS)
        writer.write_message(Truth(capture_ns=1, class_id=0, label="site"), START_NS + 1)
    recording = open_recording(tmp_path / "flight.mcap")
    assert [event.stream for event in recording.events({"truth"})] == ["truth"]
    assert [event.stream for event in recording.events({"sonar"})] == []


def test_channels_of_other_programs_beside_ours_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "mixed.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        for topic, schema, metadata in (("/iq/radio", "uav.Iq", OURS), ("/tf", "tf2", {}), ("/b", "uav.B", OURS)):
            channel = writer.register_channel(topic, "raw", writer.register_schema(schema, "", b""), metadata)
            writer.add_message(channel, log_time=5, data=b"x", publish_time=0, sequence=0)
        writer.finish()
    recording = open_recording(tmp_path / "mixed.mcap")
    assert list(recording.streams) == ["radio"]
    assert recording.event_count == 1
    assert list(recording.left_out) == ["/tf", "/b"]
    assert "left out" in caplog.text


def test_channel_without_messages_is_no_stream(tmp_path: Path) -> None:
    with (tmp_path / "empty.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("uav.Iq", "", b"")
        writer.register_channel("/iq/silent", "raw", schema, {**OURS, "stream": "silent"})
        channel = writer.register_channel("/iq/radio", "raw", schema, OURS)
        writer.add_message(channel, log_time=5, data=b"x", publish_time=0, sequence=0)
        writer.finish()
    assert list(open_recording(tmp_path / "empty.mcap").streams) == ["radio"]


def test_time_that_goes_backwards_is_told_and_put_in_order(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        for sequence, step in enumerate((0, 1, 2, -1, 0, 5, 3)):
            writer.write_sensor("radio", *iq_message(sequence, START_NS), START_NS + step * PERIOD_NS)
    recording = open_recording(tmp_path / "flight.mcap")
    assert recording.steps_back() == {"radio": 2}
    times = [event.log_ns for event in recording.events()]
    assert times == sorted(times)
    assert recording.duration_ns == 6 * PERIOD_NS


def test_small_file_that_promises_any_number_of_messages_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.recording.chunk_reader.FREE_MESSAGES", 1000)
    message = struct.pack("<BQHIQQ", 5, 22, 1, 0, 0, 0)
    messages = message * 2000
    bomb = with_chunk("zstd", zstandard.compress(messages), len(messages))
    with pytest.raises(RecordingError, match="1 bad chunks"):
        opened(tmp_path, bomb)


@pytest.mark.parametrize("lengths", [(0, 0), (1, 1_000_000), (100_000, 1), (1 << 20, 77)])
def test_checksum_of_two_stretches_is_that_of_the_whole(lengths: tuple[int, int]) -> None:
    first, second = (bytes(range(256)) * (length // 256 + 1) for length in lengths)
    first, second = first[: lengths[0]], second[: lengths[1]]
    assert combined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@pytest.mark.parametrize("data", [b'{"label": "\xff\xfe"}', b"[" * 100_000, b"\xff"], ids=["text", "depth", "byte"])
def test_message_that_is_no_message_is_one_kind_of_error(data: bytes) -> None:
    for kind in (Kind.TRUTH, Kind.POSE, Kind.CLASSIFICATION, Kind.STATUS, Kind.TRACE):
        with pytest.raises(RecordingError, match="not what its schema says"):
            channels.decode_message(kind, memoryview(data))
    with pytest.raises(RecordingError, match="not what its schema says"):
        channels.decode_sensor(Kind.ENCODED_FRAME, memoryview(data), version=1)


def test_message_that_cannot_be_put_on_another_clock_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "odd.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        about = {"format": "2", "utc_offset_ns": "0", "kind": "TRUTH", "stream": ""}
        channel = writer.register_channel("/truth", "json", writer.register_schema("uav.Truth", "", b""), about)
        for number, data in enumerate((b'{"capture_ns": 1, "class_id": 0, "label": "a"}', b"{}")):
            writer.add_message(channel, log_time=number, data=data, publish_time=0, sequence=number)
        writer.finish()
    command = ["recording", "merge", str(tmp_path / "out.mcap"), str(tmp_path / "odd.mcap")]
    assert main([*command, "--clock-offset", "odd=1"]) == 1
    assert "truth: 1 messages hold nothing usable: left out" in capsys.readouterr().out
    assert open_recording(tmp_path / "out.mcap").event_count == 1
    assert main(command) == 0  # as they are, they can be copied

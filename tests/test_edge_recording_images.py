"""Frames are stored as images that Foxglove knows; a library that is not ours reads them by the schema in the file."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import Writer
from recorded import START_NS, UTC_OFFSET_NS, decoded

from edge.cli import main
from edge.recording.image_messages import decode_image, encode_image
from edge.recording.protobuf import block, blocks, fixed32, integer
from edge.recording.reader import Event, open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Kind
from edge.transport.wire import Stamp, encode_array, encode_bytes

FRAME = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
STAMP = Stamp(2, 5, 7, START_NS, START_NS + 3)


def _record(path: Path, parts: tuple[bytes, Any]) -> None:
    with RecordingWriter(path, utc_offset_ns=UTC_OFFSET_NS) as writer:
        writer.write_parts("camera", (parts[0], bytes(parts[1])), START_NS)


def _read_by_schema(path: Path) -> Any:
    """Return the first message as Google's library reads it by the schema in the file."""
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")
    pool = pytest.importorskip("google.protobuf.descriptor_pool").DescriptorPool()
    factory = pytest.importorskip("google.protobuf.message_factory")
    with path.open("rb") as file:
        schema, channel, message = next(iter(make_reader(file).iter_messages()))
    assert schema is not None
    assert (channel.topic, channel.message_encoding, schema.encoding) == ("/image/camera", "protobuf", "protobuf")
    for proto in descriptor.FileDescriptorSet.FromString(schema.data).file:
        pool.Add(proto)
    return factory.GetMessageClass(pool.FindMessageTypeByName(schema.name)).FromString(message.data)


@pytest.mark.parametrize(
    ("payload", "name"), [(b"\xff\xd8\xffrest", "jpeg"), (b"\x89PNG\r\n", "png"), (b"junk" * 100, "unknown")]
)
def test_encoded_frame_is_a_compressed_image(tmp_path: Path, payload: bytes, name: str) -> None:
    _record(tmp_path / "flight.mcap", encode_bytes(Kind.ENCODED_FRAME, STAMP, payload))
    image = _read_by_schema(tmp_path / "flight.mcap")
    assert image.DESCRIPTOR.full_name == "foxglove.CompressedImage"
    assert (image.format, image.frame_id, image.data) == (name, "camera", payload)
    assert (image.timestamp.seconds, image.timestamp.nanos) == (1_700_000_005, 0)


@pytest.mark.parametrize(
    ("frame", "encoding"), [(FRAME, "bgr8"), (FRAME[:, :, :1].copy(), "mono8"), (FRAME.astype(np.int16), "unknown")]
)
def test_raw_frame_is_a_raw_image(tmp_path: Path, frame: np.ndarray, encoding: str) -> None:
    _record(tmp_path / "flight.mcap", encode_array(Kind.FRAME, STAMP, frame))
    image = _read_by_schema(tmp_path / "flight.mcap")
    assert image.DESCRIPTOR.full_name == "foxglove.RawImage"
    assert (image.width, image.height, image.encoding) == (5, 4, encoding)
    assert (image.step, image.data) == (5 * frame.shape[2], frame.tobytes())


def test_fields_have_the_numbers_that_foxglove_gave_them(tmp_path: Path) -> None:
    _record(tmp_path / "raw.mcap", encode_array(Kind.FRAME, STAMP, FRAME))
    _record(tmp_path / "jpeg.mcap", encode_bytes(Kind.ENCODED_FRAME, STAMP, b"x"))
    raw, jpeg = (_read_by_schema(tmp_path / name).DESCRIPTOR.fields for name in ("raw.mcap", "jpeg.mcap"))
    assert {field.name: field.number for field in raw if field.name != "wire_header"} == {
        "timestamp": 1, "frame_id": 7, "width": 2, "height": 3, "encoding": 4, "step": 5, "data": 6,
    }  # fmt: skip
    assert {field.name: field.number for field in jpeg if field.name != "wire_header"} == {
        "timestamp": 1, "frame_id": 4, "data": 2, "format": 3,
    }  # fmt: skip


@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_image_are_refused_with_one_kind_of_error(data: bytes) -> None:
    for kind in (Kind.FRAME, Kind.ENCODED_FRAME):
        try:
            header, payload = decode_image(kind, memoryview(data))
        except ValueError:
            continue
        assert len(header) + len(payload) < len(data)


def test_a_length_beyond_the_message_is_refused() -> None:
    for lie in (b"\x0a\xff\xff\xff\xff\x0f", b"\x0d\x00", b"\x0b", b"\xff" * 11, b"\x0a"):
        with pytest.raises(ValueError, match=r"over the end|no number"):
            list(blocks(memoryview(lie)))


def test_fields_that_we_do_not_know_are_passed_over() -> None:
    header_bytes, payload = encode_bytes(Kind.ENCODED_FRAME, STAMP, b"x" * 300)
    parts = encode_image("camera", decoded(header_bytes), header_bytes, payload, 5)
    foreign = integer(50, 1 << 40) + fixed32(51, 7) + block(52, b"y") + b"\xa9\x06" + bytes(8)
    assert decode_image(Kind.ENCODED_FRAME, memoryview(foreign + b"".join(parts) + foreign)) == (header_bytes, payload)


def _write_old(path: Path) -> tuple[bytes, bytes]:
    """Write a raw and an encoded frame as format 1 stored them; return their wire headers."""
    raw_header, raw = encode_array(Kind.FRAME, STAMP, FRAME)
    jpeg_header, jpeg = encode_bytes(Kind.ENCODED_FRAME, STAMP._replace(sequence=8), b"\xff\xd8jpeg")
    image = {
        "header": base64.b64encode(jpeg_header).decode(), "timestamp": {"sec": 1, "nsec": 2}, "frame_id": "camera",
        "format": "jpeg", "data": base64.b64encode(jpeg).decode(),
    }  # fmt: skip
    about = {"format": "1", "utc_offset_ns": str(UTC_OFFSET_NS), "stream": "camera"}
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        for kind, schema, data, sequence in (
            ("FRAME", "uav.Frame", raw_header + bytes(raw), 7),
            ("ENCODED_FRAME", "foxglove.CompressedImage", json.dumps(image).encode(), 8),
        ):
            schema_id = writer.register_schema(schema, "", b"")
            channel = writer.register_channel("/image/camera", "raw", schema_id, {**about, "kind": kind})
            time_ns = UTC_OFFSET_NS + START_NS + sequence
            writer.add_message(channel, log_time=time_ns, publish_time=time_ns, data=data, sequence=sequence)
        writer.finish()
    return raw_header, jpeg_header


def _assert_frames(events: list[Event], headers: tuple[bytes, bytes]) -> None:
    raw, jpeg = events
    assert (raw.header, raw.payload) == (decoded(headers[0]), FRAME.tobytes())
    assert (jpeg.header, jpeg.payload) == (decoded(headers[1]), b"\xff\xd8jpeg")


def test_frames_of_older_recordings_are_read(tmp_path: Path) -> None:
    headers = _write_old(tmp_path / "old.mcap")
    _assert_frames(list(open_recording(tmp_path / "old.mcap").events()), headers)


def test_repair_brings_older_recordings_into_the_present_format(tmp_path: Path) -> None:
    headers = _write_old(tmp_path / "old.mcap")
    assert main(["recording", "repair", str(tmp_path / "old.mcap"), str(tmp_path / "new.mcap")]) == 0
    _assert_frames(list(open_recording(tmp_path / "new.mcap").events()), headers)
    assert _read_by_schema(tmp_path / "new.mcap").DESCRIPTOR.full_name == "foxglove.RawImage"


def test_older_image_that_is_none_is_left_out_of_an_export(tmp_path: Path) -> None:
    with (tmp_path / "odd.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("foxglove.CompressedImage", "", b"")
        about = {"format": "1", "utc_offset_ns": "0", "stream": "camera", "kind": "ENCODED_FRAME"}
        channel = writer.register_channel("/image/camera", "json", schema, about)
        writer.add_message(channel, log_time=1, publish_time=1, data=b'{"data": 5}', sequence=0)
        writer.finish()
    assert main(["recording", "export", str(tmp_path / "odd.mcap"), str(tmp_path / "out")]) == 1
    assert list((tmp_path / "out" / "camera").iterdir()) == []

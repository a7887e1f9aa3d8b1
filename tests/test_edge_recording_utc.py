"""Times as they are written in files, tables, names and pictures."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.recording.imports.exif import exif_utc
from edge.recording.imports.image_times import image_times
from edge.recording.imports.utc import parse_utc, utc_in_name, utc_text
from models.errors import RecordingError

NS = 1_000_000_000
JAN_31 = 1_769_869_530 * NS
"""2026-01-31T14:25:30Z"""


@pytest.mark.parametrize(
    ("text", "extra_ns"),
    [
        ("2026-01-31T14:25:30Z", 0),
        ("2026-01-31 14:25:30", 0),
        ("2026:01:31 14:25:30", 0),
        (" 2026-01-31t14:25:30.25z ", 250_000_000),
        ("2026-01-31T14:25:30.123456789Z", 123_456_789),
        ("2026-01-31T14:25:30.123456789999Z", 123_456_789),
        ("2026-01-31T16:25:30+02:00", 0),
        ("2026-01-31T08:55:30-0530", 0),
        ("1769869530", 0),
        ("1769869530.5", 500_000_000),
        ("1769869530250", 250_000_000),
        ("1769869530250001", 250_001_000),
        ("1769869530250001002", 250_001_002),
    ],
)
def test_a_time_is_understood_however_it_is_written(text: str, extra_ns: int) -> None:
    assert parse_utc(text) == JAN_31 + extra_ns


@pytest.mark.parametrize(
    "text", ["", "now", "2026-02-30T14:25:30Z", "2026-01-31", "2026-01-31T25:00:00Z", "nan", "-5", "1e9", "12345678901"]
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert parse_utc(text) is None


@pytest.mark.parametrize(
    ("name", "extra_ns"),
    [
        ("20260131_142530", 0),
        ("IMG_20260131_142530_250", 250_000_000),
        ("cam1-2026-01-31T14-25-30.123456", 123_456_000),
        ("frame_20260131142530", 0),
        ("1769869530.5", 500_000_000),
        ("frame-1769869530250", 250_000_000),
        ("left_1769869530_250001002_rgb", 250_001_002),
    ],
)
def test_a_name_tells_its_time(name: str, extra_ns: int) -> None:
    assert utc_in_name(name) == JAN_31 + extra_ns


@pytest.mark.parametrize("name", ["", "dji_0018", "000123", "20269931_142530", "99999"])
def test_a_name_without_a_time_tells_none(name: str) -> None:
    assert utc_in_name(name) is None


@given(st.integers(0, 4 * 10**18 // 1_000_000))
def test_a_time_survives_being_written(time_ms: int) -> None:
    assert parse_utc(utc_text(time_ms * 1_000_000)) == time_ms * 1_000_000


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert all(time_ns is None or isinstance(time_ns, int) for time_ns in (parse_utc(text), utc_in_name(text)))


def jpeg_with(tags: dict[int, bytes], order: str = "<") -> bytes:
    """Return the beginning of a JPEG with texts in its Exif directory."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    inner = 8 + 2 + 12 + 4
    head += struct.pack(order + "HHHIII", 1, 0x8769, 4, 1, inner, 0)
    at = inner + 2 + 12 * len(tags) + 4
    entries, texts = b"", b""
    for tag, text in sorted(tags.items()):
        place = text.ljust(4, b"\0") if len(text) <= 4 else struct.pack(order + "I", at + len(texts))
        entries += struct.pack(order + "HHI", tag, 2, len(text)) + place
        texts += text if len(text) > 4 else b""
    body = b"Exif\0\0" + head + struct.pack(order + "H", len(tags)) + entries + bytes(4) + texts
    jfif = b"\xff\xe0\x00\x10JFIF\0" + bytes(9)
    return b"\xff\xd8" + jfif + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + b"\xff\xda\0\0"


TAKEN = {0x9003: b"2026:01:31 14:25:30\0"}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("more", "extra_ns"),
    [
        ({}, 0),
        ({0x9291: b"25\0"}, 250_000_000),
        ({0x9291: b"123456\0"}, 123_456_000),
        ({0x9291: b"5\0", 0x9011: b"+01:00\0"}, 500_000_000 - 3600 * NS),
        ({0x9291: b"  \0"}, 0),
        ({0x9291: b"x\0"}, 0),
    ],
)
def test_a_picture_tells_when_it_was_taken(order: str, more: dict[int, bytes], extra_ns: int) -> None:
    assert exif_utc(jpeg_with(TAKEN | more, order)) == JAN_31 + extra_ns


@pytest.mark.parametrize(
    "head", [b"", b"\xff\xd8", b"\x89PNG", jpeg_with({}), jpeg_with({0x9003: b"0000:00:00 00:00:00\0"})]
)
def test_a_picture_without_a_time_tells_none(head: bytes) -> None:
    assert exif_utc(head) is None


@given(st.data())
def test_a_damaged_picture_tells_a_time_or_none(data: st.DataObject) -> None:
    head = bytearray(jpeg_with(TAKEN | {0x9291: b"123456\0"}))
    for _ in range(data.draw(st.integers(1, 8))):
        head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(head[: data.draw(st.integers(0, len(head)))])
    assert exif_utc(cut) is None or isinstance(exif_utc(cut), int)


def _paths(tmp_path: Path, *names: str) -> list[Path]:
    for name in names:
        (tmp_path / name).write_bytes(jpeg_with(TAKEN))
    return [tmp_path / name for name in names]


def test_a_table_tells_times_by_file(tmp_path: Path) -> None:
    paths = _paths(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "t.csv").write_text(
        "\ufeffFile, Time ,x\na.jpg,2026-01-31T14:25:30Z,1\nb,1769869531,2\nzzz,1769869531,3\n"
    )
    times = image_times(paths, str(tmp_path / "t.csv"))
    assert times == {paths[0]: JAN_31, paths[1]: JAN_31 + NS}


def test_exif_is_read_of_each_file(tmp_path: Path) -> None:
    paths = _paths(tmp_path, "a.jpg")
    assert image_times(paths, "exif") == {paths[0]: JAN_31}


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (b"", "expected a column file and a column time, found ''"),
        (b"a,b\n1,2\n", "found 'a, b'"),
        (b"file,time\na.jpg,noon\n", "line 2: 'noon' is no time"),
        (b"file,time\na.jpg\n", "line 2: '' is no time"),
        (b"file,time\nother.jpg,1769869530\n", "no time of any of 1 images"),
        (b"\xff\xfe\x00", "not a CSV file"),
        (b"file,time\n" + b'"' + b"x" * 200_000, "not a CSV file"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, table: bytes, complaint: str) -> None:
    (tmp_path / "t.csv").write_bytes(table)
    with pytest.raises(RecordingError, match=complaint):
        image_times(_paths(tmp_path, "a.jpg"), str(tmp_path / "t.csv"))


@pytest.mark.parametrize(("by", "complaint"), [("names", "expected names such as"), ("absent.csv", "cannot be read")])
def test_images_of_which_nothing_tells_the_time_are_refused(tmp_path: Path, by: str, complaint: str) -> None:
    with pytest.raises(RecordingError, match=complaint):
        image_times(_paths(tmp_path, "a.jpg"), by)

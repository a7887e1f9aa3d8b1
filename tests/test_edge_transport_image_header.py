import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.transport.image_header import encoded_image_size, has_end

cv2 = pytest.importorskip("cv2")


def _encoded(extension: str, width: int, height: int) -> bytes:
    return cv2.imencode(extension, np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def _jpeg_claiming(width: int, height: int) -> bytes:
    """Return a small valid JPEG whose frame header was patched to another size."""
    jpeg = bytearray(_encoded(".jpg", 8, 8))
    at = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, at + 5, height, width)
    return bytes(jpeg)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 480), (33, 700)])
def test_size_is_that_of_the_decoded_image(extension: str, width: int, height: int) -> None:
    assert encoded_image_size(_encoded(extension, width, height)) == (width, height)


def test_progressive_jpeg_has_a_size_too() -> None:
    jpeg = cv2.imencode(".jpg", np.zeros((24, 40, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert encoded_image_size(jpeg) == (40, 24)


def test_small_file_that_claims_a_huge_image_is_seen_through() -> None:
    bomb = _jpeg_claiming(30_000, 30_000)
    assert len(bomb) < 1000
    assert encoded_image_size(bomb) == (30_000, 30_000)


def test_png_that_claims_a_huge_image_is_seen_through() -> None:
    png = bytearray(_encoded(".png", 8, 8))
    struct.pack_into(">II", png, 16, 0x7FFFFFFF, 20_000)
    assert encoded_image_size(bytes(png)) == (0x7FFFFFFF, 20_000)


def test_segments_and_fill_bytes_before_the_frame_header_are_walked_over() -> None:
    jpeg = _encoded(".jpg", 20, 10)
    comment = b"\xff\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc0\x00\x01"
    assert encoded_image_size(jpeg[:2] + comment + jpeg[2:]) == (20, 10)


def test_frame_header_inside_a_thumbnail_is_not_taken_for_the_image() -> None:
    thumbnail = _encoded(".jpg", 160, 120)
    jpeg = _encoded(".jpg", 20, 10)
    exif = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert encoded_image_size(jpeg[:2] + exif + jpeg[2:]) == (20, 10)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_header_cut_anywhere_has_no_size(extension: str) -> None:
    image = _encoded(extension, 20, 10)
    end = image.index(b"\xff\xc0") + 9 if extension == ".jpg" else 24
    assert [encoded_image_size(image[:length]) for length in range(end)] == [None] * end
    assert encoded_image_size(image[:end]) == (20, 10)


@pytest.mark.parametrize("claim", [(0, 10), (10, 0)])
def test_size_without_area_is_none(claim: tuple[int, int]) -> None:
    assert encoded_image_size(_jpeg_claiming(*claim)) is None


def test_other_formats_are_not_images() -> None:
    assert encoded_image_size(_encoded(".bmp", 8, 8)) is None
    assert encoded_image_size(_encoded(".webp", 8, 8)) is None


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: b"\xff\xd8\xff" + tail))
@example(b"")
@example(b"\xff\xd8" + b"\xff" * 5000)
@example(b"\xff\xd8\xff\xe0\x00\x00" * 3000)
def test_any_bytes_give_a_size_or_none(data: bytes) -> None:
    for view in (data, memoryview(data)):
        size = encoded_image_size(view)
        assert size is None or (len(size) == 2 and min(size) > 0)


@given(st.integers(0, 600), st.integers(0, 255))
def test_any_flipped_byte_gives_a_size_or_none(place: int, value: int) -> None:
    jpeg = bytearray(_jpeg_claiming(64, 48))
    jpeg[place % len(jpeg)] = value
    size = encoded_image_size(bytes(jpeg))
    assert size is None or min(size) > 0


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_image_cut_anywhere_lacks_its_end(extension: str) -> None:
    image = _encoded(extension, 20, 10)
    assert not any(has_end(image[:length]) for length in range(len(image)))


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("padding", [0, 1, 1000])
def test_whole_image_has_its_end_also_before_padding(extension: str, padding: int) -> None:
    image = _encoded(extension, 20, 10) + bytes(padding)
    assert has_end(image)
    assert has_end(memoryview(image))

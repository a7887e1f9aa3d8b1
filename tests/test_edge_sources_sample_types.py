"""Every type that SigMF can name, on the wire; and bare files of samples."""

from pathlib import Path

import numpy as np
import pytest

from edge.sources.raw_iq import RAW_TYPES, read_raw
from edge.sources.sample_types import as_wire, complex_dtype, is_real
from edge.transport.messages import Kind
from edge.transport.wire import Stamp, encode_array
from models.errors import ConfigError, RecordingError

WIDE = [f"{name}_{order}" for name in ("cu16", "ci16", "cu32", "ci32", "cf32", "cf64") for order in ("le", "be")]
STAMP = Stamp(1, 1, 0, 1, 1)


def _levels(name: str) -> np.ndarray:
    """Return samples of a type that stand for -0.5, 0, 0.25 and 0.5 of full scale."""
    dtype = complex_dtype(name)
    assert dtype is not None
    levels = np.array([[-0.5, 0.0], [0.25, 0.5]])
    if dtype.kind == "f":
        return levels.astype(dtype)
    half = 2.0 ** (8 * dtype.itemsize - 1)
    return (levels * half + (half if dtype.kind == "u" else 0)).astype(dtype)


@pytest.mark.parametrize("name", ["cu8", "ci8", *WIDE])
def test_every_complex_type_reaches_the_wire_with_its_meaning(name: str) -> None:
    sent = as_wire(_levels(name))
    encode_array(Kind.IQ, STAMP, sent)
    full = {np.dtype(np.uint8): (128, 128), np.dtype(np.int8): (128, 0), np.dtype(np.int16): (1 << 15, 0)}
    scale, middle = full.get(sent.dtype, (1.0, 0))
    assert np.array_equal((sent.astype(float) - middle) / scale, [[-0.5, 0.0], [0.25, 0.5]])


@pytest.mark.parametrize("name", ["ci16_be", "cf32_be"])
def test_big_endian_values_are_kept_exactly(name: str) -> None:
    dtype = complex_dtype(name)
    samples = np.array([[-32768, 32767], [1, -2]]).astype(dtype)
    sent = as_wire(samples)
    assert sent.dtype.isnative
    assert np.array_equal(sent, samples)


def test_the_ends_of_uint16_do_not_wrap() -> None:
    assert as_wire(np.array([[0, 65535]], "<u2")).tolist() == [[-32768, 32767]]


def test_the_ends_of_32_bit_integers_are_full_scale() -> None:
    assert as_wire(np.array([[-(1 << 31), (1 << 31) - 1]], "<i4")).tolist() == [[-1.0, 1.0]]


def test_what_float32_cannot_hold_becomes_infinite_without_a_warning() -> None:
    assert np.isinf(as_wire(np.array([[1e300, 0.0]], "<f8"))[0, 0])


@pytest.mark.parametrize(
    "name", ["", "cu16", "ci16", "cf32", "cf16_le", "cu8_le", "cf8", "c", "cu64_le", "ci64_be", "xi16_le", "ci16_le\n"]
)
def test_other_names_are_no_types(name: str) -> None:
    assert complex_dtype(name) is None


@pytest.mark.parametrize("name", ["ru8", "ri8", "rf32_le", "ri16_be"])
def test_real_types_are_told_apart(name: str) -> None:
    assert is_real(name)
    assert complex_dtype(name) is None


@pytest.mark.parametrize("ending", RAW_TYPES)
def test_a_bare_file_is_read_as_its_ending_says(tmp_path: Path, ending: str) -> None:
    dtype = complex_dtype(RAW_TYPES[ending])
    samples = np.arange(40).reshape(-1, 2).astype(dtype)
    path = tmp_path / f"a.{ending}"
    path.write_bytes(samples.tobytes())
    recording = read_raw(path, 2e6, 433.92e6)
    assert np.array_equal(recording.samples, samples)
    assert (recording.sample_rate_hz, recording.centre_hz(3)) == (2e6, 433.92e6)


def test_the_type_of_a_bare_file_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.data"
    path.write_bytes(bytes(16))
    assert read_raw(path, 2e6, raw_type="cs16").datatype == "ci16_le"
    with pytest.raises(ConfigError, match="name it by --raw-type"):
        read_raw(path, 2e6)


def test_bytes_after_the_last_whole_sample_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.cs16"
    path.write_bytes(bytes(4 * 10 + 3))
    assert len(read_raw(path, 2e6).samples) == 10


@pytest.mark.parametrize("data", [b"", b"abc"])
def test_a_bare_file_without_a_sample_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.cs16"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match="not one sample"):
        read_raw(path, 2e6)


@pytest.mark.parametrize("name", ["absent.cu8", "."])
def test_a_bare_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        read_raw(tmp_path / name, 2e6, raw_type="cu8")

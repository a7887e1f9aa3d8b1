"""SigMF recordings of one radio channel: metadata read strictly, samples mapped into memory as they are.

Source: SigMF specification 1.2 (github.com/sigmf/SigMF), names in the `core` namespace.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.sources.sample_types import EXPECTED, as_wire, complex_dtype, is_real
from models.errors import RecordingError

MAX_META_BYTES = 64 << 20
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Global(msgspec.Struct, frozen=True):
    datatype: str = msgspec.field(name="core:datatype")
    sample_rate_hz: Annotated[float, msgspec.Meta(gt=0, le=1e11)] = msgspec.field(name="core:sample_rate")
    channels: int = msgspec.field(name="core:num_channels", default=1)
    dataset: str | None = msgspec.field(name="core:dataset", default=None)
    sha512: str | None = msgspec.field(name="core:sha512", default=None)
    trailing_bytes: _Count = msgspec.field(name="core:trailing_bytes", default=0)


class Capture(msgspec.Struct, frozen=True):
    """What holds from one sample on."""

    sample_start: _Count = msgspec.field(name="core:sample_start")
    centre_hz: float = msgspec.field(name="core:frequency", default=0.0)
    datetime: str | None = msgspec.field(name="core:datetime", default=None)
    header_bytes: _Count = msgspec.field(name="core:header_bytes", default=0)


class Annotation(msgspec.Struct, frozen=True):
    """What somebody, or a program, saw in a part of the samples."""

    sample_start: _Count = msgspec.field(name="core:sample_start")
    sample_count: _Count = msgspec.field(name="core:sample_count", default=0)
    label: str = msgspec.field(name="core:label", default="")


class _Meta(msgspec.Struct, frozen=True):
    head: _Global = msgspec.field(name="global")
    captures: tuple[Capture, ...]
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SigmfRecording:
    """A radio recording."""

    samples: NDArray[Any]
    """(samples, 2) I and Q in the recording's own type, mapped read-only."""
    datatype: str
    sample_rate_hz: float
    captures: tuple[Capture, ...]
    """In order of their first samples; at least one."""
    annotations: tuple[Annotation, ...]
    sha512: str | None = None
    """Of the data file, as the metadata say; None where they do not."""

    def window(self, first: int, count: int) -> NDArray[Any]:
        """Return samples as they go over the wire: (count, 2), contiguous, see `as_wire`."""
        return as_wire(self.samples[first : first + count])

    def centre_hz(self, sample: int) -> float:
        """Return the tuned frequency at a sample."""
        return max(
            (c for c in self.captures if c.sample_start <= sample), key=_start, default=self.captures[0]
        ).centre_hz


def read_sigmf(path: Path) -> SigmfRecording:
    """Open a recording by its .sigmf-meta (or .sigmf-data) file.

    Raises:
        RecordingError: a file is absent, the metadata are not valid, of another kind than one channel of complex
            samples, or speak of samples that the data file does not have.
    """
    path = path.with_suffix(".sigmf-meta") if path.suffix == ".sigmf-data" else path
    meta = _read_meta(path)
    dtype = complex_dtype(meta.head.datatype)
    if dtype is None:
        found = f"{meta.head.datatype!r}, real samples" if is_real(meta.head.datatype) else repr(meta.head.datatype)
        raise RecordingError(f"{path}: core:datatype is {found}, expected {EXPECTED}: convert the data")
    if meta.head.channels != 1 or meta.head.trailing_bytes or any(c.header_bytes for c in meta.captures):
        raise RecordingError(f"{path}: expected one channel and bare samples, without header or trailing bytes")
    dataset = meta.head.dataset or path.with_suffix(".sigmf-data").name
    if Path(dataset).name != dataset:
        raise RecordingError(f"{path}: core:dataset is {dataset!r}, expected the name of a file beside the metadata")
    samples = _map_samples(path.with_name(dataset), dtype)
    _check_extent(path, meta, len(samples))
    return SigmfRecording(
        samples=samples,
        datatype=meta.head.datatype,
        sample_rate_hz=meta.head.sample_rate_hz,
        captures=tuple(sorted(meta.captures, key=_start)),
        annotations=meta.annotations,
        sha512=meta.head.sha512,
    )


def check_digest(path: Path, recording: SigmfRecording) -> None:
    """Raise RecordingError where the samples are not those that the metadata's checksum was made of."""
    if recording.sha512 is None:
        return
    found = hashlib.sha512(recording.samples.data).hexdigest()
    if found != recording.sha512.lower():
        raise RecordingError(
            f"{path}: core:sha512 is {recording.sha512[:12]}..., the data's is {found[:12]}...:"
            " the data were changed or damaged: copy them again"
        )


def _start(capture: Capture) -> int:
    return capture.sample_start


def _read_meta(path: Path) -> _Meta:
    try:
        if path.stat().st_size > MAX_META_BYTES:
            raise RecordingError(f"{path}: more than {MAX_META_BYTES} bytes of metadata: is this the data file?")
        return msgspec.json.decode(path.read_bytes(), type=_Meta)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): name an existing .sigmf-meta file") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(f"{path}: not SigMF metadata: {error}: export the recording again") from error


def _map_samples(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        size = path.stat().st_size
        if size == 0 or size % (2 * dtype.itemsize):
            raise RecordingError(
                f"{path}: {size} bytes, expected a positive multiple of {2 * dtype.itemsize} ({dtype.name} I and Q):"
                " the file is cut off or of another type"
            )
        return np.memmap(path, dtype=dtype, mode="r").reshape(-1, 2)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): put it beside its metadata") from error


def _check_extent(path: Path, meta: _Meta, samples: int) -> None:
    ends = [capture.sample_start + 1 for capture in meta.captures]
    ends += [note.sample_start + note.sample_count for note in meta.annotations]
    if not meta.captures:
        raise RecordingError(f"{path}: captures is empty: expected at least one")
    if max(ends) > samples:
        raise RecordingError(
            f"{path}: speaks of sample {max(ends)}, but the data end at {samples}: the data file was cut off"
        )

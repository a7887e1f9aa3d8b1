"""A folder of images, as they are, at a rate or at their own times."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.recording.composition import CAMERA, Moment, Part
from edge.recording.imports.image_times import image_times
from edge.recording.imports.source import NS_PER_S, Place, Source
from edge.transport.image_header import encoded_image_size, has_end
from models.errors import RecordingError

MAX_IMAGE_BYTES = 32 << 20
MAX_IMAGE_PX = 1 << 26
SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_UTC_FROM_NS = 10**18
"""Times before 2001 count from some other beginning."""


def image_source(folder: Path, fps: float, times: str | None = None) -> Source:
    """Return the JPEG and PNG files of a folder.

    Args:
        folder: where they are.
        fps: images a second in the order of their names, where `times` does not tell.
        times: see `image_times`; those of which no time is told are left out.
    Raises:
        RecordingError: no such folder, no image in it, or no time of any. When the moments are asked for: an image
            that is damaged or claims too many pixels.
    """
    paths = _images_in(folder)
    if times is None:
        count = len(paths)
        elapsed_ns = [round(n * NS_PER_S / fps) for n in range(count)]
        span_ns, utc_ns = round(count * NS_PER_S / fps), None
        about = f"{count} images of {folder.name}, {fps:g} a second"
    else:
        taken = image_times(paths, times)
        missing = len(paths) - len(taken)
        paths = sorted(taken, key=lambda path: (taken[path], path.name))
        begin_ns = taken[paths[0]]
        elapsed_ns = [taken[path] - begin_ns for path in paths]
        utc_ns = begin_ns if begin_ns >= _UTC_FROM_NS else None
        span_ns = elapsed_ns[-1]
        about = f"{len(paths)} images of {folder.name}, times by {Path(times).name}"
        about += f", {missing} left out (no time)" if missing else ""

    def parts(place: Place) -> list[Part]:
        moments = _moments(paths, [place.at(elapsed) for elapsed in elapsed_ns])
        return [Part(name=CAMERA, origin=about, moments=moments, count=len(paths), end_ns=place.at(span_ns))]

    return Source(name=folder.stem, kind=CAMERA, span_ns=span_ns, utc_ns=utc_ns, clock=None, parts=parts)


def _images_in(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be read ({error.strerror}): name a folder of images") from error
    if not paths:
        raise RecordingError(f"{folder}: no image: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return paths


def _moments(paths: Sequence[Path], times_ns: Sequence[int]) -> Iterator[Moment]:
    for path, capture_ns in zip(paths, times_ns, strict=True):
        yield Moment(capture_ns=capture_ns, arrival_ns=capture_ns, content=read_image(path))


def read_image(path: Path) -> bytes:
    """Return a JPEG or PNG file that is there to its end, and whose sound header claims an acceptable size.

    Raises:
        RecordingError: cannot be read, too large, no such image, or cut short.
    """
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise RecordingError(f"{path}: more than {MAX_IMAGE_BYTES} bytes: make it smaller")
        data = path.read_bytes()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    size = encoded_image_size(data)
    if size is None:
        raise RecordingError(f"{path}: not a JPEG or PNG that can be decoded: remove it, or save it again")
    if not has_end(data):
        raise RecordingError(f"{path}: ends in the middle of the image: remove it, or save it again")
    if size[0] * size[1] > MAX_IMAGE_PX:
        raise RecordingError(f"{path}: claims {size[0]} x {size[1]} pixels, at most {MAX_IMAGE_PX} are accepted")
    return data

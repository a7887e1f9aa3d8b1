"""A video, its frames at their own times."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.recording.composition import CAMERA, Moment, Part
from edge.recording.imports.source import NS_PER_S, Place, Source
from models.errors import RecordingError
from models.preprocess import opencv

JPEG_QUALITY = 95
_DEFAULT_FPS = 25.0
_MAX_FRAMES = 10_000_000
_MAX_STEP_NS = 3_600 * NS_PER_S
"""A frame that claims to come later, or before the last one, comes one period after it."""


def video_source(path: Path) -> Source:
    """Return the frames of a video, as JPEG.

    Raises:
        RecordingError: absent, or not a video that OpenCV can decode; when the moments are asked for, without a frame.
        DeviceError: OpenCV is not installed.
    """
    cv2 = opencv()
    if not path.is_file():
        raise RecordingError(f"{path}: no such file: name a video")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise RecordingError(f"{path}: not a video that this OpenCV can decode: convert it to H.264 in MP4")
    count = int(min(max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 1), _MAX_FRAMES))
    fps = capture.get(cv2.CAP_PROP_FPS)
    period_ns = round(NS_PER_S / (fps if 0.1 < fps < 10_000 else _DEFAULT_FPS))
    origin = f"{path.name}, {count} frames, {fps:g} a second, as JPEG of quality {JPEG_QUALITY}"

    def parts(place: Place) -> list[Part]:
        moments = _moments(path, capture, place, period_ns)
        return [Part(name=CAMERA, origin=origin, moments=moments, count=count, end_ns=place.at(count * period_ns))]

    return Source(name=path.stem, kind=CAMERA, span_ns=count * period_ns, utc_ns=None, clock=None, parts=parts)


def _moments(path: Path, capture: Any, place: Place, period_ns: int) -> Iterator[Moment]:
    cv2 = opencv()
    last_ns = -period_ns
    while True:
        is_read, frame = capture.read()
        if not is_read:
            break
        due_ns = capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6
        last_ns = round(due_ns) if last_ns < due_ns < last_ns + _MAX_STEP_NS else last_ns + period_ns
        _, jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        yield Moment(capture_ns=place.at(last_ns), arrival_ns=place.at(last_ns), content=jpeg.tobytes())
    capture.release()
    if last_ns < 0:
        raise RecordingError(f"{path}: not one frame can be read: is the file whole? Convert it to H.264 in MP4")

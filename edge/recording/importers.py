"""Reads what a recording can be composed of: radio recordings, images, a video, a flight log."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from edge.mavlink.dataflash import LoggedFlight, read_dataflash
from edge.recording.composition import CAMERA, RADIO, Moment, Part, Window
from edge.sources.sdr_file import MIN_WINDOW_SAMPLES, window_and_hop
from edge.sources.sigmf import read_sigmf
from edge.transport.image_header import encoded_image_size, has_end
from models.errors import RecordingError
from models.preprocess import opencv

POSE = "pose"
MAX_IMAGE_BYTES = 32 << 20
MAX_IMAGE_PX = 1 << 26
MAX_WINDOWS_HZ = 100.0
JPEG_QUALITY = 95
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_NS_PER_S = 1_000_000_000


def radio_part(path: Path, begin_ns: int, rate_hz: float | None = None) -> Part:
    """Return the windows of a SigMF recording.

    Args:
        path: the .sigmf-meta file.
        begin_ns: when its first sample was captured.
        rate_hz: windows a second, overlapping where they must; None: back to back.
    Raises:
        RecordingError: not a usable recording, or shorter than one window.
    """
    recording = read_sigmf(path)
    if rate_hz is None:
        window = hop = max(MIN_WINDOW_SAMPLES, round(recording.sample_rate_hz / MAX_WINDOWS_HZ))
    else:
        window, hop = window_and_hop(recording.sample_rate_hz, rate_hz)
    starts = range(0, len(recording.samples) - window + 1, hop)
    if not starts:
        raise RecordingError(
            f"{path}: {len(recording.samples)} samples are fewer than a window of {window}: take a longer recording"
        )
    ns_per_sample = _NS_PER_S / recording.sample_rate_hz

    def moments() -> Iterator[Moment]:
        for first in starts:
            capture_ns = begin_ns + round(first * ns_per_sample)
            content = Window(
                samples=np.ascontiguousarray(recording.samples[first : first + window]),
                sample_rate_hz=recording.sample_rate_hz,
                centre_hz=recording.centre_hz(first),
            )
            arrival_ns = capture_ns + round(window * ns_per_sample)
            yield Moment(capture_ns=capture_ns, arrival_ns=arrival_ns, content=content)

    return Part(
        name=RADIO,
        origin=f"{path.name} ({recording.datatype}, {recording.sample_rate_hz:g} samples/s)",
        moments=moments(),
        count=len(starts),
        end_ns=begin_ns + round(len(recording.samples) * ns_per_sample),
    )


def image_part(folder: Path, begin_ns: int, fps: float) -> Part:
    """Return the JPEG and PNG files of a folder, in the order of their names, as they are.

    Raises:
        RecordingError: no such folder, no image in it, or one that is damaged or claims too many pixels.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be read ({error.strerror}): name a folder of images") from error
    if not paths:
        raise RecordingError(f"{folder}: no image: expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}")

    def moments() -> Iterator[Moment]:
        for n, path in enumerate(paths):
            capture_ns = begin_ns + round(n * _NS_PER_S / fps)
            yield Moment(capture_ns=capture_ns, arrival_ns=capture_ns, content=read_image(path))

    return Part(
        name=CAMERA,
        origin=f"{len(paths)} images of {folder.name}, {fps:g} a second",
        moments=moments(),
        count=len(paths),
        end_ns=begin_ns + round(len(paths) * _NS_PER_S / fps),
    )


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


def video_part(path: Path, begin_ns: int) -> Part:
    """Return the frames of a video at their own times, as JPEG.

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
    count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 1)
    fps = capture.get(cv2.CAP_PROP_FPS)
    period_ns = round(_NS_PER_S / fps) if 0.1 < fps < 10_000 else _NS_PER_S // 25

    def moments() -> Iterator[Moment]:
        last_ns = begin_ns - period_ns
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            due_ns = begin_ns + round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
            last_ns = due_ns if due_ns > last_ns else last_ns + period_ns
            _, jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            yield Moment(capture_ns=last_ns, arrival_ns=last_ns, content=jpeg.tobytes())
        capture.release()
        if last_ns < begin_ns:
            raise RecordingError(f"{path}: not one frame can be read: is the file whole? Convert it to H.264 in MP4")

    origin = f"{path.name}, {fps:g} a second, as JPEG of quality {JPEG_QUALITY}"
    return Part(name=CAMERA, origin=origin, moments=moments(), count=count, end_ns=begin_ns + count * period_ns)


def pose_part(path: Path, flight: LoggedFlight, begin_ns: int, end_ns: int | None) -> Part:
    """Return a log's poses from its first good fix on, up to `end_ns` if given."""
    shift_ns = begin_ns - flight.poses[0].capture_ns
    poses = [msgspec.structs.replace(pose, capture_ns=pose.capture_ns + shift_ns) for pose in flight.poses]
    poses = [pose for pose in poses if end_ns is None or pose.capture_ns <= end_ns]
    left_out = "".join(f", {count} fixes left out ({reason})" for reason, count in flight.refused.items())
    return Part(
        name=POSE,
        origin=f"{path.name} from its first good fix on{left_out}",
        moments=(Moment(capture_ns=pose.capture_ns, arrival_ns=pose.capture_ns, content=pose) for pose in poses),
        count=len(poses),
        end_ns=poses[-1].capture_ns if poses else begin_ns,
    )


def stretched_pose_part(path: Path, begin_ns: int, end_ns: int, period_ns: int) -> Part:
    """Return a log's whole track, its time stretched or squeezed to a span: what was where stays true, when does not.

    Raises:
        RecordingError: not an ArduPilot log, or without one usable fix.
    """
    poses = read_dataflash(path).poses
    times_ns = range(begin_ns, end_ns, period_ns)
    first_ns, last_ns = poses[0].capture_ns, poses[-1].capture_ns
    logged_ns = np.array([pose.capture_ns for pose in poses])
    wanted_ns = np.linspace(first_ns, last_ns, len(times_ns))
    nearest = np.abs(logged_ns[None, :] - wanted_ns[:, None]).argmin(axis=1)
    moved = [msgspec.structs.replace(poses[n], capture_ns=at_ns) for n, at_ns in zip(nearest, times_ns, strict=True)]
    seconds = ((last_ns - first_ns) / _NS_PER_S, (end_ns - begin_ns) / _NS_PER_S)
    return Part(
        name=POSE,
        origin=f"track of {path.name}, its {seconds[0]:.0f} s stretched to {seconds[1]:.0f} s",
        moments=(Moment(capture_ns=pose.capture_ns, arrival_ns=pose.capture_ns, content=pose) for pose in moved),
        count=len(moved),
        end_ns=end_ns,
    )

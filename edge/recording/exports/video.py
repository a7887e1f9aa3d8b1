"""A camera's frames as one video at their mean rate, and a table of when each was really taken."""

from typing import Any

from edge.recording.exports.csv_file import CsvFile
from edge.recording.exports.images import COLUMNS, MAX_FRAME_PX, moment
from edge.recording.exports.task import Task
from edge.transport.sensors import decode_frame
from edge.transport.wire import Reason, check_payload
from models.errors import DeviceError, RecordingError
from models.preprocess import opencv

CODEC = "mp4v"
DEFAULT_FPS, MIN_FPS, MAX_FPS = 25.0, 0.1, 1000.0
"""Of a video of one frame, or of a rate that no video has."""


def write_video(task: Task) -> None:
    """Write STREAM.mp4 and STREAM.csv; frames of another size than the first are left out.

    Raises:
        DeviceError: OpenCV is absent, or cannot write such a video.
        RecordingError: the video does not hold all that was put into it, as when the disk is full.
    """
    path = task.folder / f"{task.stream}.mp4"
    video: Any = None
    size: tuple[int, int] | None = None
    written = 0
    with CsvFile(task.folder / f"{task.stream}.csv", ("frame", *COLUMNS[1:])) as table:
        for header, payload in task.sensed():
            frame = decode_frame(header, payload, MAX_FRAME_PX) if check_payload(header, payload) is None else None
            if frame is None or isinstance(frame, Reason) or (size or frame.shape[:2]) != frame.shape[:2]:
                task.note(False)
                continue
            if video is None:
                size = frame.shape[:2]
                video = _open(task, str(path), frame.shape[1], frame.shape[0])
            video.write(frame)
            table.add((written, *moment(task, header)))
            written += 1
            task.note(True)
    if video is not None:
        video.release()
        _verify(str(path), written)


def _open(task: Task, path: str, width: int, height: int) -> Any:
    cv2 = opencv()
    rate_hz = task.recording.streams[task.stream].rate_hz
    fps = rate_hz if MIN_FPS <= rate_hz <= MAX_FPS else DEFAULT_FPS
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*CODEC), fps, (width, height))
    if not video.isOpened():
        raise DeviceError(f"OpenCV cannot write {CODEC} of {width} x {height}: export images instead")
    return video


def _verify(path: str, written: int) -> None:
    """Count the frames: OpenCV says nothing when it cannot write."""
    capture = opencv().VideoCapture(path)
    held = int(capture.get(opencv().CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if held != written:
        raise RecordingError(f"{path}: holds {held} of {written} frames: is the disk full?")

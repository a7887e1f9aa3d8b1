"""Cameras and video files by OpenCV: V4L2 devices, GStreamer pipelines, files."""

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.clock import Clock, SystemClock
from edge.config import CameraSource
from edge.sources.stream import Pacer, StreamSender, await_listener
from edge.transport.wire import FLAG_HOST_TIME, FLAG_REPLAY
from models.errors import ConfigError, DeviceError
from models.preprocess import opencv

log = logging.getLogger(__name__)

FRAME_TIMEOUT_S = 5.0
"""A live camera that delivers nothing for so long has failed."""
_JOIN_TIMEOUT_S = 2.0
_NS_PER_MS = 1_000_000
Frame = NDArray[np.uint8]


def is_live(device: str) -> bool:
    """Say whether a device is a camera or a GStreamer pipeline rather than a file: cameras do not wait."""
    return device.isdigit() or "!" in device


def open_camera(device: str) -> Any:
    """Open a V4L2 number, a GStreamer pipeline or a video file as a cv2.VideoCapture.

    Raises:
        DeviceError: it cannot be opened, or OpenCV is absent or was built without GStreamer.
    """
    cv2 = opencv()
    if device.isdigit():
        capture = cv2.VideoCapture(int(device), cv2.CAP_V4L2)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        remedy = f"is /dev/video{device} there, readable by this user (group video) and free?"
    elif "!" in device:
        _require_gstreamer(cv2)
        capture = cv2.VideoCapture(device, cv2.CAP_GSTREAMER)
        remedy = "try the same pipeline with gst-launch-1.0, with fakesink in place of appsink"
    else:
        capture = cv2.VideoCapture(device)
        remedy = "is the file there, and a video that this OpenCV can decode?"
    if not capture.isOpened():
        capture.release()
        raise DeviceError(f"camera {device!r}: cannot be opened: {remedy}")
    return capture


def play_camera(source: CameraSource, folder: Path, sender: StreamSender, pacer: Pacer) -> None:
    """Send a camera's frames as they come, or those of a video file (relative to `folder`) at their own times.

    Raises:
        DeviceError: the camera cannot be opened, or delivers nothing for FRAME_TIMEOUT_S; the file holds no frame.
    """
    live = is_live(source.device)
    capture = open_camera(source.device if live else str(folder / source.device))
    sender.flags = FLAG_HOST_TIME if live else FLAG_REPLAY
    send = _Sending(sender, source.jpeg_quality)
    try:
        if live:
            _play_live(source, capture, send, pacer)
        else:
            _play_file(source, capture, send, pacer)
    finally:
        capture.release()


class _Sending:
    """Sends frames raw or as JPEG."""

    def __init__(self, sender: StreamSender, jpeg_quality: int) -> None:
        self.sender = sender
        self.place = sender if jpeg_quality == 0 else None
        """Whose memory frames are read into."""
        self._jpeg_quality = jpeg_quality

    def __call__(self, frame: Frame, capture_ns: int) -> None:
        if not self._jpeg_quality:
            self.sender.send_frame(np.ascontiguousarray(frame), capture_ns)
            return
        cv2 = opencv()
        is_done, jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, self._jpeg_quality])
        if not is_done:
            raise DeviceError(f"frame of shape {frame.shape} cannot be encoded as JPEG: send it raw (jpeg_quality: 0)")
        self.sender.send_encoded(jpeg.tobytes(), capture_ns)


class FrameReader:
    """Reads frames, each straight into the memory that it is sent from where there is a `place` for it."""

    def __init__(self, capture: Any, place: StreamSender | None = None) -> None:
        self._capture = capture
        self._place = place
        self._shape: tuple[int, ...] = ()
        """Of the last frame: the next one is most likely as large."""

    def read(self) -> Frame | None:
        """Return the next frame, or None when there is none any more."""
        blank = self._blank()
        is_read, frame = self._capture.read() if blank is None else self._capture.read(blank)
        if blank is not None and (not is_read or frame is not blank):
            self.drop(blank)
        if not is_read:
            return None
        self._shape = frame.shape
        return frame  # type: ignore[no-any-return]

    def drop(self, frame: Frame) -> None:
        """Take note that a frame will not be sent."""
        if self._place is not None:
            self._place.give_back(frame)

    def _blank(self) -> Frame | None:
        """Return where to read the next frame to, None where it is left to OpenCV."""
        if self._place is None or not self._shape:
            return None
        try:
            return self._place.blank(self._shape, np.uint8)
        except ConfigError:  # too large: sending it says so, in the thread that is listened to
            return None


class NewestFrame:
    """Reads a camera in its own thread and keeps the newest frame only, so that a slow sender never sends old ones."""

    def __init__(self, reader: FrameReader, clock: Clock | None = None) -> None:
        self._reader = reader
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._frame: tuple[Frame, int] | None = None
        self._is_over = False
        self.superseded = 0
        """Frames that a newer one replaced before they were taken."""
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> tuple[Frame, int] | None:
        """Return the newest frame not taken yet and its capture time; None when none came in time or ever will."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._is_over, timeout_s)
            newest, self._frame = self._frame, None
            return newest

    @property
    def is_over(self) -> bool:
        """Whether the camera has ended and its last frame was taken."""
        with self._changed:
            return self._is_over and self._frame is None

    def close(self) -> bool:
        """Stop reading; say whether the thread could be stopped, which a hanging driver prevents."""
        with self._changed:
            self._is_over = True
        self._thread.join(_JOIN_TIMEOUT_S)
        return not self._thread.is_alive()

    def _read(self) -> None:
        while not self._is_over:
            frame = self._reader.read()
            with self._changed:
                if frame is not None:
                    if self._frame is not None:
                        self.superseded += 1
                        self._reader.drop(self._frame[0])
                    self._frame = (frame, self._clock.now_ns())
                else:
                    self._is_over = True
                self._changed.notify()


def _play_live(source: CameraSource, capture: Any, send: _Sending, pacer: Pacer) -> None:
    device, delay_ns = source.device, round(source.delay_ms * _NS_PER_MS)
    newest = NewestFrame(FrameReader(capture, send.place))
    heard_ns = pacer.now_ns()
    try:
        while not pacer.is_over:
            taken = newest.take(0.1)
            if taken is not None:
                frame, heard_ns = taken
                send(frame, heard_ns - delay_ns)
            elif newest.is_over:
                raise DeviceError(f"camera {device!r}: delivers no more frames: was it unplugged?")
            elif pacer.now_ns() - heard_ns > FRAME_TIMEOUT_S * 1e9:
                raise DeviceError(
                    f"camera {device!r}: no frame for {FRAME_TIMEOUT_S:.0f} s: check its cable and driver"
                )
    finally:
        is_stopped = newest.close()
        log.info("camera %r: %d frames gave way to newer ones", device, newest.superseded)
        if not is_stopped:
            log.warning("camera %r: its driver does not return", device)


def _play_file(source: CameraSource, capture: Any, send: _Sending, pacer: Pacer) -> None:
    """Send each frame at its own time; a second round begins one frame's duration after the last frame of the first."""
    cv2 = opencv()
    fps = capture.get(cv2.CAP_PROP_FPS)
    frame_ns = round(1e9 / fps) if 0.1 < fps < 10_000 else 40 * _NS_PER_MS
    if not source.loop:
        await_listener(send.sender, pacer)
    begin_ns = pacer.now_ns()
    last_ns = begin_ns - frame_ns
    reader = FrameReader(capture, send.place)
    has_frames = False
    while True:
        frame = reader.read()
        if frame is not None:
            due_ns = begin_ns + round(capture.get(cv2.CAP_PROP_POS_MSEC) * _NS_PER_MS)
            last_ns = due_ns if due_ns > last_ns else last_ns + frame_ns
            if not pacer.wait_until(last_ns):
                return
            send(frame, last_ns)
            has_frames = True
        elif not has_frames:
            raise DeviceError(f"camera {source.device!r}: not one frame can be read: is the file whole?")
        elif source.loop and capture.set(cv2.CAP_PROP_POS_FRAMES, 0):
            begin_ns = last_ns + frame_ns
        else:
            pacer.wait_until(last_ns + frame_ns)
            log.info("end of %s", source.device)
            return


def _require_gstreamer(cv2: Any) -> None:
    for line in cv2.getBuildInformation().splitlines():
        if "GStreamer:" in line and "YES" in line:
            return
    raise DeviceError(
        "this OpenCV was built without GStreamer (those from PyPI are): uninstall opencv-python and use the system's"
        " (apt install python3-opencv; on a Jetson JetPack's own) from a venv made with --system-site-packages"
    )

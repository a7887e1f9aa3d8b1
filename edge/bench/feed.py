"""What a benchmark sends: made-up messages that the quality gate lets pass, and orders to send them."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.config import StreamConfig
from models.preprocess import opencv
from models.spec import IqRecipe, ModalitySpec

FRAME_PX = (720, 1280)
_DIFFERENT = 8
_JPEG_QUALITY = 85
_GRAIN = {"raw": 64, "jpeg": 24}
"""Grey levels of noise: a compressed file of too much of it is larger than any camera's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """One kind of messages to a stream; the stream is named after the modality that it feeds."""

    name: str
    modality: ModalitySpec
    rate_hz: float
    folder: str
    """Of its sockets."""
    payload: Literal["raw", "jpeg", "iq"]
    samples: int = 0
    """I/Q samples of the largest message; 0 for an image."""
    frame_px: tuple[int, int] = FRAME_PX
    """Height and width of an image."""
    transport: Literal["socket", "shm"] = "socket"
    rehearses: bool = False
    """Whether the pipeline computes once more just before the next message is due."""

    @property
    def endpoint(self) -> str:
        """Where the pipeline listens."""
        return f"ipc://{self.folder}/{self.modality.name}"

    @property
    def bare_endpoint(self) -> str:
        """Where the same messages are sent for a receiver that only receives."""
        return f"ipc://{self.folder}/{self.modality.name}-bare"

    @property
    def stream(self) -> StreamConfig:
        """The stream as a deployment configures it."""
        return self._stream(self.endpoint)

    @property
    def bare_stream(self) -> StreamConfig:
        """The same for a receiver that only receives."""
        return self._stream(self.bare_endpoint)

    def _stream(self, endpoint: str) -> StreamConfig:
        return StreamConfig(
            modality=self.modality.name,
            endpoint=endpoint,
            rate_hz=self.rate_hz,
            transport=self.transport,
            rehearse=self.rehearses,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Open:
    """Send when messages are due, whether or not the last one has been answered."""

    names: tuple[str, ...]
    """Of the feeds."""
    seconds: float
    rate_hz: float | None = None
    """Instead of the feeds' own."""
    samples: int | None = None
    """I/Q samples in a message, instead of the most."""
    is_bare: bool = False
    """Send to the bare endpoint."""
    skips: bool = False
    """Leave out what is overdue by more than a period, as a sensor does that cannot be slowed down."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """Send a message of every named feed when an earlier one was answered."""

    names: tuple[str, ...]
    """Of the feeds; the first one causes the answers."""
    seconds: float
    outstanding: int = 1
    """Unanswered at any time."""
    most: int = 1_000_000
    """Turns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What an order led to."""

    messages: dict[str, int] = field(default_factory=dict)
    """By feed."""
    begun_ns: int = 0
    """When measuring began; a closed loop first sends single messages until it hears answers."""
    seconds: float = 0.0
    unanswered: int = 0
    """Closed loop: turns without an answer within a second."""


class Messages:
    """Different messages of a feed, again and again: (samples, 2) int16, (720, 1280, 3) BGR, or JPEG files."""

    def __init__(self, feed: Feed) -> None:
        rng = np.random.default_rng(1)
        self._step = feed.modality.recipe.window_samples if isinstance(feed.modality.recipe, IqRecipe) else 0
        self._images: list[Any] = []
        self._pool: NDArray[np.int16] = np.zeros((0, 2), np.int16)
        self._most = feed.samples
        if self._step:
            size = (feed.samples + (_DIFFERENT - 1) * self._step, 2)
            self._pool = (rng.standard_normal(size, np.float32) * 2000).astype(np.int16)
            return
        height, width = feed.frame_px
        grain = rng.integers(0, _GRAIN[feed.payload], (height, width, 3), np.uint8)
        grounds = [rng.integers(0, 192, (9, 16, 3), np.uint8) for _ in range(_DIFFERENT)]
        frames = [opencv().resize(ground, (width, height)) + grain for ground in grounds]
        self._images = [_jpeg(frame) for frame in frames] if feed.payload == "jpeg" else frames

    def at(self, n: int, samples: int | None = None) -> Any:
        """Return message n; `samples` shortens one of I/Q."""
        if not self._step:
            return self._images[n % _DIFFERENT]
        start = n % _DIFFERENT * self._step
        return self._pool[start : start + (samples or self._most)]

    @property
    def size_bytes(self) -> int:
        """Of the first message."""
        first = self.at(0)
        return len(first) if isinstance(first, bytes) else int(first.nbytes)


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    cv2 = opencv()
    data: bytes = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return data

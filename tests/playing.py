"""What tests of sources share: a publisher that keeps what it is given, and a pacer whose time passes at once."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from edge.clock import VirtualClock
from edge.sources.stream import Pacer, StreamSender
from edge.transport.sockets import Buffer, Publisher
from edge.transport.wire import Header, Reason, decode_message
from models.preprocess import opencv

FRAMES = 8
LEVELS = [20.0 + 20.0 * n for n in range(FRAMES)]
Received = list[tuple[Header, Buffer]]


class KeptMessages:
    """Stands in for a Publisher, without a socket."""

    def __init__(self, holds: Callable[[Sequence[Buffer]], None] | None = None) -> None:
        """Take what to do with each message first, such as to wait."""
        self.messages: Received = []
        self.waited_for = 0
        self._holds = holds

    def __call__(self, endpoint: str) -> Publisher:
        return cast(Publisher, self)

    def send(self, parts: Sequence[Buffer], *, keep: bool = False) -> None:
        message = decode_message([bytes(part) for part in parts])
        if isinstance(message, Reason):
            raise AssertionError(message)
        if self._holds is not None:
            self._holds(parts)
        self.messages.append(message)

    def wait_for_listeners(self, count: int, timeout_s: float) -> bool:
        self.waited_for = count
        return True

    def close(self) -> None:
        pass


def write_video(path: Path, scale: int = 1) -> None:
    """Write a video of FRAMES frames of 64 x 48 pixels times `scale`, 20 a second, each evenly grey: LEVELS."""
    cv2 = opencv()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64 * scale, 48 * scale))
    for level in LEVELS:
        writer.write(np.full((48 * scale, 64 * scale, 3), level, dtype=np.uint8))
    writer.release()


def virtual_pacer(clock: VirtualClock, *, limit_s: float | None = None) -> Pacer:
    """Return a pacer that advances the clock instead of sleeping."""

    def sleep(seconds: float) -> None:
        clock.advance_to(clock.now_ns() + max(1, round(seconds * 1e9)))

    return Pacer(threading.Event(), limit_s=limit_s, clock=clock, sleep=sleep)


def kept_sender(
    clock: VirtualClock, *, holds: Callable[[Sequence[Buffer]], None] | None = None, **options: Any
) -> tuple[StreamSender, Received]:
    """Return a sender and the list that its messages come to."""
    kept = KeptMessages(holds)
    return StreamSender("ipc:///unused", 7, clock=clock, publisher=kept, **options), kept.messages

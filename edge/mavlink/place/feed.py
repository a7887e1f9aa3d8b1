"""Publishes for other processes of this machine what the vehicle says: frames for the recorder, poses for all."""

import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType

from edge.mavlink.place.hearing import MAX_KEPT, Heard
from edge.transport.messages import Kind, pack
from edge.transport.sockets import Publisher
from edge.transport.wire import Stamp, encode_bytes
from models.errors import LinkError


class Feed:
    """Binds an endpoint for frames and one for poses, each where it is wanted. Use as a context."""

    def __init__(self, frames: str | None, poses: str | None) -> None:
        """Bind; raises LinkError where an endpoint is taken."""
        self._publishers: dict[Kind, Publisher] = {}
        self._epoch = time.monotonic_ns() & 0xFFFFFFFF
        self._sequences: Counter[Kind] = Counter()
        try:
            for kind, endpoint in ((Kind.MAVLINK, frames), (Kind.POSE, poses)):
                if endpoint is not None:
                    self._publishers[kind] = Publisher(endpoint, high_water_mark=MAX_KEPT)
        except LinkError:
            self.close()
            raise

    def publish(self, heard: Iterable[Heard], now_ns: int) -> None:
        """Publish what was heard; who does not listen fast enough loses it."""
        for item in heard:
            self._send(Kind.MAVLINK, item.frame, item.heard_ns, now_ns)
            if item.pose is not None:
                self._send(Kind.POSE, pack(item.pose), item.pose.capture_ns, now_ns)

    def close(self) -> None:
        """Give the endpoints back."""
        for publisher in self._publishers.values():
            publisher.close()

    def __enter__(self) -> "Feed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, kind: Kind, payload: bytes, capture_ns: int, now_ns: int) -> None:
        if kind in self._publishers:
            stamp = Stamp(0, self._epoch, self._sequences[kind], capture_ns, now_ns)
            self._publishers[kind].send(encode_bytes(kind, stamp, payload))
            self._sequences[kind] += 1

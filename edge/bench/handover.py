"""A 1080p frame from one process to another: through an ipc socket and in shared memory, in turns, in one run."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal

from edge.bench.feed import Feed, Open
from edge.bench.feeder import Feeder
from edge.bench.headers import header_ns
from edge.bench.percentiles import ratio_of, spread
from edge.bench.result import Handover
from edge.transport.inbox import Inbox, open_inbox
from models.spec import ModalitySpec

NAME = "frame"
FRAME_PX = (1080, 1920)
RATE_HZ = 30.0
WAYS: tuple[Literal["socket", "shm"], ...] = ("socket", "shm")
_WARM_UP_S = 0.4
_BLOCK_S = 0.5


def block_count(seconds: float) -> int:
    """Return how many turns each way takes in a time."""
    return max(1, round(seconds / _BLOCK_S))


def measure_handover(modality: ModalitySpec, seconds: float, tick: Callable[[], None]) -> Handover:
    """Send frames both ways in turns; what a header costs is told beside.

    Args:
        modality: that takes images.
        seconds: of each way.
        tick: called after each turn of both.
    Raises:
        LinkError: a source does not come up, or ends on its own.
    """
    taken: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        ends = {way: _open(modality, way, stack) for way in WAYS}
        for feeder, inbox in ends.values():
            while feeder.is_busy:
                inbox.receive(20)
            _receive(feeder, inbox, _WARM_UP_S)
        for _ in range(block_count(seconds)):
            for way, (feeder, inbox) in ends.items():
                taken[way].append(_receive(feeder, inbox, seconds / block_count(seconds)))
            tick()
    socket, shm = ([value for block in taken[way] for value in block] for way in WAYS)
    return Handover(
        frame_bytes=FRAME_PX[0] * FRAME_PX[1] * 3,
        socket=spread(socket),
        shm=spread(shm),
        socket_over_shm=ratio_of(list(zip(taken["socket"], taken["shm"], strict=True))),
        header_ns=header_ns(),
    )


def _open(modality: ModalitySpec, way: Literal["socket", "shm"], stack: ExitStack) -> tuple[Feeder, Inbox]:
    """Return both ends of a stream of frames."""
    feed = Feed(
        name=NAME,
        modality=modality,
        rate_hz=RATE_HZ,
        folder=stack.enter_context(tempfile.TemporaryDirectory(prefix="uav-edge-handover-")),
        payload="raw",
        frame_px=FRAME_PX,
        transport=way,
    )
    feeder = stack.enter_context(Feeder((feed,), f"ipc://{feed.folder}/results"))
    return feeder, stack.enter_context(open_inbox(feed.bare_stream))


def _receive(feeder: Feeder, inbox: Inbox, seconds: float) -> list[float]:
    feeder.start(Open(names=(NAME,), seconds=seconds, is_bare=True))
    times_ms = []
    while feeder.is_busy:
        message = inbox.receive(20)
        now_ns = time.monotonic_ns()
        if isinstance(message, tuple):
            times_ms.append((now_ns - message[0].send_ns) / 1e6)
    return times_ms

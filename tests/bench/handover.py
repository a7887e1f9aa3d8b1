"""A 1080p frame from one process to another: through an ipc socket and in shared memory, in turns, in one run."""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

from edge.bench.feed import Feed, Open
from edge.bench.feeder import Feeder
from edge.bench.percentiles import ratio_of, spread
from edge.transport.inbox import Inbox, open_inbox
from models.bundle import Bundle
from models.spec import ImageRecipe

FRAME_PX = (1080, 1920)
WAYS: tuple[Literal["socket", "shm"], ...] = ("socket", "shm")
_WARM_UP_S = 0.5


def handover(bundle: Bundle, seconds: float, rate_hz: float = 30.0) -> dict[str, Any]:
    """Return percentiles in ms of the time from send to receipt, and how many times as long the socket takes.

    Nothing is copied on receipt: a frame is looked at where it lies. In shared memory it was captured in place.
    """
    modality = next(one for one in bundle.spec.modalities if isinstance(one.recipe, ImageRecipe))
    taken: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        ends = {}
        for way in WAYS:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="uav-edge-handover-"))
            feed = Feed(
                name="frame", modality=modality, rate_hz=rate_hz, folder=folder, payload="raw", frame_px=FRAME_PX
            )
            feed = replace(feed, transport=way)
            feeder = stack.enter_context(Feeder((feed,), f"ipc://{folder}/results"))
            ends[way] = (feeder, stack.enter_context(open_inbox(feed.bare_stream)))
            while feeder.is_busy:
                time.sleep(0.02)
            _receive(*ends[way], _WARM_UP_S)
        for _ in range(max(1, round(seconds))):
            for way, (feeder, inbox) in ends.items():
                taken[way].append(_receive(feeder, inbox, 1.0))
    ratio = ratio_of(list(zip(taken["socket"], taken["shm"], strict=True)))
    return {
        "frame_bytes": FRAME_PX[0] * FRAME_PX[1] * 3,
        **{way: spread([value for block in blocks for value in block]) for way, blocks in taken.items()},
        "socket_over_shm": ratio,
    }


def _receive(feeder: Feeder, inbox: Inbox, seconds: float) -> list[float]:
    feeder.start(Open(names=("frame",), seconds=seconds, is_bare=True))
    times_ms = []
    while feeder.is_busy:
        message = inbox.receive(20)
        now_ns = time.monotonic_ns()
        if isinstance(message, tuple):
            times_ms.append((now_ns - message[0].send_ns) / 1e6)
    return times_ms

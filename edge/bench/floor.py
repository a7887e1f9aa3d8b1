"""The floor under a path's latency: the least that this machine needs to answer with this model on these messages.

Two floors are measured. The paced one is a bare program in one thread that receives each message at the path's rate,
preprocesses it, and runs branch and fusion head: no queue, no gate, no accounting. The hot one adds up the hand-over
with the same computations back to back, as if no message ever had to wake a processor with cold caches.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType

import numpy as np

from edge.bench.engines import open_engines
from edge.bench.feed import Feed, Messages, Open
from edge.bench.feeder import Feeder
from edge.bench.percentiles import MIN_SAMPLES, percentile
from edge.bench.result import Floor
from edge.bench.rig import Aircraft
from edge.operations.memory import keep_freed_memory
from edge.transport.inbox import open_inbox, payload_view
from edge.transport.messages import Kind
from edge.transport.sensors import decode_frame, newest_window
from edge.transport.wire import Header, Reason, Stamp, decode_message, encode_array, encode_bytes
from models.preprocess import Scratch, preprocess
from models.spec import IqRecipe

PARTS = ("transport", "preprocess", "infer", "fuse")
SHARE = 0.45
"""Time for the floor, relative to the time for its path."""
_SETTLING_RUNS = 5
_SETTLING_MESSAGES = 3
_LEAST_RUNS = MIN_SAMPLES[50]
_MAX_FRAME_PX = 8_000_000


class FloorMeter:
    """Collects samples of the parts of a feed's floor; use as a context."""

    def __init__(self, aircraft: Aircraft, feed: Feed) -> None:
        keep_freed_memory()
        self._stack = ExitStack()
        engines = self._stack.enter_context(open_engines(aircraft))
        self._branch = engines.branches[feed.modality.name]
        self._fusion = engines.fusion
        self._feed = feed
        self._scratch = Scratch()
        self._inbox = self._stack.enter_context(open_inbox(feed.bare_stream))
        messages = Messages(feed)
        self._messages = [_decoded(feed, messages.at(n)) for n in range(2)]
        self._paced_ms: dict[str, list[float]] = {part: [] for part in (*PARTS, "total")}
        self._hot_ms: dict[str, list[float]] = {part: [] for part in PARTS[1:]}

    def __enter__(self) -> "FloorMeter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def measure(self, feeder: Feeder, seconds: float) -> list[float]:
        """Add samples, a quarter of the time back to back, the rest at the feed's rate; return totals of the latter."""
        before = len(self._paced_ms["total"])
        self._answer(feeder, seconds * 3 / 4)
        self._repeat("preprocess", lambda n: self._preprocess(*self._messages[n % len(self._messages)]), seconds / 12)
        self._repeat("infer", lambda _: self._branch.run(), seconds / 12)
        self._repeat("fuse", lambda _: self._fusion.run(), seconds / 12)
        return self._paced_ms["total"][before:]

    def result(self) -> Floor | None:
        """Return medians; None where there are too few samples."""
        paced, hot = _medians(self._paced_ms), _medians(self._hot_ms)
        if paced is None or hot is None:
            return None
        total_ms = paced.pop("total")
        return Floor(
            paced_ms=total_ms,
            paced_parts_ms=paced,
            hot_ms=round(paced["transport"] + sum(hot.values()), 4),
            hot_parts_ms=hot,
        )

    def _answer(self, feeder: Feeder, seconds: float) -> None:
        """Be the bare program for a while."""
        feeder.start(Open(names=(self._feed.name,), seconds=seconds, is_bare=True))
        received = 0
        while feeder.is_busy:
            message = self._inbox.receive(100)
            marks_ns = [time.monotonic_ns()]
            if message is None or isinstance(message, Reason):
                continue
            header, payload = message
            self._preprocess(header, payload_view(payload))
            marks_ns.append(time.monotonic_ns())
            self._branch.run()
            marks_ns.append(time.monotonic_ns())
            self._fusion.run()
            marks_ns.append(time.monotonic_ns())
            received += 1
            if received > _SETTLING_MESSAGES:
                starts_ns = (header.send_ns, *marks_ns[:-1])
                for part, start_ns, end_ns in zip(PARTS, starts_ns, marks_ns, strict=True):
                    self._paced_ms[part].append((end_ns - start_ns) / 1e6)
                self._paced_ms["total"].append((marks_ns[-1] - header.send_ns) / 1e6)

    def _preprocess(self, header: Header, payload: bytes | memoryview) -> None:
        recipe = self._feed.modality.recipe
        if isinstance(recipe, IqRecipe):
            data = newest_window(header, payload, recipe.window_samples)
        else:
            frame = decode_frame(header, payload, _MAX_FRAME_PX)
            if isinstance(frame, Reason):
                return
            data = frame
        preprocess(data, recipe, self._branch.inputs["input"][0], self._scratch)

    def _repeat(self, part: str, work: Callable[[int], object], seconds: float) -> None:
        """Time a piece of work back to back; the first runs only bring caches up to speed."""
        for n in range(_SETTLING_RUNS):
            work(n)
        end_ns = time.monotonic_ns() + int(seconds * 1e9)
        before_ns = time.monotonic_ns()
        n = 0
        while before_ns < end_ns or n < _LEAST_RUNS:
            work(n)
            n += 1
            now_ns = time.monotonic_ns()
            self._hot_ms[part].append((now_ns - before_ns) / 1e6)
            before_ns = now_ns


def _decoded(feed: Feed, message: object) -> tuple[Header, bytes | memoryview]:
    """Return a message as it would come over the wire."""
    stamp = Stamp(1, 1, 1, 0, 0)
    if isinstance(message, bytes):
        parts: tuple[bytes, bytes | memoryview] = encode_bytes(Kind.ENCODED_FRAME, stamp, message)
    else:
        kind = Kind.IQ if feed.payload == "iq" else Kind.FRAME
        parts = encode_array(kind, stamp, np.asarray(message))
    decoded = decode_message(parts)
    if isinstance(decoded, Reason):
        raise ValueError(f"benchmark message of {feed.name}: {decoded}")
    return decoded


def _medians(samples: dict[str, list[float]]) -> dict[str, float] | None:
    """Return the median of each part; None where one has too few samples."""
    medians = {part: percentile(values, 50) for part, values in samples.items()}
    known = {part: value for part, value in medians.items() if value is not None}
    return known if len(known) == len(medians) else None

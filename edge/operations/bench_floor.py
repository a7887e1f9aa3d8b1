"""The floor under a path's latency: the least that this machine needs to answer with this model on these messages.

Two floors are measured. The paced one is a bare program in one thread that receives each message at the path's rate,
preprocesses it, and runs branch and fusion head: no queue, no gate, no accounting. The hot one adds up the hand-over
with the same computations back to back, as if no message ever had to wake a processor with cold caches.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from edge.backends.onnx import load_engines
from edge.backends.select import PrecisionChoice
from edge.operations.bench_feed import Feed, Feeder, payloads
from edge.operations.bench_statistics import percentile
from edge.transport.sockets import Subscriber
from edge.transport.wire import Reason, as_array, decode_message
from models.bundle import Bundle
from models.preprocess import preprocess

PARTS = ("transport", "preprocess", "infer", "fuse")
_SETTLING_RUNS = 5
_SETTLING_MESSAGES = 3


class Floor:
    """Collects samples of the parts of a feed's floor; use as a context."""

    def __init__(self, bundle: Bundle, feed: Feed, precision: PrecisionChoice) -> None:
        engines = load_engines(bundle, precision)
        self._branch = engines.branches[feed.modality.name]
        self._fusion = engines.fusion
        self._recipe = feed.modality.recipe
        self._messages = payloads(feed.modality.recipe, feed.rate_hz)
        self._window = getattr(feed.modality.recipe, "window_samples", None)
        self._subscriber = Subscriber(feed.bare_endpoint)
        self._paced_ms: dict[str, list[float]] = {part: [] for part in (*PARTS, "total")}
        self._hot_ms: dict[str, list[float]] = {part: [] for part in PARTS[1:]}

    def __enter__(self) -> "Floor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscriber.close()

    def measure(self, feeder: Feeder, seconds: float) -> None:
        """Add samples: three quarters of the time at the feed's rate, the rest back to back."""
        self._answer(feeder, seconds * 3 / 4)
        self._repeat("preprocess", lambda n: self._preprocess(self._messages[n % len(self._messages)]), seconds / 12)
        self._repeat("infer", lambda _: self._branch.run(), seconds / 12)
        self._repeat("fuse", lambda _: self._fusion.run(), seconds / 12)

    def paced_ms(self) -> dict[str, float | None]:
        """Return medians of the bare program: of each part, and of the total."""
        return {part: percentile(samples, 50) for part, samples in self._paced_ms.items()}

    def hot_ms(self) -> dict[str, float | None]:
        """Return the median of each computation back to back."""
        return {part: percentile(samples, 50) for part, samples in self._hot_ms.items()}

    def _answer(self, feeder: Feeder, seconds: float) -> None:
        """Be the bare program for a while."""
        feeder.start(seconds, bare=True)
        received = 0
        while feeder.is_busy:
            parts = self._subscriber.receive(100)
            marks_ns = [time.monotonic_ns()]
            message = decode_message(parts) if parts is not None else Reason.PARTS
            if isinstance(message, Reason):
                continue
            header, payload = message
            self._preprocess(as_array(header, payload))
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

    def _preprocess(self, message: NDArray[Any]) -> None:
        data = message if self._window is None else message[-self._window :]
        preprocess(data, self._recipe, self._branch.inputs["input"][0])

    def _repeat(self, part: str, work: Callable[[int], object], seconds: float) -> None:
        """Time a piece of work back to back; the first runs only bring caches up to speed."""
        for n in range(_SETTLING_RUNS):
            work(n)
        end_ns = time.monotonic_ns() + int(seconds * 1e9)
        before_ns = time.monotonic_ns()
        n = 0
        while before_ns < end_ns or n < _SETTLING_RUNS:
            work(n)
            n += 1
            now_ns = time.monotonic_ns()
            self._hot_ms[part].append((now_ns - before_ns) / 1e6)
            before_ns = now_ns

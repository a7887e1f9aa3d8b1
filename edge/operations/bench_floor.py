"""The floor under a path's latency: what inference and unavoidable copies cost on this machine, measured bare.

Nothing that answers with this model on these messages can be faster; the pipeline is judged by its ratio to it.
"""

import time
from collections.abc import Callable
from types import TracebackType

from edge.backends.onnx import load_engines
from edge.operations.bench_feed import Feed, Feeder, payloads
from edge.operations.bench_statistics import percentile
from edge.transport.sockets import Subscriber
from edge.transport.wire import Reason, decode_header
from models.bundle import Bundle
from models.preprocess import preprocess

_SETTLING_RUNS = 5
_SETTLING_MESSAGES = 3


class Floor:
    """Collects samples of the parts of a feed's floor; use as a context."""

    def __init__(self, bundle: Bundle, feed: Feed) -> None:
        engines = load_engines(bundle)
        self._branch = engines.branches[feed.modality.name]
        self._fusion = engines.fusion
        self._recipe = feed.modality.recipe
        self._messages = payloads(feed.modality.recipe)
        self._window = getattr(feed.modality.recipe, "window_samples", None)
        self._subscriber = Subscriber(feed.bare_endpoint)
        self.samples_ms: dict[str, list[float]] = {"transport": [], "preprocess": [], "infer": [], "fuse": []}

    def __enter__(self) -> "Floor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscriber.close()

    def measure(self, feeder: Feeder, seconds: float) -> None:
        """Add samples of every part: half of the time receiving at the feed's rate, the rest computing."""
        self._hand_over(feeder, seconds / 2)
        self._repeat("preprocess", self._preprocess, seconds / 8)
        self._repeat("infer", lambda _: self._branch.run(), seconds / 4)
        self._repeat("fuse", lambda _: self._fusion.run(), seconds / 8)

    def parts_ms(self) -> dict[str, float | None]:
        """Return the median of each part."""
        return {part: percentile(samples, 50) for part, samples in self.samples_ms.items()}

    def _hand_over(self, feeder: Feeder, seconds: float) -> None:
        """Time messages from send to receipt, by a loop that does nothing else."""
        feeder.start(seconds, bare=True)
        received = 0
        while feeder.is_busy:
            parts = self._subscriber.receive(100)
            now_ns = time.monotonic_ns()
            header = decode_header(parts[0]) if parts is not None else Reason.PARTS
            if isinstance(header, Reason):
                continue
            received += 1
            if received > _SETTLING_MESSAGES:
                self.samples_ms["transport"].append((now_ns - header.send_ns) / 1e6)

    def _preprocess(self, n: int) -> None:
        message = self._messages[n % len(self._messages)]
        data = message if self._window is None else message[-self._window :]
        preprocess(data, self._recipe, self._branch.inputs["input"][0])

    def _repeat(self, part: str, work: Callable[[int], None], seconds: float) -> None:
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
            self.samples_ms[part].append((now_ns - before_ns) / 1e6)
            before_ns = now_ns

"""Made-up sensor messages at a steady rate, sent by a process of their own: what a benchmark measures with."""

import multiprocessing
import multiprocessing.connection
import signal
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.config import StreamConfig
from edge.sources.stream import Pacer, StreamSender
from models.errors import LinkError
from models.preprocess import opencv
from models.spec import IqRecipe, ModalitySpec, Recipe

FRAME_PX = (720, 1280)
_PAYLOADS = 8
_START_TIMEOUT_S = 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """One stream of a benchmark."""

    name: str
    modality: ModalitySpec
    rate_hz: float
    folder: str
    """Of its sockets."""

    @property
    def bare_endpoint(self) -> str:
        """Where the same messages are sent for a receiver that only receives."""
        return f"ipc://{self.folder}/{self.name}-bare"

    @property
    def stream(self) -> StreamConfig:
        """The stream as a deployment configures it."""
        return StreamConfig(
            modality=self.modality.name, endpoint=f"ipc://{self.folder}/{self.name}", rate_hz=self.rate_hz
        )


def payloads(recipe: Recipe, rate_hz: float) -> list[NDArray[Any]]:
    """Return different messages that the quality gate lets pass.

    Args:
        recipe: of the modality that is fed.
        rate_hz: messages a second; those of a radio hold every sample that it takes, and at least a window each.
    Returns:
        int16 I/Q (samples, 2), or 1280 x 720 BGR frames.
    """
    rng = np.random.default_rng(1)
    if isinstance(recipe, IqRecipe):
        samples = max(round(recipe.sample_rate_hz / rate_hz), recipe.window_samples)
        return [rng.normal(0, 2000, (samples, 2)).astype(np.int16) for _ in range(_PAYLOADS)]
    height, width = FRAME_PX
    grain = rng.integers(0, 64, (height, width, 3), np.uint8)
    grounds = [rng.integers(0, 192, (9, 16, 3), np.uint8) for _ in range(_PAYLOADS)]
    return [opencv().resize(ground, (width, height)) + grain for ground in grounds]


class Feeder:
    """A process that sends a feed's messages on demand; use as a context."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        context = multiprocessing.get_context("spawn")
        self._commands, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(feed, theirs), daemon=True)
        self._is_busy = True

    def __enter__(self) -> "Feeder":
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._commands.close()
        self._process.terminate()
        self._process.join()

    @property
    def process_id(self) -> int:
        """Of the sending process."""
        return self._process.pid or 0

    @property
    def is_busy(self) -> bool:
        """Whether it still sends (or starts).

        Raises:
            LinkError: the process has died, or nobody listens to it.
        """
        if self._is_busy and (self._commands.poll() or not self._process.is_alive()):
            try:
                problem = str(self._commands.recv())
            except (EOFError, ConnectionError):
                problem = "its process died"
            if problem:
                raise LinkError(f"benchmark source {self.feed.name}: {problem}: run again with --debug")
            self._is_busy = False
        return self._is_busy

    def start(self, seconds: float, *, bare: bool = False) -> None:
        """Begin to send at the feed's rate for a while; `bare` sends to the bare endpoint instead."""
        self._is_busy = True
        self._commands.send((seconds, bare))


def _serve(feed: Feed, commands: "multiprocessing.connection.Connection[str, Any]") -> None:
    """Send as told until the other side goes away; answer an empty text when done, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    messages = payloads(feed.modality.recipe, feed.rate_hz)
    senders = {False: StreamSender(feed.stream.endpoint, 1), True: StreamSender(feed.bare_endpoint, 1)}
    commands.send("")
    while True:
        try:
            seconds, bare = commands.recv()
        except EOFError:
            return
        sender = senders[bare]
        if sender.wait_for_listeners(1, _START_TIMEOUT_S):
            _send(sender, feed, messages, seconds)
            commands.send("")
        else:
            commands.send(f"nobody listens at {sender.endpoint}")


def _send(sender: StreamSender, feed: Feed, messages: list[NDArray[Any]], seconds: float) -> None:
    pacer = Pacer(threading.Event())
    recipe, period_ns = feed.modality.recipe, int(1e9 / feed.rate_hz)
    start_ns = pacer.now_ns()
    for n in range(max(round(seconds * feed.rate_hz), 1)):
        pacer.wait_until(start_ns + n * period_ns)
        message = messages[n % len(messages)]
        if isinstance(recipe, IqRecipe):
            lasted_ns = int(len(message) * 1e9 / recipe.sample_rate_hz)
            sender.send_iq(message, pacer.now_ns() - lasted_ns, recipe.sample_rate_hz)
        else:
            sender.send_frame(message, pacer.now_ns())

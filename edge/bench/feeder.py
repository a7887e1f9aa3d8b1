"""The process that sends a benchmark's messages, as its parent sees it."""

import multiprocessing
import multiprocessing.connection
import signal

from edge.bench.feed import Closed, Feed, Open, Sent
from edge.bench.sending import Sender, wake_on_time
from models.errors import LinkError


class Feeder:
    """Sends the messages of one or more feeds on demand; use as a context."""

    def __init__(self, feeds: tuple[Feed, ...], results: str) -> None:
        """Take what to send, and the endpoint where its answers are published."""
        self.feeds = feeds
        context = multiprocessing.get_context("spawn")
        self._commands, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(feeds, results, theirs), daemon=True)
        self._is_busy = True
        self.last = Sent()
        """What the last order led to."""

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
                answer: Sent | str = self._commands.recv()
            except (EOFError, ConnectionError):
                answer = "its process died"
            if isinstance(answer, str):
                names = ", ".join(feed.name for feed in self.feeds)
                raise LinkError(f"benchmark source {names}: {answer}: run again with --debug")
            self._is_busy, self.last = False, answer
        return self._is_busy

    def wait(self, timeout_s: float) -> None:
        """Wait until it has sent everything or has died, but for at most so long."""
        self._commands.poll(timeout_s)

    def start(self, order: Open | Closed) -> None:
        """Begin to send as ordered."""
        self._is_busy = True
        self._commands.send(order)


def _serve(
    feeds: tuple[Feed, ...], results: str, commands: "multiprocessing.connection.Connection[Sent | str, Open | Closed]"
) -> None:
    """Send as told until the other side goes away; answer what was sent, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake_on_time()
    sender = Sender(feeds, results)
    commands.send(Sent())
    while True:
        try:
            order = commands.recv()
        except EOFError:
            return
        try:
            commands.send(sender.send(order))
        except LinkError as error:
            commands.send(str(error))

"""The autopilot of a flight that is replayed: its frames on a link of today, and its clock, which answers TIMESYNC."""

import contextlib
import threading
from collections.abc import Iterator

from pymavlink.dialects.v20 import common

from edge.clock import Clock
from edge.mavlink.network.link import open_link
from edge.mavlink.wire import frame_times

RECEIVE_TIMEOUT_S = 0.1
_US = 1_000


class ReplayedAutopilot:
    """Sends recorded frames as if their sender were there: numbers go on, times go on with the present.

    Its clock starts where the recorded one was when the flight begins, and is as fast as ours, at any rate of the
    replay. Frames carry it, and so do answers to whoever asks for the time.
    """

    def __init__(self, link: str, clock: Clock) -> None:
        """Open the link; raises as `open_link`."""
        self._clock = clock
        self._link = open_link(link, 1, frame_times.AUTOPILOT, clock)
        self._using = threading.Lock()
        """Held by whoever sends or receives: a link is for one thread, and here the player sends while we listen."""
        self._sequences: dict[tuple[int, int], int] = {}
        self._offset_us: int | None = None
        """The autopilot's clock minus ours."""
        self._moved_us = 0
        """By how much times in frames are moved."""
        self._system_id = 0

    @contextlib.contextmanager
    def answering(self) -> Iterator["ReplayedAutopilot"]:
        """Answer questions about the time while the context lasts, then close the link."""
        stop = threading.Event()
        thread = threading.Thread(target=self._listen, args=(stop,), name="autopilot", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
            self._link.close()

    def send(self, frame: bytes, due_ns: int) -> None:
        """Send a recorded frame.

        Args:
            frame: as recorded, a whole one.
            due_ns: when it is to be sent, which is now or was a moment ago.
        """
        ids = frame_times.sender(frame)
        with self._using:
            own_us = frame_times.since_boot_us(frame) if ids[1] == frame_times.AUTOPILOT else None
            if own_us is not None:
                if self._offset_us is None:
                    self._offset_us, self._system_id = own_us - due_ns // _US, ids[0]
                self._moved_us = due_ns // _US + self._offset_us - own_us
            self._send(frame, ids, self._moved_us)

    def answer(self) -> int:
        """Answer what was asked since the last call; return how many questions that was."""
        answered = 0
        with self._using:
            for item in self._link.receive():
                asked = item.message
                if item.name == "TIMESYNC" and asked.tc1 == 0 and self._offset_us is not None:
                    self._tell_time(asked.ts1, self._offset_us)
                    answered += 1
        return answered

    def _tell_time(self, ts1: int, offset_us: int) -> None:
        encoder = common.MAVLink(None, srcSystem=self._system_id, srcComponent=frame_times.AUTOPILOT)
        now_ns = self._clock.now_ns() + offset_us * _US
        frame = common.MAVLink_timesync_message(tc1=now_ns, ts1=ts1).pack(encoder)
        self._send(frame, (self._system_id, frame_times.AUTOPILOT), 0)

    def _send(self, frame: bytes, ids: tuple[int, int], by_us: int) -> None:
        sequence = self._sequences.get(ids, 0)
        self._sequences[ids] = (sequence + 1) % 256
        self._link.transport.send(frame_times.moved(frame, by_us, sequence))

    def _listen(self, stop: threading.Event) -> None:
        while not stop.is_set():
            # Not with the link held, or the player would be late; so a port that `send` loses is closed under us.
            with contextlib.suppress(OSError, ValueError, TypeError):
                self._link.transport.wait(RECEIVE_TIMEOUT_S)
            self.answer()

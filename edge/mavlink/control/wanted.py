"""What we need of an autopilot, and how we get it: measured first, asked for where it does not come, measured again.

An acknowledgement proves nothing, so none is waited for: what counts is how often the message comes. Pure: messages
and times in, requests out.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from pymavlink.dialects.v20 import common

from edge.mavlink.network.peers import News
from edge.mavlink.pace import NS_PER_S

TRIES = 3
"""With each of the two ways to ask."""
ENOUGH = 0.7
"""An autopilot that is busy sends a little less than it was asked for."""
LEAST_WINDOW_S = 2.0
LEAST_MESSAGES = 4
AGAIN_NS = 60 * NS_PER_S
"""After all tries."""
CONTESTED_NS = 20 * NS_PER_S
"""What came as asked for, and comes too seldom so soon after, somebody else has set."""
CONTESTS = 3
"""So often in a row; then it is theirs for as long as after all tries."""


class Want(NamedTuple):
    """A message that we need."""

    name: str
    message_id: int
    rate_hz: int
    stream: int
    """MAV_DATA_STREAM that it belongs to: the old way to ask."""
    short: str
    """As people are told on the ground, where there is little room."""
    why: str


ATTITUDE = Want(
    "ATTITUDE", common.MAVLINK_MSG_ID_ATTITUDE, 20, common.MAV_DATA_STREAM_EXTRA1, "ATTITUDE",
    "no place of what is seen",
)  # fmt: skip
POSITION = Want(
    "GLOBAL_POSITION_INT", common.MAVLINK_MSG_ID_GLOBAL_POSITION_INT, 10, common.MAV_DATA_STREAM_POSITION, "POSITION",
    "no place",
)  # fmt: skip
OFTEN = POSITION._replace(rate_hz=20)
"""For a camera: a position is carried on for 100 ms at most, and at 7 Hz a third of all frames would have no place."""
SYSTEM_TIME = Want(
    "SYSTEM_TIME", common.MAVLINK_MSG_ID_SYSTEM_TIME, 1, common.MAV_DATA_STREAM_EXTRA3, "SYSTEM_TIME",
    "no UTC, no restart is seen",
)  # fmt: skip
FIX = Want(
    "GPS_RAW_INT", common.MAVLINK_MSG_ID_GPS_RAW_INT, 1, common.MAV_DATA_STREAM_EXTENDED_STATUS, "GPS_RAW_INT",
    "nobody knows how good positions are",
)  # fmt: skip
GIMBAL = Want(
    "GIMBAL_DEVICE_ATTITUDE_STATUS", common.MAVLINK_MSG_ID_GIMBAL_DEVICE_ATTITUDE_STATUS, 10,
    common.MAV_DATA_STREAM_EXTRA3, "GIMBAL", "no place of what is seen",
)  # fmt: skip


class _Wish:
    """One message, measured."""

    def __init__(self, want: Want, now_ns: int) -> None:
        self.want = want
        self.count = 0
        self.tries = 0
        self.is_missed = False
        self.contests = 0
        self.obeyed_ns: int | None = None
        """When it last came often enough because it was asked for."""
        self.window_ns = round(max(LEAST_WINDOW_S, LEAST_MESSAGES / want.rate_hz) * NS_PER_S)
        self.since_ns = now_ns
        self.rests_until_ns = now_ns

    def measure(self, now_ns: int) -> bool | None:
        """Return whether the message came often enough lately; None while that is not known."""
        if now_ns < self.rests_until_ns:
            self.count, self.since_ns = 0, now_ns
        elapsed_ns = now_ns - self.since_ns
        if elapsed_ns < self.window_ns:
            return None
        is_enough = self.count >= ENOUGH * self.want.rate_hz * elapsed_ns / NS_PER_S
        self.count, self.since_ns = 0, now_ns
        return is_enough


class WantedRates:
    """Of one autopilot on one link.

    Args:
        target: its system and component.
        wants: what is needed of it.
        now_ns: the time.
    """

    def __init__(self, target: tuple[int, int], wants: Sequence[Want], now_ns: int) -> None:
        self._target = target
        self._wishes = {want.name: _Wish(want, now_ns) for want in wants}
        self._news: list[News] = []

    def on_message(self, name: str) -> None:
        """Take notice of a message of it."""
        wish = self._wishes.get(name)
        if wish is not None:
            wish.count += 1

    def on_acknowledged(self, command: int, result: int) -> None:
        """Take an acknowledgement: one that does not know the new way to ask is asked the old way."""
        if command == common.MAV_CMD_SET_MESSAGE_INTERVAL and result == common.MAV_RESULT_UNSUPPORTED:
            for wish in self._wishes.values():
                wish.tries = max(wish.tries, TRIES) if wish.tries else 0

    def take(self, now_ns: int) -> list[Any]:
        """Return the requests to send now."""
        messages: list[Any] = []
        streams: set[int] = set()
        for wish in self._wishes.values():
            is_enough = wish.measure(now_ns)
            if is_enough is None:
                continue
            if is_enough:
                self._on_enough(wish, now_ns)
                continue
            if self._is_lost(wish, now_ns):
                continue
            wish.tries += 1
            if wish.tries <= TRIES:
                messages.append(self._interval(wish.want))
            elif wish.tries > 2 * TRIES:
                self._on_too_few(wish, now_ns)
            elif wish.want.stream not in streams:
                streams.add(wish.want.stream)
                messages.append(self._stream(wish.want))
        return messages

    def begin_anew(self, now_ns: int) -> None:
        """Measure from now on: it is silent, and may have forgotten what it was asked for when it is back."""
        for wish in self._wishes.values():
            wish.count, wish.tries = 0, 0
            wish.since_ns = wish.rests_until_ns = now_ns

    def take_news(self) -> list[News]:
        """Return what operators must hear since the last call."""
        news, self._news = self._news, []
        return news

    def _on_enough(self, wish: _Wish, now_ns: int) -> None:
        if wish.tries:
            wish.obeyed_ns = now_ns
        wish.tries = 0
        if wish.obeyed_ns is not None and now_ns - wish.obeyed_ns <= CONTESTED_NS:
            return  # it must last
        wish.contests = 0
        if wish.is_missed:
            wish.is_missed = False
            self._tell(logging.INFO, wish.want, f"the autopilot sends {wish.want.name} again", "sends again")

    def _is_lost(self, wish: _Wish, now_ns: int) -> bool:
        """Say whether somebody else insists on another rate: two who set it in turn help nobody."""
        if wish.tries or wish.obeyed_ns is None or now_ns - wish.obeyed_ns > CONTESTED_NS:
            return False
        wish.contests += 1
        if wish.contests < CONTESTS:
            return False
        wish.contests = 0
        text = (
            f"somebody else sets how often the autopilot sends {wish.want.name}, and too seldom: {wish.want.why};"
            f" let them set {wish.want.rate_hz} Hz, or none on our port"
        )
        self._rest(wish, now_ns, text, "others slow down")
        return True

    def _on_too_few(self, wish: _Wish, now_ns: int) -> None:
        wish.tries = 0
        text = (
            f"the autopilot sends too little {wish.want.name}, although asked {2 * TRIES} times: {wish.want.why};"
            f" let its port send it at {wish.want.rate_hz} Hz"
        )
        self._rest(wish, now_ns, text, "too little")

    def _rest(self, wish: _Wish, now_ns: int, text: str, status: str) -> None:
        """Ask no more for a while, and say once why."""
        wish.rests_until_ns = now_ns + AGAIN_NS
        if not wish.is_missed:
            wish.is_missed = True
            self._tell(logging.WARNING, wish.want, text, status)

    def _tell(self, level: int, want: Want, text: str, status: str) -> None:
        news = News(level=level, text=text, subject=want.name, status_text=f"FUSION: {status} {want.short}")
        self._news.append(news)

    def _interval(self, want: Want) -> Any:
        return common.MAVLink_command_long_message(
            *self._target, common.MAV_CMD_SET_MESSAGE_INTERVAL, 0, want.message_id, 1e6 / want.rate_hz, 0, 0, 0, 0, 0
        )

    def _stream(self, want: Want) -> Any:
        """Ask for a stream, as often as that message of it which is needed most often."""
        same = [wish.want.rate_hz for wish in self._wishes.values() if wish.want.stream == want.stream]
        return common.MAVLink_request_data_stream_message(*self._target, want.stream, max(same), 1)

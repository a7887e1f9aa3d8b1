"""What others may ask to see once: who we are, how often we send what, names of classes, and what we said last."""

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol

from pymavlink.dialects.v20 import common

from edge.mavlink.control import intervals
from edge.mavlink.control.commands import ACCEPTED, REQUEST_MESSAGE, Command, Handler, Reply, denied, not_now, whole
from edge.mavlink.control.component import PROTOCOL_VERSION_ID, ProtocolVersion, autopilot_version
from edge.mavlink.control.intervals import Intervals
from edge.mavlink.outgoing.outlet import Outlet
from edge.mavlink.pace import NS_PER_S, Allowance

NEWEST_NS = 2 * NS_PER_S
"""What was said longer ago is not said again: it would pass for news."""
AGAIN_HZ = 1.0
"""So often a link with a budget says one of these again: they go before changes, or with them."""
_REPEATED = frozenset({intervals.HEARTBEAT, intervals.CLASSIFICATION, intervals.STATUS, intervals.ONBOARD})
"""Of these the newest can be had again."""
_NAMES = "148, 244, 300, 0, 390, 61200, 61202, 61203"


class Named(Protocol):
    """Who knows the names of classes: the publisher."""

    def class_info(self, class_id: int) -> Any | None:
        """Return the name of a class, None where there is no such class."""
        ...


class Requests:
    """Of all links.

    Args:
        named: who knows the names of classes.
        wanted: how often messages go out, by link.
        outlets: what carries them, by link.
    """

    def __init__(self, named: Named, wanted: Sequence[Intervals], outlets: Sequence[Outlet]) -> None:
        self._named = named
        self._wanted = wanted
        self._outlets = outlets
        self._newest: dict[int, tuple[Any, int]] = {}
        self._allowances: dict[tuple[int, int], Allowance] = {}
        """By link and message."""
        self._version = _version()

    @property
    def handlers(self) -> Mapping[int, Handler]:
        """What answers each command, by MAV_CMD; the last three are the old ways to ask."""
        return {
            REQUEST_MESSAGE: self._request,
            common.MAV_CMD_GET_MESSAGE_INTERVAL: self._interval,
            common.MAV_CMD_REQUEST_PROTOCOL_VERSION: lambda command, now_ns: _first(command, ProtocolVersion),
            common.MAV_CMD_REQUEST_AUTOPILOT_CAPABILITIES: lambda command, now_ns: _first(command, self._whoami),
        }

    def note(self, messages: Sequence[Any], now_ns: int) -> None:
        """Take what is published."""
        for message in messages:
            if message.get_msgId() in _REPEATED:
                self._newest[message.get_msgId()] = (message, now_ns)

    def _request(self, command: Command, now_ns: int) -> Reply:
        message_id = whole(command.params[0])
        if message_id is not None and message_id in _REPEATED:
            return self._repeat(command.link, message_id, now_ns)
        if message_id == common.MAVLINK_MSG_ID_AUTOPILOT_VERSION:
            return _sent(self._whoami())
        if message_id == PROTOCOL_VERSION_ID:
            return _sent(ProtocolVersion())
        if message_id == common.MAVLINK_MSG_ID_MESSAGE_INTERVAL:
            return self._interval_of(command.link, whole(command.params[1]))
        if message_id == intervals.CLASS_INFO:
            return self._class_info(whole(command.params[1]))
        return denied(f"expected one of the messages {_NAMES}")

    def _repeat(self, link: int, message_id: int, now_ns: int) -> Reply:
        newest, said_ns = self._newest.get(message_id, (None, now_ns))
        if newest is None or now_ns - said_ns > NEWEST_NS:
            return not_now("there is none of the last two seconds")
        allowance = self._allowances.setdefault((link, message_id), Allowance(AGAIN_HZ, 1.0))
        if self._outlets[link].budget is not None and not allowance.take(now_ns):
            return not_now("on a link with a budget it is said again once a second; SET_MESSAGE_INTERVAL is for more")
        if message_id != intervals.CLASSIFICATION:
            return _sent(newest)
        self._outlets[link].repeat(newest, now_ns)
        return ACCEPTED

    def _class_info(self, class_id: int | None) -> Reply:
        info = None if class_id is None else self._named.class_info(class_id)
        return denied("expected the number of a class of the model that flies") if info is None else _sent(info)

    def _interval(self, command: Command, now_ns: int) -> Reply:
        return self._interval_of(command.link, whole(command.params[0]))

    def _interval_of(self, link: int, message_id: int | None) -> Reply:
        if message_id is None or not 0 <= message_id <= intervals.HIGHEST_ID:
            return denied(f"expected the number of a message, 0 to {intervals.HIGHEST_ID}")
        return _sent(intervals.interval_message(message_id, self._wanted[link].of(message_id)))

    def _whoami(self) -> Any:
        return autopilot_version(self._version)


def _sent(message: Any) -> Reply:
    return Reply(result=ACCEPTED.result, messages=(message,))


def _first(command: Command, make: Callable[[], Any]) -> Reply:
    return _sent(make()) if command.params[0] == 1 else denied("expected 1 in param1")


def _version() -> str:
    try:
        return metadata.version("uav-fusion-edge")
    except metadata.PackageNotFoundError:  # as where the code runs from a checkout
        return ""

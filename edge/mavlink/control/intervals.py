"""How often each message goes out on one link: as usual, or as somebody asked (MAV_CMD_SET_MESSAGE_INTERVAL).

Asking thins out what is sent, down to nothing. It never makes more than the deployment and the parameters allow, nor
more than the link can carry. Pure: messages and times in, yes or no out.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.wire import codec, dialect
from edge.mavlink.wire.frames import CRC_BYTES, HEADER_V2_BYTES, MESSAGES, SIGNATURE_BYTES

US_PER_S = 1_000_000
NS_PER_US = 1_000
CLASSIFICATION = dialect.MAVLINK_MSG_ID_FUSION_CLASSIFICATION
CLASS_INFO = dialect.MAVLINK_MSG_ID_FUSION_CLASS_INFO
STATUS = dialect.MAVLINK_MSG_ID_FUSION_STATUS
NAMED_VALUE = common.MAVLINK_MSG_ID_NAMED_VALUE_FLOAT
ONBOARD = common.MAVLINK_MSG_ID_ONBOARD_COMPUTER_STATUS
HEARTBEAT = common.MAVLINK_MSG_ID_HEARTBEAT
DISABLED, DEFAULT, NOT_SENT = -1, 0, 0
"""Intervals with a meaning: what a command asks for, and what MESSAGE_INTERVAL says of a message that is not ours."""
HIGHEST_ID = 65_535
"""That MESSAGE_INTERVAL can name."""
_EARLY = 0.1
"""Of an interval a message may come too soon, as its sender's clockwork is not ours."""
_EARLY_US = 100_000
_FIELD_THAT_NAMES = {NAMED_VALUE: "name", CLASS_INFO: "class_id"}
_AT_ONCE = {NAMED_VALUE: 4}
"""Messages of one kind that belong together."""


class Intervals:
    """Of one link.

    Args:
        fastest_us: by message id, what is sent at all, -1 for nothing; it may change while this is in use.
        usual_us: by message id, where that is slower on this link; the same.
        budget_bytes_s: tells what the link may carry now, None without a limit.
    """

    def __init__(
        self, fastest_us: Mapping[int, int], usual_us: Mapping[int, int], budget_bytes_s: Callable[[], float | None]
    ) -> None:
        self._fastest_us = fastest_us
        self._usual_us = usual_us
        self._budget_bytes_s = budget_bytes_s
        self._asked_us: dict[int, int] = {}
        self._due_ns: dict[tuple[int, object], int] = {}

    def of(self, message_id: int) -> int:
        """Return the interval in us; -1 of what is not wanted here, 0 of what we never send."""
        if message_id == HEARTBEAT:
            return US_PER_S
        if message_id not in self._fastest_us:
            return NOT_SENT
        asked_us = self._asked_us.get(message_id, self._usual_us.get(message_id, DEFAULT))
        fastest_us = self._fastest_us[message_id]
        return DISABLED if DISABLED in (asked_us, fastest_us) else max(asked_us, fastest_us)

    def ask(self, message_id: int, interval_us: int) -> bool:
        """Set an interval: -1 not at all, 0 as usual; say whether it can be done."""
        if message_id not in self._fastest_us or not DISABLED <= interval_us <= codec.INT32_MAX:
            return False
        if interval_us > DEFAULT and not self._is_affordable(message_id, interval_us):
            return False
        self._asked_us.pop(message_id, None)
        if interval_us != DEFAULT:
            self._asked_us[message_id] = interval_us
        for key in [key for key in self._due_ns if key[0] == message_id]:
            del self._due_ns[key]
        return True

    def lets(self, message: Any, now_ns: int) -> bool:
        """Say whether a message goes out now; call once for each that could. Answers are summed up elsewhere."""
        message_id = message.get_msgId()
        if message_id not in self._fastest_us:
            return True
        interval_us = self.of(message_id)
        if message_id == CLASSIFICATION or interval_us == DISABLED or interval_us <= self._fastest_us[message_id]:
            return interval_us != DISABLED
        key = (message_id, getattr(message, _FIELD_THAT_NAMES.get(message_id, "msgname")))
        due_ns = self._due_ns.get(key, now_ns)
        early_ns = round(min(_EARLY * interval_us, _EARLY_US)) * NS_PER_US
        if now_ns < due_ns - early_ns:
            return False
        self._due_ns[key] = max(due_ns, now_ns - early_ns) + interval_us * NS_PER_US
        return True

    def _is_affordable(self, message_id: int, interval_us: int) -> bool:
        """Say whether that is not more than is sent at all, and all that was asked for fits into the budget."""
        fastest_us, budget_bytes_s = self._fastest_us[message_id], self._budget_bytes_s()
        if fastest_us == DISABLED or interval_us < fastest_us:
            return False
        wanted_us = {**self._asked_us, message_id: interval_us}
        wanted_bytes_s = sum(bytes_s(number, each_us) for number, each_us in wanted_us.items() if each_us > 0)
        return budget_bytes_s is None or wanted_bytes_s <= budget_bytes_s


def interval_of(microseconds: float) -> int | None:
    """Return an interval that was asked for; a fraction, as of 30 a second, counts as the next longer; None: none."""
    if not math.isfinite(microseconds) or (microseconds < 0 and microseconds != DISABLED):
        return None
    return math.ceil(microseconds)


def bytes_s(message_id: int, interval_us: int) -> float:
    """Return the bytes a second that a message takes at most, signed."""
    frame_bytes = HEADER_V2_BYTES + MESSAGES[message_id].unpacker.size + CRC_BYTES + SIGNATURE_BYTES
    return float(_AT_ONCE.get(message_id, 1) * frame_bytes * US_PER_S / interval_us)


def interval_message(message_id: int, interval_us: int) -> Any:
    """Return MESSAGE_INTERVAL."""
    return common.MAVLink_message_interval_message(message_id=message_id, interval_us=min(interval_us, codec.INT32_MAX))

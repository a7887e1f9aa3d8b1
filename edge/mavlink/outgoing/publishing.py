"""What operators may start and stop over MAVLink: the publishing of answers. The pipeline and the recorder go on."""

import enum

from pymavlink.dialects.v20 import common

from edge.transport.messages import PipelineStatus


class Publishing(enum.Enum):
    """How much of what the pipeline answers is sent."""

    ON = "on"
    PAUSED = "paused"
    """No answers; the status goes on."""
    STOPPED = "stopped"
    """Neither: HEARTBEAT, and news that people must hear."""


class Mode(enum.IntFlag):
    """What system_status does not tell: custom_mode of our HEARTBEAT."""

    PAUSED = 1
    STOPPED = 2
    SHEDS = 4
    """The board cannot do it all, and something is left out."""
    TEST = 8
    """Faults are injected into this flight."""


_MODES = {Publishing.ON: Mode(0), Publishing.PAUSED: Mode.PAUSED, Publishing.STOPPED: Mode.STOPPED}


def mode_of(publishing: Publishing, status: PipelineStatus | None) -> Mode:
    """Return what a heartbeat tells.

    Args:
        publishing: how much is sent.
        status: the pipeline's last one, None before there is any.
    """
    mode = _MODES[publishing]
    if status is None:
        return mode
    mode |= Mode.SHEDS if status.load.level else Mode(0)
    return mode | (Mode.TEST if status.injected.faults else Mode(0))


STOP, START, PAUSE, RESUME = range(4)
"""What param1 of MAV_CMD_USER_1 asks for."""
_NEXT = {
    STOP: dict.fromkeys(Publishing, Publishing.STOPPED),
    START: dict.fromkeys(Publishing, Publishing.ON),
    PAUSE: {Publishing.ON: Publishing.PAUSED, Publishing.PAUSED: Publishing.PAUSED},
    RESUME: {Publishing.ON: Publishing.ON, Publishing.PAUSED: Publishing.ON},
}


def after(publishing: Publishing, order: int | None) -> Publishing | int:
    """Return what an order makes of it, or the MAV_RESULT that refuses it."""
    if order not in _NEXT:
        return int(common.MAV_RESULT_DENIED)
    return _NEXT[order].get(publishing, int(common.MAV_RESULT_TEMPORARILY_REJECTED))

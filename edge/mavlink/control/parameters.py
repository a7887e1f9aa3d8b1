"""What can be set over MAVLink while flying: REAL32 parameters with ranges, which outlive a restart where told to.

Pure but for `read_saved` and `Saver`. All are REAL32: ground stations disagree on how whole numbers are packed.
"""

import logging
import math
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from pymavlink.dialects.v20 import common

from edge.mavlink.control.commands import is_for
from edge.mavlink.control.complaints import Complaints
from edge.mavlink.deployment import LEAST_BYTES_S
from edge.mavlink.network.link import Received
from edge.mavlink.pace import Allowance
from models.disk import write_whole
from models.errors import RecordingError

log = logging.getLogger(__name__)

LISTS_HZ = 1.0
"""Lists of all parameters on one link: a few bytes must not make many, again and again."""
REQUESTS_HZ = 20.0
MAX_NAME = 16
MAX_WAITING = 64
"""Answers that wait to be sent."""
MAX_FILE_BYTES = 1 << 16
BY_NAME = -1
"""Index of a PARAM_REQUEST_READ that gives the name instead."""
AS_DEPLOYED = -1.0
MOST = 3e38
"""That a REAL32 can tell; a deployment may say more."""
_QUESTIONS = frozenset({"PARAM_REQUEST_LIST", "PARAM_REQUEST_READ", "PARAM_SET"})


class Parameter(NamedTuple):
    """What can be set."""

    name: str
    """At most MAX_NAME characters."""
    low: float
    high: float
    is_whole: bool = False
    besides: float | None = None
    """A value outside of the range that means as deployed."""

    def takes(self, value: float) -> bool:
        """Say whether it may have this value."""
        is_within = math.isfinite(value) and self.low <= value <= self.high
        return value == self.besides or (is_within and not (self.is_whole and value != int(value)))

    @property
    def range_text(self) -> str:
        """What it may be, for people."""
        besides = "" if self.besides is None else f", or {self.besides:g}"
        return f"{self.low:g} to {self.high:g}{', whole' * self.is_whole}{besides}"


PARAMETERS = (
    Parameter("FUS_RATE_HZ", 0.1, 1000),
    Parameter("FUS_NVAL_HZ", 0, 10),
    Parameter("FUS_TEXT", 0, 1, is_whole=True),
    Parameter("FUS_MIN_CONF", 0, 1),
    Parameter("FUS_STALE_MS", 10, 10_000),
    Parameter("FUS_HB_TMO", 1, 30),
    Parameter("FUS_LINK_BPS", LEAST_BYTES_S, 1_000_000, besides=AS_DEPLOYED),
    Parameter("FUS_AGG_S", 0, 60, besides=AS_DEPLOYED),
    Parameter("FUS_AGG_CONF", 0, 1),
    Parameter("FUS_BKFL_PCT", 1, 100),
)
"""See docs/mavlink.md. Add at the end: ground stations remember indices."""


class Parameters(Mapping[str, float]):
    """The values in force, by name, and what is said of them on the links.

    Args:
        ours: system and component that we are.
        deployed: value of each parameter as the deployment has it.
        saved: what was set and saved in an earlier flight.
        complaints: told of what is not done.
    """

    def __init__(
        self,
        ours: tuple[int, int],
        deployed: Mapping[str, float],
        saved: Mapping[str, float],
        complaints: Complaints,
    ) -> None:
        self._ours = ours
        self._complaints = complaints
        self._deployed = {known.name: deployed[known.name] for known in PARAMETERS}
        self._changed = dict(saved)
        self._index = {known.name: index for index, known in enumerate(PARAMETERS)}
        self._outbox: list[tuple[int, Any]] = []
        self._allowances: dict[tuple[int, str, bool], Allowance] = {}
        """By link, kind, and whether the sender is proven: those who are not have answers of their own to use up."""

    def __getitem__(self, name: str) -> float:
        return self._changed[name] if name in self._changed else self._deployed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._deployed)

    def __len__(self) -> int:
        return len(self._deployed)

    @property
    def changed(self) -> dict[str, float]:
        """What was set, now or before, and is not as deployed."""
        return dict(self._changed)

    def replace(self, changed: Mapping[str, float]) -> None:
        """Let these and no others differ from the deployment."""
        self._changed = dict(changed)

    def on_received(self, link: int, item: Received, now_ns: int) -> bool:
        """Take a message of a link; say whether it has changed a value."""
        if item.name not in _QUESTIONS or not is_for(item.message, self._ours):
            return False
        sender = f"{item.system_id}/{item.component_id}"
        if not self._allows(link, item, now_ns):
            text = f"link {link + 1}: too many {item.name} ({sender}): those beyond are not answered"
            self._complaints.note("too many", item.name, text)
            return False
        if item.name == "PARAM_SET":
            return self._set(link, item.message, sender)
        for name in self if item.name == "PARAM_REQUEST_LIST" else self._asked(item.message, sender):
            self._tell(link, name)
        return False

    def take(self) -> list[tuple[int, Any]]:
        """Return the messages to send now, each with its link."""
        messages, self._outbox = self._outbox, []
        return messages

    def message(self, name: str) -> Any:
        """Return the PARAM_VALUE of a parameter: the value in force."""
        return common.MAVLink_param_value_message(
            param_id=name.encode(),
            param_value=min(self[name], MOST),
            param_type=common.MAV_PARAM_TYPE_REAL32,
            param_count=len(self),
            param_index=self._index[name],
        )

    def _set(self, link: int, message: Any, sender: str) -> bool:
        """Set a parameter where it names us alone and may have the value; the answer is the value in force."""
        name, kind, value = message.param_id, message.param_type, message.param_value
        if not self._is_named(message):
            if name in self:
                text = f"PARAM_SET {name!r} of {sender} to all: left alone: send it to {'/'.join(map(str, self._ours))}"
                self._complaints.note("not for us alone", "PARAM_SET", text)
            return False
        if name not in self:
            self._note_unknown(name, sender)
            return False
        known, before = PARAMETERS[self._index[name]], self[name]
        if kind == common.MAV_PARAM_TYPE_REAL32 and known.takes(value):
            self._changed[name] = value
        else:
            text = f"{name} of {sender}: refused {value:g} of type {kind}: expected {known.range_text} as REAL32 (9)"
            self._complaints.note("refused", name, text)
        self._tell(link, name)
        return self[name] != before

    def _asked(self, message: Any, sender: str) -> tuple[str, ...]:
        """Return the parameter that is asked for by index or by name; none where there is none."""
        if 0 <= message.param_index < len(PARAMETERS):
            return (PARAMETERS[message.param_index].name,)
        if message.param_index == BY_NAME and message.param_id in self:
            return (message.param_id,)
        if self._is_named(message):  # others may have what all are asked for
            self._note_unknown(message.param_id if message.param_index == BY_NAME else message.param_index, sender)
        return ()

    def _is_named(self, message: Any) -> bool:
        return (message.target_system, message.target_component) == self._ours

    def _note_unknown(self, what: object, sender: str) -> None:
        text = f"parameter {what!r} of {sender}: not answered: expected one of {', '.join(self)}, or its index"
        self._complaints.note("no such parameter", "", text)

    def _tell(self, link: int, name: str) -> None:
        if len(self._outbox) < MAX_WAITING:
            self._outbox.append((link, self.message(name)))

    def _allows(self, link: int, item: Received, now_ns: int) -> bool:
        rate_hz = LISTS_HZ if item.name == "PARAM_REQUEST_LIST" else REQUESTS_HZ
        key = (link, item.name, item.is_proven)
        return self._allowances.setdefault(key, Allowance(rate_hz, 1.0)).take(now_ns)


class _Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    parameters: dict[str, float]


def read_saved(path: Path) -> tuple[dict[str, float], str]:
    """Return what was saved, and what of it cannot be used, in words.

    A flight begins without that, on the deployment's values: it is no configuration that somebody wrote, but what a
    flight left behind, perhaps as its power went.
    """
    try:
        with path.open("rb") as file:
            saved = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=_Saved).parameters
    except FileNotFoundError:
        return {}, ""
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return {}, f"cannot be read ({getattr(error, 'strerror', None) or error})"
    known = {parameter.name: parameter for parameter in PARAMETERS}
    usable = {name: value for name, value in saved.items() if name in known and known[name].takes(value)}
    problems = [
        f"{name} is {value:g}: expected {known[name].range_text}"
        if name in known
        else f"{name[:MAX_NAME]}: expected one of {', '.join(known)}"
        for name, value in saved.items()
        if name not in usable
    ]
    return usable, "; ".join(problems[: len(PARAMETERS)])


class Saver:
    """Saves parameters in a thread: a disk that is slow must not hold the heartbeat up.

    Args:
        path: a JSON file; there whole, or as it was before.
    """

    def __init__(self, path: Path) -> None:
        self.saved, self.problem = read_saved(path)
        """What a start would find, and what of it is of no use."""
        self._path = path
        if self.saved:
            log.info("%s: in force instead of the deployment's: %s", path, self.saved)
        if self.problem:
            log.error(
                "%s: %s: the deployment's values count instead; set them again and save (PREFLIGHT_STORAGE), or remove"
                " the file", path, self.problem,
            )  # fmt: skip
        self._thread: threading.Thread | None = None
        self._result = int(common.MAV_RESULT_FAILED)

    @property
    def is_busy(self) -> bool:
        """Whether something is being saved."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, changed: Mapping[str, float]) -> None:
        """Save; not before the last time has come to its end."""
        self._thread = threading.Thread(target=self._save, args=(dict(changed),), name="parameters", daemon=True)
        self._thread.start()

    def result(self) -> int | None:
        """Return the MAV_RESULT of what was begun; None while it is under way."""
        if self._thread is not None and self._thread.is_alive():
            return None
        self._thread = None
        return self._result

    def _save(self, changed: dict[str, float]) -> None:
        text = msgspec.json.format(msgspec.json.encode(_Saved(parameters=changed)), indent=2)
        try:
            write_whole(self._path, text + b"\n")
        except RecordingError as error:
            log.warning("parameters are not saved: %s", error)
            self._result = int(common.MAV_RESULT_FAILED)
        else:
            self.saved, self.problem = changed, ""
            self._result = int(common.MAV_RESULT_ACCEPTED)

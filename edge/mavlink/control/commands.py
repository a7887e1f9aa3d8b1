"""Commands of others: whose are answered, what is done once although it is asked twice, and what comes back.

Pure: messages and times come in, acknowledgements come out of `take`. Whether a sender may command at all was decided
before, by the link (see `security`).
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.control.complaints import Complaints
from edge.mavlink.network.link import Received
from edge.mavlink.pace import NS_PER_S, Allowance

REQUEST_MESSAGE = common.MAV_CMD_REQUEST_MESSAGE
FOR_ALL = frozenset({REQUEST_MESSAGE})
"""What is also answered when it was sent to all components. Whatever changes something must name us."""
QUESTIONS = frozenset({
    REQUEST_MESSAGE, common.MAV_CMD_GET_MESSAGE_INTERVAL, common.MAV_CMD_REQUEST_PROTOCOL_VERSION,
    common.MAV_CMD_REQUEST_AUTOPILOT_CAPABILITIES,
})  # fmt: skip
"""What changes nothing: a repetition is carried out again, as the answer may be what was lost."""
REPEATED_NS = 10 * NS_PER_S
"""A repetition comes so soon, else it is a new command."""
MAX_REMEMBERED = 64
"""Senders and commands; beyond, the oldest is forgotten."""
PROGRESS_UNKNOWN = 255
PROGRESS_NS = NS_PER_S
"""What lasts is told again so often: who asked waits for longer then."""
LONGEST_NS = 60 * NS_PER_S
"""What lasts for longer has failed, as far as who asked is concerned."""
COMMANDS_HZ = 20.0
"""On one link; what is beyond is left alone, and its sender tries again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A command that is meant for us."""

    link: int
    """Number of the link that it came on."""
    sender: tuple[int, int]
    """System and component."""
    number: int
    """MAV_CMD."""
    params: tuple[float, ...]
    """Seven; any may be NaN or infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What becomes of a command."""

    result: int
    """MAV_RESULT."""
    messages: tuple[Any, ...] = ()
    """Sent behind the acknowledgement, on the same link."""
    later: Callable[[], int | None] | None = None
    """Tells the final result once it is there, where `result` is IN_PROGRESS."""
    why: str = ""
    """Of a refusal: what was expected."""


ACCEPTED = Reply(result=common.MAV_RESULT_ACCEPTED)
NOT_NOW = common.MAV_RESULT_TEMPORARILY_REJECTED


def denied(why: str) -> Reply:
    """Refuse what can never be done as it was asked."""
    return Reply(result=common.MAV_RESULT_DENIED, why=why)


def not_now(why: str) -> Reply:
    """Refuse what may be done when it is asked again."""
    return Reply(result=NOT_NOW, why=why)


Handler = Callable[[Command, int], Reply]
"""Does what a command asks, now; takes the time in ns."""


@dataclass(kw_only=True, slots=True)
class _Done:
    """What was answered to a command."""

    params: bytes
    result: int
    at_ns: int


@dataclass(kw_only=True, slots=True)
class _Pending:
    command: Command
    later: Callable[[], int | None]
    begun_ns: int
    told_ns: int


class Commands:
    """Answers COMMAND_LONG and COMMAND_INT.

    Args:
        ours: system and component that we are.
        handlers: by MAV_CMD; whatever is not among them is UNSUPPORTED.
        complaints: told of what is not done.
    """

    def __init__(self, ours: tuple[int, int], handlers: Mapping[int, Handler], complaints: Complaints) -> None:
        self._ours = ours
        self._handlers = handlers
        self._complaints = complaints
        self._done: dict[tuple[tuple[int, int], int], _Done] = {}
        self._pending: list[_Pending] = []
        self._outbox: list[tuple[int, Any]] = []
        self._allowances: dict[tuple[int, bool], Allowance] = {}

    def on_received(self, link: int, item: Received, now_ns: int) -> None:
        """Take a message of a link; what is no command for us is left alone."""
        if item.name not in ("COMMAND_LONG", "COMMAND_INT"):
            return
        message = item.message
        sender = (item.system_id, item.component_id)
        is_named = (message.target_system, message.target_component) == self._ours
        if not is_named and not (message.command in FOR_ALL and is_for(message, self._ours)):
            self._note_unnamed(message, sender)
            return
        key = (link, item.is_proven)  # who is not proven has commands of its own to use up
        if not self._allowances.setdefault(key, Allowance(COMMANDS_HZ, 1.0)).take(now_ns):
            text = f"link {link + 1}: more than {COMMANDS_HZ:.0f} commands a second: those beyond are not answered"
            self._complaints.note("too many", link, text)
            return
        command = Command(link=link, sender=sender, number=message.command, params=_params(message))
        confirmation = message.confirmation if item.name == "COMMAND_LONG" else 0
        done = self._done.get((command.sender, command.number))
        if confirmation and done is not None and self._is_repeated(command, done, now_ns):
            reply = Reply(result=done.result)
        else:
            reply = self._carry_out(command, now_ns)
        if is_named or reply.result == common.MAV_RESULT_ACCEPTED:
            self._complain(command, reply)
            self._acknowledge(command, reply.result)
            self._outbox += [(link, message) for message in reply.messages]

    def take(self, now_ns: int) -> list[tuple[int, Any]]:
        """Return the messages to send now, each with its link."""
        for pending in list(self._pending):
            result = pending.later()
            if result is None and now_ns - pending.begun_ns > LONGEST_NS:
                result = int(common.MAV_RESULT_FAILED)
            if result is not None:
                self._pending.remove(pending)
                self._remember(pending.command, result, now_ns)
                self._acknowledge(pending.command, result)
            elif now_ns - pending.told_ns >= PROGRESS_NS:
                pending.told_ns = now_ns
                self._acknowledge(pending.command, common.MAV_RESULT_IN_PROGRESS)
        messages, self._outbox = self._outbox, []
        return messages

    def _is_repeated(self, command: Command, done: _Done, now_ns: int) -> bool:
        is_soon = now_ns - done.at_ns <= REPEATED_NS
        return is_soon and command.number not in QUESTIONS and done.params == _packed(command.params)

    def _carry_out(self, command: Command, now_ns: int) -> Reply:
        handler = self._handlers.get(command.number)
        reply = self._unsupported() if handler is None else handler(command, now_ns)
        if reply.later is not None:
            self._pending.append(_Pending(command=command, later=reply.later, begun_ns=now_ns, told_ns=now_ns))
        if reply.result != NOT_NOW:  # it is meant to be tried again
            self._remember(command, reply.result, now_ns)
        return reply

    def _unsupported(self) -> Reply:
        known = ", ".join(map(str, sorted(self._handlers)))
        return Reply(result=common.MAV_RESULT_UNSUPPORTED, why=f"expected one of {known}")

    def _note_unnamed(self, message: Any, sender: tuple[int, int]) -> None:
        """Explain what would change something if it named us, and not others as well."""
        if message.command in self._handlers.keys() - QUESTIONS and is_for(message, self._ours):
            (system, component), ours = sender, "/".join(map(str, self._ours))
            text = f"command {message.command} of {system}/{component} to all: left alone: send it to {ours}"
            self._complaints.note("not for us alone", message.command, text)

    def _complain(self, command: Command, reply: Reply) -> None:
        if reply.why:
            result = common.enums["MAV_RESULT"][reply.result].name.removeprefix("MAV_RESULT_").lower()
            params = ", ".join(f"{value:g}" for value in command.params)
            (system, component), number = command.sender, command.number
            text = f"command {number} of {system}/{component} ({params}): {result}: {reply.why}"
            self._complaints.note(result, number, text)

    def _remember(self, command: Command, result: int, now_ns: int) -> None:
        key = (command.sender, command.number)
        self._done.pop(key, None)
        if result == common.MAV_RESULT_ACCEPTED and command.number not in QUESTIONS:
            self._forget_undone(command)
        if len(self._done) >= MAX_REMEMBERED:
            del self._done[next(iter(self._done))]
        self._done[key] = _Done(params=_packed(command.params), result=result, at_ns=now_ns)

    def _forget_undone(self, command: Command) -> None:
        """Let what others had done otherwise count as new: it is undone, and must not be acknowledged alone."""
        params = _packed(command.params)
        for other in [key for key, done in self._done.items() if key[1] == command.number and done.params != params]:
            del self._done[other]

    def _acknowledge(self, command: Command, result: int) -> None:
        system, component = command.sender
        message = common.MAVLink_command_ack_message(
            command=command.number,
            result=result,
            progress=PROGRESS_UNKNOWN if result == common.MAV_RESULT_IN_PROGRESS else 0,
            target_system=system,
            target_component=component,
        )
        self._outbox.append((command.link, message))


def is_for(message: Any, ours: tuple[int, int]) -> bool:
    """Say whether a message is meant for us, alone or among others."""
    return message.target_system in (0, ours[0]) and message.target_component in (0, ours[1])


def whole(value: float) -> int | None:
    """Return a parameter that must be a whole number; None where it is none."""
    return int(value) if math.isfinite(value) and value == int(value) else None


def _params(message: Any) -> tuple[float, ...]:
    first = (message.param1, message.param2, message.param3, message.param4)
    if message.get_type() == "COMMAND_INT":
        return (*first, float(message.x), float(message.y), message.z)
    return (*first, message.param5, message.param6, message.param7)


def _packed(params: tuple[float, ...]) -> bytes:
    """Return parameters so that they can be compared, NaN too."""
    return struct.pack("<7d", *params)

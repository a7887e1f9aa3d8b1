"""Who may say what on a link: signatures where they are asked for, and whose commands count."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edge.mavlink.deployment import Required
from edge.mavlink.trust.signing import Refusal, Signing, is_signed

COMMANDS = frozenset(
    {
        "COMMAND_INT", "COMMAND_LONG", "FILE_TRANSFER_PROTOCOL", "PARAM_EXT_SET", "PARAM_SET", "REQUEST_DATA_STREAM",
        "SERIAL_CONTROL", "SETUP_SIGNING", "SET_MODE",
    }
)  # fmt: skip
"""What makes us do something else than before; all that we do for others must be named here."""

REMEDIES = {
    Refusal.UNSIGNED: "let the sender sign with the link's key, or set require_signed: none",
    Refusal.NO_KEY: "give the link a key (uav-edge mavlink keygen), or set require_signed: none",
    Refusal.WRONG_SIGNATURE: "give the sender the link's key, or somebody forges frames",
    Refusal.REPLAYED: "somebody sends old frames again, or two senders share system, component and link id",
    Refusal.TOO_OLD: "set the sender's clock; it follows ours once it hears us",
    Refusal.TOO_LATE: "the sender's clock is many decades ahead: set it",
    Refusal.NOT_SAVED: "none, if it ends soon; else the disk with the key hangs",
    Refusal.CROWDED: "too many senders with this key in one minute: give each vehicle a key of its own",
    Refusal.OURS: "another sender uses our system and component, or the link is an echo",
    Refusal.NOT_ALLOWED: "add the sender to the link's allow list, as SYSTEM/COMPONENT",
    Refusal.SETUP_SIGNING: "keys come from files, never over the air",
}


RADIO_STATUS = "RADIO_STATUS"
"""What a radio says of itself. No radio signs; the worst that a false one does is that answers are summed up."""


class Verdict(NamedTuple):
    """What a link makes of a message."""

    refusal: Refusal | None
    """Why it does not count; None where it does."""
    is_proven: bool
    """Whether it counts, and a signature, or a wire that nobody else is on, shows who sent it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Security:
    """What a link demands of those on it, and how it signs."""

    require_signed: Required = "none"
    allow: frozenset[tuple[int, int]] = field(default=frozenset())
    """(system, component) of those whose commands count; empty: anybody's that passes the signature."""
    signing: Signing | None = None
    """Signs what is sent, and checks what comes."""
    link_id: int = 0
    """Of ours in signatures, a different one for each link."""
    is_serial: bool = False
    """Whether it is a port of this computer, and no network."""

    @property
    def is_wire(self) -> bool:
        """Whether who is there needs no proof: a serial port of which nothing is demanded."""
        return self.is_serial and self.signing is None and self.require_signed == "none"

    def signature(self, frame: bytes) -> bytes:
        """Return what follows a frame of ours that announces a signature; nothing without a key."""
        return b"" if self.signing is None else self.signing.signature(frame, self.link_id)

    def judge(self, message: Any, ours: tuple[int, int]) -> Verdict:
        """Return what becomes of a message with a right CRC.

        Args:
            message: as pymavlink decodes it, with its frame.
            ours: system and component that we are.
        """
        name, frame = message.get_type(), bytes(message.get_msgbuf())
        sender, is_command = (message.get_srcSystem(), message.get_srcComponent()), name in COMMANDS
        if name == "SETUP_SIGNING":
            return Verdict(Refusal.SETUP_SIGNING, False)
        if sender == ours and (is_command or is_signed(frame)):
            return Verdict(Refusal.OURS, False)
        unproven = self._unproven(frame)
        if self._must_be_signed(name, frame) and unproven is not None:
            return Verdict(unproven, False)
        if is_command and self.allow and sender not in self.allow:
            return Verdict(Refusal.NOT_ALLOWED, False)
        return Verdict(None, unproven is None or self.is_wire)

    def _must_be_signed(self, name: str, frame: bytes) -> bool:
        """Say whether a message counts only with a right signature; a wrong one is worse than none."""
        if self.require_signed == "none":
            return False
        if self.signing is not None and is_signed(frame):
            return True
        if self.require_signed == "commands":
            return name in COMMANDS
        return not (name == RADIO_STATUS and self.is_serial)

    def _unproven(self, frame: bytes) -> Refusal | None:
        """Return why a frame does not show who sent it; one that does sets our time on to its own."""
        return Refusal.NO_KEY if self.signing is None else self.signing.check(frame)

"""Who may say what on a link: signatures where they are asked for, and whose commands count."""

from dataclasses import dataclass, field
from typing import Any

from edge.mavlink.deployment import Required
from edge.mavlink.signing import Refusal, Signing, is_signed

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
    Refusal.CROWDED: "too many senders with this key: restart, and give each vehicle a key of its own",
    Refusal.OURS: "another sender uses our system and component, or the link is an echo",
    Refusal.NOT_ALLOWED: "add the sender to the link's allow list, as SYSTEM/COMPONENT",
    Refusal.SETUP_SIGNING: "keys come from files, never over the air",
}


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

    def sign(self, frame: bytes, crc_extra: int) -> bytes:
        """Return the frame as it goes out."""
        return frame if self.signing is None else self.signing.sign(frame, crc_extra, self.link_id)

    def refusal(self, message: Any, ours: tuple[int, int]) -> Refusal | None:
        """Return why a message with a right CRC does not count, None where it does.

        Args:
            message: as pymavlink decodes it, with its frame.
            ours: system and component that we are.
        """
        sender, is_command = (message.get_srcSystem(), message.get_srcComponent()), message.get_type() in COMMANDS
        if message.get_type() == "SETUP_SIGNING":
            return Refusal.SETUP_SIGNING
        if sender == ours and (is_command or is_signed(message.get_msgbuf())):
            return Refusal.OURS
        refusal = self._unproven(bytes(message.get_msgbuf()), is_command=is_command)
        if refusal is None and is_command and self.allow and sender not in self.allow:
            return Refusal.NOT_ALLOWED
        return refusal

    def _unproven(self, frame: bytes, *, is_command: bool) -> Refusal | None:
        must_be_signed = self.require_signed == "all" or (is_command and self.require_signed == "commands")
        if self.signing is None:
            return Refusal.NO_KEY if must_be_signed else None
        if not must_be_signed and not is_signed(frame):
            return None
        refusal = self.signing.check(frame)  # also sets our time on to theirs, where nothing is demanded, too
        return None if self.require_signed == "none" else refusal

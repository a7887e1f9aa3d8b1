"""What a deployment's YAML says under `mavlink`. Each field: unit, meaning, range."""

import re
from pathlib import Path
from typing import Literal

import msgspec

from edge.mavlink.camera import CameraConfig
from edge.mavlink.transport import FileAddress, NetworkAddress, parse_link
from models.errors import ConfigError

Required = Literal["commands", "all", "none"]
"""What must be signed to count."""


class LinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One link, and whom it believes. See docs/mavlink.md."""

    link: str
    """udpout:HOST:PORT, udpin:HOST:PORT, tcpout:HOST:PORT, tcpin:HOST:PORT, serial:DEVICE:BAUD, or file:PATH."""
    key: str | None = None
    """File of 32 bytes that `uav-edge mavlink keygen` makes, relative to this file; what is sent is signed with it."""
    require_signed: Literal["auto", "commands", "all", "none"] = "auto"
    """What must be signed to count. auto: commands, and nothing on a serial port without a key."""
    allow: tuple[str, ...] = ()
    """Whose commands count, as SYSTEM/COMPONENT, such as 255/190; empty: all that pass the signature."""

    def __post_init__(self) -> None:
        address = _address(self.link)
        for sender in self.allow:
            _require(_sender(sender) is not None, f"allow: {sender!r}: expected SYSTEM/COMPONENT, each 1 to 255")
        needs = f"link {self.link!r}: require_signed: all needs a key: make one with uav-edge mavlink keygen FILE"
        _require(self.require_signed != "all" or self.key is not None, needs)
        is_plain = self.key is None and self.require_signed == "auto" and not self.allow
        plain = f"link {self.link!r}: a file is not signed and commands nothing: leave key, require_signed, allow out"
        _require(is_plain or not isinstance(address, FileAddress), plain)

    @property
    def senders(self) -> frozenset[tuple[int, int]]:
        """`allow` as numbers."""
        return frozenset(found for sender in self.allow if (found := _sender(sender)) is not None)

    @property
    def demand(self) -> Required:
        """What must be signed to count."""
        if self.require_signed != "auto":
            return self.require_signed
        is_network = isinstance(parse_link(self.link), NetworkAddress)
        return "commands" if is_network or self.key is not None else "none"


class MavlinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the vehicle and the ground hear of it."""

    links: tuple[str | LinkConfig, ...]
    """A text is a `link` without anything else."""
    system_id: int = 1
    component_id: int = 191
    """191 is MAV_COMP_ID_ONBOARD_COMPUTER."""
    max_rate_hz: float = 200.0
    """Most classifications a second on each link, of some 90 bytes each; class changes always go out.

    The default passes on every answer of a 100 Hz radio. A telemetry radio wants some 5.
    """
    camera: CameraConfig | None = None
    """Places what it sees on the ground; without, answers carry where the vehicle is."""
    radio_radius_m: float | None = None
    """How far from the vehicle an emitter is that the radio alone classified; h_acc of such an answer."""

    def __post_init__(self) -> None:
        _require(bool(self.links), "links: expected at least one; leave mavlink out to send nothing")
        for link in self.links:
            _address(link if isinstance(link, str) else link.link)
        names = [config.link for config in self.link_configs]
        _require(len(set(names)) == len(names), "links: one is named twice: keep one")
        _require(1 <= self.system_id <= 255, f"system_id is {self.system_id}: expected 1 to 255")
        _require(1 <= self.component_id <= 255, f"component_id is {self.component_id}: expected 1 to 255")
        radius_m = self.radio_radius_m
        _require(radius_m is None or 0 < radius_m <= 6553, "radio_radius_m: expected above 0 to 6553")
        _require(0 < self.max_rate_hz <= 1000, f"max_rate_hz is {self.max_rate_hz}: expected above 0 to 1000")

    @property
    def link_configs(self) -> tuple[LinkConfig, ...]:
        """The links, each with what it demands."""
        return tuple(LinkConfig(link=link) if isinstance(link, str) else link for link in self.links)

    def with_keys_in(self, folder: Path) -> "MavlinkConfig":
        """Return the same with key files that were named relative to a folder."""
        links = tuple(
            msgspec.structs.replace(link, key=str((folder / link.key).resolve()))
            if isinstance(link, LinkConfig) and link.key is not None
            else link
            for link in self.links
        )
        return msgspec.structs.replace(self, links=links)


def _address(link: str) -> object:
    try:
        return parse_link(link)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _require(claim: bool, text: str) -> None:
    if not claim:
        raise ValueError(text)


def _sender(text: str) -> tuple[int, int] | None:
    """Return system and component, None where the text does not name them."""
    found = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", text)
    sender = (int(found[1]), int(found[2])) if found is not None else (0, 0)
    return sender if min(sender) >= 1 and max(sender) <= 255 else None

"""What a deployment's YAML says under `mavlink`. Each field: unit, meaning, range."""

import math
import re
from pathlib import Path
from typing import Literal

import msgspec

from edge.mavlink.geometry.camera import CameraConfig
from edge.mavlink.ports.transport import FileAddress, NetworkAddress, SerialAddress, parse_link
from models.errors import ConfigError

Required = Literal["commands", "all", "none"]
"""What must be signed to count."""
Bearer = Literal["native", "tunnel", "summary"]
"""How we speak on a link: in messages of our own, in TUNNEL, or in texts and values that every ground station shows."""
LEAST_BYTES_S = 200.0
"""Of a budget: with less the largest frame would never fit into what is saved up."""
BITS_A_BYTE = 10
"""On a serial line: start and stop bit beside the eight."""
OURS_OF_A_LINE = 0.1
"""A serial port leads to an autopilot, whose radio is slower than the port, and is not ours alone."""


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
    bearer: tuple[Bearer, ...] = ()
    """native: our messages as they are. tunnel: in TUNNEL, which autopilots pass on. summary: STATUSTEXT and values.

    Empty: tunnel and summary on a serial port, native and summary elsewhere.
    """
    budget_bytes_s: float | None = None
    """Most bytes a second, 0: no limit. Without: a tenth of what a serial port carries, and no limit elsewhere."""
    aggregate_s: float | None = None
    """Answers that change nothing are sent so often, as one; 0: each. Without: 1 with a budget, else 0."""

    def __post_init__(self) -> None:
        address = _address(self.link)
        for sender in self.allow:
            _require(_sender(sender) is not None, f"allow: {sender!r}: expected SYSTEM/COMPONENT, each 1 to 255")
        needs = f"link {self.link!r}: require_signed: all needs a key: make one with uav-edge mavlink keygen FILE"
        _require(self.require_signed != "all" or self.key is not None, needs)
        budget, period_s = self.budget_bytes_s, self.aggregate_s
        few = f"budget_bytes_s is {budget}: expected 0, or at least {LEAST_BYTES_S:.0f}"
        _require(budget is None or budget == 0 or LEAST_BYTES_S <= budget <= 1e9, few)
        _require(period_s is None or 0 <= period_s <= 60, f"aggregate_s is {period_s}: expected 0 to 60")
        is_plain = self.key is None and self.require_signed == "auto" and not self.allow
        plain = f"link {self.link!r}: a file is not signed and commands nothing: leave key, require_signed, allow out"
        _require(is_plain or not isinstance(address, FileAddress), plain)

    @property
    def senders(self) -> frozenset[tuple[int, int]]:
        """`allow` as numbers."""
        return frozenset(found for sender in self.allow if (found := _sender(sender)) is not None)

    @property
    def bearers(self) -> frozenset[Bearer]:
        """How we speak."""
        if self.bearer:
            return frozenset(self.bearer)
        is_serial = isinstance(parse_link(self.link), SerialAddress)
        return frozenset({"tunnel", "summary"} if is_serial else {"native", "summary"})

    @property
    def bytes_s(self) -> float | None:
        """Most bytes a second, None without a limit."""
        if self.budget_bytes_s is not None:
            return self.budget_bytes_s or None
        address = parse_link(self.link)
        if not isinstance(address, SerialAddress):
            return None
        return max(OURS_OF_A_LINE * address.baud / BITS_A_BYTE, LEAST_BYTES_S)

    @property
    def line_bytes_s(self) -> float:
        """What the line itself carries; no limit is known of a network's."""
        address = parse_link(self.link)
        return max(address.baud / BITS_A_BYTE, LEAST_BYTES_S) if isinstance(address, SerialAddress) else math.inf

    @property
    def period_s(self) -> float:
        """How often answers that change nothing are sent, as one; 0: each."""
        return self.aggregate_s if self.aggregate_s is not None else float(self.bytes_s is not None)

    @property
    def demand(self) -> Required:
        """What must be signed to count."""
        if self.require_signed != "auto":
            return self.require_signed
        is_network = isinstance(parse_link(self.link), NetworkAddress)
        return "commands" if is_network or self.key is not None else "none"


class SpoolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the flight's memory lies, and how much of it. See docs/mavlink.md."""

    folder: str
    """For telemetry logs, relative to this file; made when absent. No other program may write there."""
    max_bytes: int = 500_000_000
    """Of all files together; then the oldest goes. 60 to 100 MB are an hour at 200 answers a second."""
    min_free_bytes: int = 200_000_000
    """Nothing is written while the disk has less free than this."""

    def __post_init__(self) -> None:
        _require(self.max_bytes >= 1_000_000, f"max_bytes is {self.max_bytes}: expected at least 1000000")
        _require(self.min_free_bytes >= 0, f"min_free_bytes is {self.min_free_bytes}: expected at least 0")


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
    parameters: str | None = None
    """File for parameters that the ground has set and saved, relative to this one; without, a restart forgets them."""
    received: str | None = None
    """Endpoint where each frame of the vehicle with a message of common.xml is published, for the recorder."""
    poses: bool = False
    """Publish the vehicle's poses at the deployment's `pose`, as its autopilot tells them; then nobody else may."""
    spool: SpoolConfig | None = None
    """Keeps what was said and heard on disk, whatever the links do; without, nothing can be asked for again."""

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

    def with_paths_in(self, folder: Path) -> "MavlinkConfig":
        """Return the same with files and folders that were named relative to a folder."""
        links = tuple(
            msgspec.structs.replace(link, key=str((folder / link.key).resolve()))
            if isinstance(link, LinkConfig) and link.key is not None
            else link
            for link in self.links
        )
        parameters, spool = self.parameters, self.spool
        if parameters is not None:
            parameters = str((folder / parameters).resolve())
        if spool is not None:
            spool = msgspec.structs.replace(spool, folder=str((folder / spool.folder).resolve()))
        return msgspec.structs.replace(self, links=links, parameters=parameters, spool=spool)


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

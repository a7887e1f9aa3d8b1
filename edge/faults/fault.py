"""A fault as a user names it: what it befalls, how, from when on and for how long."""

import dataclasses
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from models.errors import ConfigError

OFF, STUCK, GARBAGE, WRONG = "off", "stuck", "garbage", "wrong"
SLOW, DELAYED, INTERMITTENT = "slow", "delayed", "intermittent"
STREAM_KINDS = {
    OFF: "nothing comes",
    STUCK: "the same content again and again",
    GARBAGE: "messages that contradict themselves: cut, too long, or with a broken header",
    WRONG: "well-formed messages with the wrong content: black, overdriven, another rate, another sensor's",
    SLOW: "one message in 4 to 12",
    DELAYED: "each message 0.1 to 0.8 s late; at the end all that are held at once",
    INTERMITTENT: "on and off, for 0.05 to 0.6 s each",
}
"""What can befall a stream of sensor messages."""
CLOCK_JUMP, LINK_LOSS, PROCESS_KILL, DISK_FULL = "clock:jump", "link:loss", "process:kill", "disk:full"
OTHER_FAULTS = {
    CLOCK_JUMP: "the capture times of all sensors are 0.4 to 10 s ahead or behind",
    LINK_LOSS: "no pose comes from the autopilot",
    PROCESS_KILL: "the pipeline's process is killed, live only; without a duration",
    DISK_FULL: "the recorder can write nothing, in `uav-edge run` only",
}
"""What can befall the rest."""
_FAULT = re.compile(r"([A-Za-z0-9_.-]{1,64}):([a-z]+)@(\d{1,9}(?:\.\d{1,9})?)s(?:\+(\d{1,9}(?:\.\d{1,9})?)s)?")
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One fault of a flight."""

    target: str
    """A stream, or clock, link, process."""
    kind: str
    start_s: float
    """Since the beginning of the flight."""
    duration_s: float = math.inf
    """Infinite: to the end of the flight."""

    @property
    def name(self) -> str:
        """Target and kind, as they are typed."""
        return f"{self.target}:{self.kind}"

    def __str__(self) -> str:
        duration = f"+{_seconds(self.duration_s)}s" if math.isfinite(self.duration_s) else ""
        return f"{self.name}@{_seconds(self.start_s)}s{duration}"

    def befalls(self, stream: str) -> bool:
        """Say whether a stream of sensor messages suffers from it."""
        return self.name == CLOCK_JUMP or (self.target == stream and self.kind in STREAM_KINDS)

    def window_ns(self, begin_ns: int, rate: float = 1.0) -> tuple[int, int | None]:
        """Return from when to when it lasts in a flight that begins at `begin_ns`; None: to its end.

        Args:
            begin_ns: of the flight.
            rate: times real time at which it is played.
        """
        start_ns = begin_ns + round(self.start_s / rate * _NS_PER_S)
        if not math.isfinite(self.duration_s):
            return start_ns, None
        return start_ns, start_ns + round(self.duration_s / rate * _NS_PER_S)

    def at_rate(self, rate: float) -> "Fault":
        """Return it with the times in which it happens where a flight is played at a rate."""
        return dataclasses.replace(self, start_s=self.start_s / rate, duration_s=self.duration_s / rate)

    def is_on(self, now_ns: int, begin_ns: int) -> bool:
        """Say whether it lasts at a time of a flight that begins at `begin_ns`."""
        start_ns, end_ns = self.window_ns(begin_ns)
        return now_ns >= start_ns and (end_ns is None or now_ns < end_ns)


def _seconds(time_s: float) -> str:
    return f"{time_s:.9f}".rstrip("0").rstrip(".")


def parse_fault(text: str) -> Fault:
    """Return the fault that a text names, such as `camera:stuck@10s+5s`; without `+5s` it lasts to the end.

    Raises:
        ConfigError: it names none.
    """
    match = _FAULT.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"fault {text!r}: expected TARGET:KIND@STARTs+DURATIONs, such as camera:stuck@10s+5s,"
            " or without +DURATIONs to the end of the flight"
        )
    target, kind, start, duration = match.groups()
    fault = Fault(
        target=target, kind=kind, start_s=float(start), duration_s=float(duration) if duration is not None else math.inf
    )
    if fault.duration_s == 0:
        raise ConfigError(f"fault {text!r}: expected a duration above 0 s, or none: to the end of the flight")
    if fault.name == PROCESS_KILL and duration is not None:
        raise ConfigError(f"fault {text!r}: expected no duration: the process is started again at once")
    return fault


def check_faults(
    faults: Sequence[Fault], streams: Collection[str], *, is_live: bool, is_recorded: bool = False
) -> None:
    """Refuse faults that cannot befall a flight.

    Args:
        faults: as named.
        streams: its sensor streams.
        is_live: whether real processes fly it.
        is_recorded: whether a recorder is among them.
    Raises:
        ConfigError: a stream or kind is not known; the message lists those that are.
    """
    for fault in faults:
        if fault.target in streams and fault.kind in STREAM_KINDS:
            continue
        if fault.name == PROCESS_KILL and not is_live:
            raise ConfigError(f"fault {fault}: exact replay has no process to kill: leave out --exact")
        if fault.name == DISK_FULL and not is_recorded:
            raise ConfigError(
                f"fault {fault}: a replay writes no recording: let it befall a flight, uav-edge run --fault"
                f"\n{known_faults(streams)}"
            )
        if fault.name not in OTHER_FAULTS:
            raise ConfigError(f"fault {fault}: not known\n{known_faults(streams)}")


def known_faults(streams: Collection[str]) -> str:
    """Return what can befall a flight with these streams, in lines for people."""
    kinds = [f"  STREAM:{kind:12} {text}" for kind, text in STREAM_KINDS.items()]
    others = [f"  {name:19} {text}" for name, text in OTHER_FAULTS.items()]
    names = ", ".join(sorted(streams)) or "none"
    return "\n".join([f"known faults, STREAM being one of {names}:", *kinds, *others])

"""What the board itself says: model, power mode, clocks, temperatures, throttling, power. Jetson first, any Linux too.

Everything is read from files under a root folder, which tests make up; two things only commands tell, and a command is
asked by a function that is handed in. What a board does not tell is None, never an error: a PC has no power rails, a
container sees no thermal zones. No serial number, host name or address is read.
"""

import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.backends.device import read_l4t
from edge.operations.board_power import read_rails, total_mw
from edge.operations.board_text import read_number, read_text

Ask = Callable[[Sequence[str]], str | None]
"""Returns what a command prints; None where it is absent or fails."""

_COMMAND_TIMEOUT_S = 5.0
_LEAST_C, _MOST_C = -50.0, 200.0
"""A zone whose block is switched off says -256 or nothing at all."""
_GPU_NAME = re.compile(r"gpu|ga10b|gv11b|gp10b", re.IGNORECASE)
"""In a devfreq device's name: 17000000.gpu (JetPack 6, and 7 on an Orin), 17000000.ga10b (5), gpu-gpc-0 (Thor)."""
_POWER_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=(\S+)\s*>")
_OVER_CURRENT = {
    1: "oc1 under-voltage",
    2: "oc2 average over-current",
    3: "oc3 instantaneous over-current",
}
"""What NVIDIA's developer guide calls an Orin's three counters."""
_SMI_FIELDS = ("clocks.sm", "clocks.max.sm", "temperature.gpu", "power.draw")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """How fast something runs."""

    name: str
    """`policy0` is a group of CPU cores; a GPU goes by its device's name."""
    now_mhz: float | None
    limit_mhz: float | None
    """The most it may run at now, as the power mode says."""
    max_mhz: float | None
    """The most that it can."""
    governor: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """One look at a board."""

    model: str | None
    processor: str | None
    l4t: str | None
    """Release of Jetson Linux, such as 36.4.3."""
    power_mode: str | None
    """Of nvpmodel, such as MAXN_SUPER."""
    cpus: tuple[Clock, ...] | None
    gpus: tuple[Clock, ...] | None
    temperatures_c: dict[str, float] | None
    """By zone."""
    throttle_events: dict[str, int] | None
    """Counters since the board was started: over-current and under-voltage of a Jetson, heat of a PC's processor."""
    cooling_states: dict[str, int] | None
    """0: nothing is slowed down for its sake. Fans are left out."""
    rails_mw: dict[str, float] | None
    """Power by rail."""
    total_mw: float | None
    """Of the rail that feeds all, or of all rails together: see `board_power.total_mw`."""
    memory_mib: int | None
    memory_free_mib: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Smi:
    """What nvidia-smi says of the GPUs that are no Jetson's."""

    clocks: tuple[Clock, ...]
    temperatures_c: dict[str, float]
    rails_mw: dict[str, float]


_NO_SMI = _Smi(clocks=(), temperatures_c={}, rails_mw={})


def ask_command(words: Sequence[str]) -> str | None:
    """Return what a command of this machine prints; None where it is absent, fails or hangs."""
    try:
        done = subprocess.run(words, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def read_board(root: Path = Path("/"), ask: Ask = ask_command) -> Board:
    """Return what the board says now.

    Args:
        root: folder in which /sys, /proc, /etc and /var are looked for.
        ask: runs nvpmodel where its files do not tell, and nvidia-smi where no GPU is among the files.
    """
    rails = read_rails(root)
    gpus = _gpu_clocks(root)
    smi = _smi_gpus(ask) if not gpus else _NO_SMI
    temperatures = {**_temperatures(root), **smi.temperatures_c}
    memory = read_text(root / "proc/meminfo") or ""
    return Board(
        model=_model(root),
        processor=_processor(root),
        l4t=read_l4t(root / "etc/nv_tegra_release") or None,
        power_mode=_power_mode(root, ask),
        cpus=_cpu_clocks(root) or None,
        gpus=gpus or smi.clocks or None,
        temperatures_c=temperatures or None,
        throttle_events=_throttle_events(root) or None,
        cooling_states=_cooling_states(root) or None,
        rails_mw={**rails, **smi.rails_mw} or None,
        total_mw=total_mw(rails),
        memory_mib=_memory_mib(memory, "MemTotal"),
        memory_free_mib=_memory_mib(memory, "MemAvailable"),
    )


def throttled_between(before: Board, after: Board) -> list[str]:
    """Return what slowed the board down between two looks, in words; empty where nothing is known to have."""
    was, events = before.throttle_events or {}, after.throttle_events or {}
    found = [f"{name}: {count - was.get(name, 0)} times" for name, count in events.items() if count > was.get(name, 0)]
    for board, when in ((before, "before"), (after, "after")):
        found += [f"{name} was on {when}" for name in slowed_by(board)]
    return found


def slowed_by(board: Board) -> list[str]:
    """Return the cooling devices that slow the board down at a look."""
    return [name for name, state in (board.cooling_states or {}).items() if state > 0 and _is_throttle(name)]


def _is_throttle(name: str) -> bool:
    """Say whether a cooling device slows the processor; devfreq's of a GPU counts steps even when idle."""
    return "throttle" in name or "cpufreq" in name or name == "Processor"


def _model(root: Path) -> str | None:
    found = read_text(root / "proc/device-tree/model")
    if found:
        return found
    parts = [read_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return " ".join(part for part in parts if part) or None


def _processor(root: Path) -> str | None:
    """Return the processor's name; an Arm one has none in most kernels."""
    found = re.search(r"^model name\s*:\s*(\S[^\n]*)$", read_text(root / "proc/cpuinfo", 1 << 16) or "", re.MULTILINE)
    return found[1].strip() if found else None


def _power_mode(root: Path, ask: Ask) -> str | None:
    """Return nvpmodel's mode by name: from its two files, else from itself."""
    status = re.search(r"pmode:(\d{1,4})", read_text(root / "var/lib/nvpmodel/status") or "")
    names = dict(_POWER_MODEL.findall(read_text(root / "etc/nvpmodel.conf", 1 << 16) or ""))
    if status and str(int(status[1])) in names:
        return str(names[str(int(status[1]))])
    told = re.search(r"NV Power Mode:\s*(\S+)", ask(("nvpmodel", "-q")) or "")
    if told:
        return told[1]
    return f"mode {int(status[1])}" if status else None


def _cpu_clocks(root: Path) -> tuple[Clock, ...]:
    folders = _folders(root / "sys/devices/system/cpu/cpufreq", "policy*")
    return tuple(
        Clock(
            name=folder.name,
            now_mhz=_scaled(folder / "scaling_cur_freq", 1e-3),
            limit_mhz=_scaled(folder / "scaling_max_freq", 1e-3),
            max_mhz=_scaled(folder / "cpuinfo_max_freq", 1e-3),
            governor=read_text(folder / "scaling_governor"),
        )
        for folder in folders
    )


def _gpu_clocks(root: Path) -> tuple[Clock, ...]:
    folders = [one for one in _folders(root / "sys/class/devfreq", "*") if _GPU_NAME.search(one.name)]
    return tuple(
        Clock(
            name=folder.name,
            now_mhz=_scaled(folder / "cur_freq", 1e-6),
            limit_mhz=_scaled(folder / "max_freq", 1e-6),
            max_mhz=_fastest_mhz(read_text(folder / "available_frequencies")),
            governor=read_text(folder / "governor"),
        )
        for folder in folders
    )


def _smi_gpus(ask: Ask) -> _Smi:
    """Return what nvidia-smi knows."""
    text = ask(("nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits")) or ""
    smi = _NO_SMI
    for n, line in enumerate(text.splitlines()[:16]):
        values = [_number(cell) for cell in line.split(",")]
        if len(values) != len(_SMI_FIELDS) or all(value is None for value in values):
            continue
        now_mhz, max_mhz, temperature_c, draw_w = values
        name = f"gpu{n}"
        clock = Clock(name=name, now_mhz=now_mhz, limit_mhz=None, max_mhz=max_mhz, governor=None)
        smi = _Smi(
            clocks=(*smi.clocks, clock),
            temperatures_c={**smi.temperatures_c, **({name: temperature_c} if temperature_c is not None else {})},
            rails_mw={**smi.rails_mw, **({name: draw_w * 1e3} if draw_w is not None else {})},
        )
    return smi


def _temperatures(root: Path) -> dict[str, float]:
    """Return what the thermal zones say, in °C; zones of one name are numbered."""
    found: dict[str, float] = {}
    for folder in _folders(root / "sys/class/thermal", "thermal_zone*"):
        temperature_c = _scaled(folder / "temp", 1e-3)
        if temperature_c is not None and _LEAST_C <= temperature_c <= _MOST_C:
            found[_unused(read_text(folder / "type") or folder.name, found)] = temperature_c
    return found


def _throttle_events(root: Path) -> dict[str, int]:
    events: dict[str, int] = {}
    for folder in _folders(root / "sys/class/hwmon", "hwmon*"):
        for n, name in _OVER_CURRENT.items():
            count = read_number(folder / f"oc{n}_event_cnt")
            if count is not None:
                events[name] = events.get(name, 0) + count
    cores = _folders(root / "sys/devices/system/cpu", "cpu[0-9]*")
    counts = [read_number(core / "thermal_throttle" / "core_throttle_count") for core in cores]
    known = [count for count in counts if count is not None]
    return events | ({"processor cores too hot": sum(known)} if known else {})


def _cooling_states(root: Path) -> dict[str, int]:
    states: dict[str, int] = {}
    for folder in _folders(root / "sys/class/thermal", "cooling_device*"):
        name, state = read_text(folder / "type"), read_number(folder / "cur_state")
        if name and state is not None and "fan" not in name.lower():
            states[name] = max(state, states.get(name, 0))
    return states


def _memory_mib(text: str, field: str) -> int | None:
    found = re.search(rf"^{field}:\s*(\d{{1,15}}) kB", text, re.MULTILINE)
    return int(found[1]) // 1024 if found else None


def _folders(parent: Path, pattern: str) -> list[Path]:
    """Return what is in a folder, number by number: policy2 before policy10."""
    try:
        found = list(parent.glob(pattern))
    except OSError:
        return []
    return sorted(
        found, key=lambda one: [int(part) if part.isdecimal() else 0 for part in re.split(r"(\d+)", one.name)]
    )


def _scaled(path: Path, factor: float) -> float | None:
    value = read_number(path)
    return round(value * factor, 3) if value is not None else None


def _fastest_mhz(text: str | None) -> float | None:
    steps = [int(word) for word in (text or "").split() if re.fullmatch(r"[0-9]{1,15}", word)]
    return max(steps) / 1e6 if steps else None


def _number(text: str) -> float | None:
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*", text)
    return float(found[1]) if found else None


def _unused(name: str, taken: Iterable[str]) -> str:
    """Return a name, with a number behind it where it is taken."""
    names, n = set(taken), 1
    candidate = name
    while candidate in names:
        n += 1
        candidate = f"{name} {n}"
    return candidate

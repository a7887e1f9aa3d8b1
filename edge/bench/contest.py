"""Backends and precisions side by side in one run: their turns are short blocks, so that noise meets them all.

What can fly is compared end to end: a pipeline each, all of them there at once, fed in turns. Everything is compared by
the bare inference of each branch, back to back.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from edge.backends.onnx import OnnxSession
from edge.backends.planned import plans_of_this_machine
from edge.backends.select import PrecisionChoice, choose_graphs, cpu_target
from edge.bench.engines import open_engines, plan_choice
from edge.bench.feed import Feed, Open
from edge.bench.latency import totals_ms
from edge.bench.machine import NoiseMeter
from edge.bench.openvino import import_openvino, openvino_call
from edge.bench.percentiles import ratio_of, spread
from edge.bench.result import Absent, Contender, Contest
from edge.bench.rig import Aircraft, Rig
from models.errors import ConfigError, OnboardError

Backend = Literal["onnxruntime", "openvino", "trt"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
BLOCK_S = 0.5
_WARM_UP_S = 0.3
_ROUND_S = 0.02
"""Of bare inference, until the next one has its turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One way to compute a model."""

    backend: Backend
    precision: PrecisionChoice

    @property
    def name(self) -> str:
        """As it is typed."""
        return f"{self.backend}:{self.precision}"


def parse_choices(words: Sequence[str]) -> tuple[Choice, ...]:
    """Return what is compared.

    Args:
        words: each a backend, a colon, and precisions with commas between.
    Raises:
        ConfigError: one is not known, or there are fewer than two.
    """
    choices: list[Choice] = []
    for word in words:
        backend, _, precisions = word.partition(":")
        for precision in precisions.split(","):
            if backend not in BACKENDS or precision not in get_args(PrecisionChoice):
                raise ConfigError(
                    f"--compare {word}: expected BACKEND:PRECISION[,PRECISION] with a backend of {', '.join(BACKENDS)}"
                    f" and precisions of {', '.join(get_args(PrecisionChoice))}"
                )
            choices.append(Choice(backend=backend, precision=precision))  # type: ignore[arg-type]
    different = tuple(dict.fromkeys(choices))
    if len(different) < 2:
        raise ConfigError(f"--compare {' '.join(words)}: expected at least two, such as onnxruntime:fp32,int8")
    return different


@dataclass(frozen=True, kw_only=True, slots=True)
class ContestPlan:
    """What is compared, on which messages, for how long."""

    aircraft: Aircraft
    """The model, and where its plans are."""
    choices: tuple[Choice, ...]
    feeds: tuple[Feed, ...]
    """One a path; their folder is not known yet."""
    seconds: float
    """Of each choice on each path."""

    @property
    def blocks(self) -> int:
        """Turns that each choice takes on a path."""
        return max(1, round(self.seconds / BLOCK_S))

    @property
    def ticks(self) -> int:
        """Blocks, for a progress bar: each path end to end, and each branch."""
        return len(self.feeds) * (self.blocks + 1)


def run_contests(
    plan: ContestPlan, noise: NoiseMeter, tick: Callable[[], None]
) -> tuple[tuple[Contest, ...], tuple[Absent, ...]]:
    """Compare; what is not to be had is left out, and told with its remedy.

    Raises:
        LinkError: a pipeline or a source does not come up, or ends on its own.
    """
    found: dict[str, _Entry] = {}
    absent: dict[str, str] = {}
    for choice in plan.choices:
        try:
            found[choice.name] = _enter(plan.aircraft, choice)
        except OnboardError as error:
            absent[choice.name] = " ".join(str(error).split())
    contests = []
    for feed in plan.feeds:
        role = feed.modality.name
        entries = {name: entry for name, entry in found.items() if entry.has(role)}
        for name in found.keys() - entries.keys():
            absent[f"{name} of {role}"] = "no such graph: make one with uav-calibrate quantize, or leave it out"
        flying = {name: entry.aircraft for name, entry in entries.items() if entry.choice.backend != "openvino"}
        if len(flying) > 1:
            contests.append(_end_to_end(plan, feed, flying, noise, tick))
        with ExitStack() as stack:
            calls = {name: _call(entry, role, stack) for name, entry in entries.items()}
            if len(calls) > 1:
                contests.append(_back_to_back(role, calls, plan.seconds))
        tick()
    return tuple(contests), tuple(Absent(name=name, remedy=remedy) for name, remedy in absent.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A choice that is to be had."""

    choice: Choice
    aircraft: Aircraft
    precisions: Mapping[str, str]
    """By role."""

    def has(self, role: str) -> bool:
        """Whether a role is computed as chosen: what has no graph of a precision flies in FP32."""
        return self.choice.precision in ("auto", self.precisions[role])


def _enter(aircraft: Aircraft, choice: Choice) -> _Entry:
    """Return a choice ready to be compared; raises OnboardError with the remedy where it is not to be had."""
    chosen = replace(aircraft, precision=choice.precision)
    if choice.backend == "trt":
        if aircraft.plans is None:
            raise ConfigError("no plans: fill a folder with uav-calibrate build on this device, name it with --plans")
        return _Entry(choice=choice, aircraft=chosen, precisions=plans_of_this_machine(plan_choice(chosen)).precisions)
    if choice.backend == "openvino":
        import_openvino()
    precisions = choose_graphs(aircraft.bundle, choice.precision, cpu_target())
    return _Entry(choice=choice, aircraft=replace(chosen, plans=None, plan_options=None), precisions=precisions)


def _end_to_end(
    plan: ContestPlan, feed: Feed, flying: Mapping[str, Aircraft], noise: NoiseMeter, tick: Callable[[], None]
) -> Contest:
    taken: dict[str, list[list[float]]] = {name: [] for name in flying}
    with ExitStack() as stack:
        rigs = {}
        for name, aircraft in flying.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="uav-edge-bench-"))
            rigs[name] = stack.enter_context(Rig(aircraft, (replace(feed, folder=folder),), Path(folder), noise))
            rigs[name].turn(Open(names=(feed.name,), seconds=_WARM_UP_S))
        for _ in range(plan.blocks):
            for name, rig in rigs.items():
                turn = rig.turn(Open(names=(feed.name,), seconds=plan.seconds / plan.blocks))
                taken[name].append(totals_ms(turn.answers))
            tick()
    return Contest(subject=feed.name, measured="end to end", contenders=_contenders(taken))


def _call(entry: _Entry, role: str, stack: ExitStack) -> Callable[[], object]:
    """Return what computes a branch once."""
    if entry.choice.backend != "openvino":
        return stack.enter_context(open_engines(entry.aircraft)).branches[role].run
    precision = choose_graphs(entry.aircraft.bundle, entry.choice.precision, cpu_target())[role]
    graph = entry.aircraft.bundle.graph(role, precision, cpu_target())
    return openvino_call(graph, OnnxSession(graph).inputs)


def _back_to_back(role: str, calls: Mapping[str, Callable[[], object]], seconds: float) -> Contest:
    """Let every call run for a moment, in turns."""
    for call in calls.values():
        call()
    taken: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(max(1, round(seconds / _ROUND_S))):
        for name, call in calls.items():
            taken[name].append(_times_ms(call, _ROUND_S))
    return Contest(subject=role, measured="inference", contenders=_contenders(taken))


def _times_ms(call: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    before_ns = time.monotonic_ns()
    end_ns = before_ns + int(seconds * 1e9)
    while before_ns < end_ns:
        call()
        now_ns = time.monotonic_ns()
        times.append((now_ns - before_ns) / 1e6)
        before_ns = now_ns
    return times


def _contenders(taken: Mapping[str, Sequence[Sequence[float]]]) -> tuple[Contender, ...]:
    """Return each one's times, and how many times as long as the first it takes, block by block."""
    first = next(iter(taken))
    return tuple(
        Contender(
            name=name,
            latency=spread([value for block in blocks for value in block]),
            ratio=ratio_of(list(zip(blocks, taken[first], strict=True))) if name != first else None,
        )
        for name, blocks in taken.items()
    )

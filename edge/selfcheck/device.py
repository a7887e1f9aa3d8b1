"""The whole check of a device, part by part: GPU, plans, answers and times, a flight, what the board says."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from edge.backends.planned import PlanChoice
from edge.operations.board import Board, read_board, throttled_between
from edge.operations.board_power import Energy, PowerMeter
from edge.operations.live_replay import fly_live
from edge.selfcheck.flying import Backend, Flight, Fly, fly_on
from edge.selfcheck.gpu import Found, Gpu, find_gpu, try_gpu
from edge.selfcheck.line import Line, judged, line_of_error
from edge.selfcheck.measuring import WAYS, Measured, Measuring, lines_of
from edge.selfcheck.parity import examples_of, parity_line, reference
from edge.selfcheck.patience import PATIENCE_S, is_hanging, run_patiently
from edge.selfcheck.planning import Build, build_with_calibrate, plan, precisions_for_tensorrt
from models.bundle import Bundle, Precision
from models.errors import OnboardError


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is to be checked, and by whom; tests put fakes in the place of the functions."""

    choice: PlanChoice
    """Bundle, cache of plans and options."""
    seconds: float
    """Of each flight; 0 flies none."""
    build: Build | None = build_with_calibrate
    """Builds plans that are missing; None takes those that are there."""
    find: Callable[[], Found] = find_gpu
    fly: Fly = fly_live
    look: Callable[[], Board] = read_board
    meter: Callable[[], PowerMeter] = PowerMeter
    patience_s: float = PATIENCE_S
    """Longest time between two steps on the GPU."""

    @property
    def bundle(self) -> Bundle:
        """Return the model."""
        return self.choice.bundle

    @property
    def steps(self) -> int:
        """Return how often a watcher is told of progress, at most."""
        return 1 + len(precisions_for_tensorrt(self.bundle)) * (1 + len(WAYS)) + (2 if self.seconds else 0)


@dataclass(slots=True)
class DeviceCheck:
    """What came of it, part by part."""

    before: Board
    lines: list[Line] = field(default_factory=list)
    gpu: Gpu | None = None
    """None where there is no device to check."""
    measured: dict[Precision, Measured] = field(default_factory=dict)
    flights: list[Flight] = field(default_factory=list)
    during: Board | None = None
    """While the GPU was at work, where its clocks are those that count."""
    after: Board | None = None
    energy: Energy | None = None
    """Of the measurements, without the flights."""


def check_device(asked: Asked, watch: Callable[[], None] = lambda: None) -> DeviceCheck:
    """Check the device; what fails is in the lines.

    Args:
        asked: what.
        watch: called after each step: see `Asked.steps`.
    """
    check = DeviceCheck(before=asked.look())
    found = asked.find()
    check.lines += found.lines
    if found.gpu is None:
        return check
    gpu = found.gpu
    try:
        check.lines += run_patiently(lambda step: try_gpu(gpu), patience_s=asked.patience_s)
    except OnboardError as error:
        check.lines.append(line_of_error("TensorRT on the GPU", "a GPU that answers", error))
    watch()
    if any(line.status == "failed" for line in check.lines):
        return check
    check.gpu = gpu
    _measure_all(asked, check, watch)
    if asked.seconds:
        _fly(asked, check, watch)
    check.after = asked.look()
    check.lines.append(_throttle_line(check.before, check.after))
    return check


def _measure_all(asked: Asked, check: DeviceCheck, watch: Callable[[], None]) -> None:
    """Measure every precision of which there are graphs."""
    gpu, meter = check.gpu, asked.meter()
    if gpu is None:
        return
    examples = examples_of(asked.bundle)
    expected = reference(asked.bundle, examples)
    steps = itertools.count(1)

    def step() -> None:
        meter.sample()
        watch()
        if next(steps) == len(WAYS):  # the last way of the first precision is under way
            check.during = asked.look()

    for precision in precisions_for_tensorrt(asked.bundle):
        planned = plan(asked.choice, precision, gpu.platform, asked.build)
        check.lines.append(planned.line)
        step()
        if planned.plans is None:
            continue
        measuring = Measuring(gpu, planned.plans, examples, expected)
        try:
            run_patiently(measuring.run, step, asked.patience_s)
        except OnboardError as error:
            title = f"plans in {precision} on the GPU, {measuring.next_way()}"
            check.lines.append(line_of_error(title, "plans that run", error))
        measured = measuring.result()
        if measured.ways:
            check.measured[precision] = measured
        check.lines += [parity_line(parity) for parity in measured.parities]
        check.lines += lines_of(precision, measured)
        if is_hanging():
            break
    check.energy = meter.energy()


def _fly(asked: Asked, check: DeviceCheck, watch: Callable[[], None]) -> None:
    """Fly on ONNX Runtime, and where a flight would use them, on the plans."""
    backends: list[Backend] = ["onnxruntime"]
    if check.gpu is not None and check.gpu.platform.provider == "tensorrt" and not is_hanging():
        backends.append("tensorrt")
    check.flights, lines = fly_on(asked.choice, backends, asked.seconds, asked.fly, asked.meter)(watch)
    check.lines += lines


def _throttle_line(before: Board, after: Board) -> Line:
    throttled = throttled_between(before, after)
    is_known = after.throttle_events is not None or after.cooling_states is not None
    return judged(
        "throttling",
        not throttled,
        "a board that is not slowed down by heat or current meanwhile",
        "; ".join(throttled) or ("none" if is_known else "the board does not say"),
        "cool it better, use a stronger supply, or choose a lower power mode, and measure again",
        "warning",
    )

"""Plans for the check: those that are there and fit, and what is missing built by `uav-calibrate build` in its process.

The runtime does not import calibration: on a board that only flies it may be absent.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from edge.backends.plan_key import Platform
from edge.backends.planned import PlanChoice, find_plans
from edge.backends.select import choose_graphs
from edge.backends.session import Plans
from edge.selfcheck.line import Line, line_of_error
from models.bundle import FUSION, Bundle, Precision
from models.errors import DeviceError, OnboardError

EVERY_PRECISION: tuple[Precision, ...] = ("fp32", "fp16", "mixed", "int8")
"""Finest first."""
BUILD_TIMEOUT_S = 3600.0
_LAST_LINES = 3

Build = Callable[[PlanChoice], str]
"""Builds the plans of a choice; returns why it could not, or nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The plans of a precision, or why there are none."""

    precision: Precision
    plans: Plans | None
    line: Line


def precisions_for_tensorrt(bundle: Bundle) -> list[Precision]:
    """Return the precisions of which there is a graph for TensorRT."""
    roles = {*bundle.spec.modality_names, FUSION}
    there = {
        graph.precision for graph in bundle.manifest.graphs if graph.role in roles and graph.target in ("trt", "any")
    }
    return [precision for precision in EVERY_PRECISION if precision in there]


def plan(choice: PlanChoice, precision: Precision, platform: Platform, build: Build | None) -> Planned:
    """Return the plans of a precision for this machine.

    Args:
        choice: bundle, cache and options.
        precision: of the graphs, as far as there are such.
        platform: that builds, and for which.
        build: what builds those that are missing; None where only those are wanted that are there.
    """
    name, expected = f"plans in {precision}", "a plan of every graph that fits this machine"
    wanted = PlanChoice(bundle=choice.bundle, precision=precision, folder=choice.folder, options=choice.options)
    reason = ""
    try:
        choose_graphs(wanted.bundle, precision, "trt")
        plans, reason = _find_or_build(wanted, platform, build)
    except OnboardError as error:
        return Planned(precision=precision, plans=None, line=line_of_error(name, expected, error))
    how = f"built now; before: {reason}" if reason else "there, and they fit"
    return Planned(precision=precision, plans=plans, line=Line(name=name, status="ok", expected=expected, found=how))


def _find_or_build(wanted: PlanChoice, platform: Platform, build: Build | None) -> tuple[Plans, str]:
    """Return plans, and why they had to be built; nothing where they were there."""
    try:
        return find_plans(wanted, platform), ""
    except DeviceError as error:
        if build is None:
            raise
        reason = str(error).splitlines()[0].partition(": rebuild with")[0]
    failure = build(wanted)
    if failure:
        raise DeviceError(f"{reason}; uav-calibrate build failed with {failure}: type it yourself to see all it says")
    return find_plans(wanted, platform), reason


def build_with_calibrate(choice: PlanChoice) -> str:
    """Build the plans of a choice; return the last words of a build that failed, else nothing."""
    words = [sys.executable, "-m", "calibration.cli", "build"]
    words += ["--bundle", str(choice.bundle.path), "--plans", str(choice.folder), "--precision", choice.precision]
    words += ["--options", str(choice.options)] if choice.options is not None else []
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=BUILD_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
    return f"exit code {done.returncode} ({'; '.join(line.strip() for line in lines)})"

"""From a bundle's graphs for TensorRT to plans in the cache: what is there stays, what is not is built."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from calibration.plans.engine import Built, Order, build_plan, merge_timing_caches
from calibration.plans.progress import Progress
from calibration.plans.report import report_on, write_report
from calibration.rules import check_graph
from calibration.rules.files import parse_graph
from edge.backends.cuda import GIVING_UP
from edge.backends.plan_key import Platform, WantedPlan, differences
from edge.backends.plans import PlanCache, PlanConfig
from models.disk import write_whole
from models.errors import BundleError

log = logging.getLogger(__name__)

REPORTS = "reports"
TIMING = "timing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Who builds, and for what."""

    trt: Any
    """The module, `tensorrt` or `tensorrt_rtx`."""
    platform: Platform
    compute_capability: str | None = None
    """The kind of GPU to build for where it is not the one at hand."""

    @property
    def name(self) -> str:
        """Provider and version."""
        return f"{self.platform.provider} {self.platform.version}"

    @property
    def has_timing_cache(self) -> bool:
        """Whether builds time kernels at all; `tensorrt_rtx` chooses them when it runs, and its cache does nothing."""
        return self.platform.provider == "tensorrt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a wanted."""

    wanted: WantedPlan
    state: Literal["found", "built"]
    file: Path
    size_bytes: int
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()
    """Why it had to be built."""
    summary: str = ""
    report: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What the cache holds for a graph."""

    wanted: WantedPlan
    fits: bool
    """Whether there is a plan that may be used."""
    lines: tuple[str, ...]
    """One for each plan of the graph: why it fits or does not; and what to do where none does."""


def explain_wanted(wanted: WantedPlan, cache: PlanCache) -> Explanation:
    """Return what the cache holds for a graph."""
    found = cache.look_up(wanted.key)
    lines = []
    for entry in cache.entries():
        unlike = differences(wanted.key, entry.key)
        if entry.key.onnx_sha256 == wanted.key.onnx_sha256 and (unlike or found.plan is not None):
            lines.append(f"{entry.file}: {'; '.join(map(str, unlike)) if unlike else 'fits'}")
    if found.plan is None:
        lines += [f"rebuild with {cache.command}"] if lines else found.reason.splitlines()
    return Explanation(wanted=wanted, fits=found.plan is not None, lines=tuple(lines))


def build_one(
    wanted: WantedPlan, machine: Machine, config: PlanConfig, cache: PlanCache, progress: Progress
) -> Outcome:
    """Return a graph's plan from the cache, or build it and put it there with a report.

    Ctrl-C ends the build at its next step, and leaves the cache as it was.

    Raises:
        BundleError: the graph breaks our rules or NVIDIA's.
        DeviceError: the machine cannot build it, or the cache's folder is open to others.
        RecordingError: the disk is full.
    """
    found = cache.look_up(wanted.key)
    if found.entry is not None:
        file = cache.folder / found.entry.file
        return Outcome(wanted=wanted, state="found", file=file, size_bytes=found.entry.size_bytes)
    model = parse_graph(wanted.graph, wanted.title)
    broken = [f"{one.node}: {one.reason}: {one.fix}" for one in check_graph(model) if one.severity == "error"]
    if broken:  # some such graphs take NVIDIA's builder down, and this process with it
        raise BundleError("\n".join(f"{wanted.title}: breaks a rule of TensorRT: {line}" for line in broken))
    timing = _timing_file(wanted, machine, cache.folder)
    keeps_times = config.builder.timing_cache and machine.has_timing_cache
    times = _read_times(timing, cache) if keeps_times else None
    began = time.monotonic()
    built = _build(wanted, machine, config, progress, times)
    seconds = time.monotonic() - began
    entry = cache.store(wanted.key, built.plan, wanted.title)
    if built.timing_cache is not None:
        _keep_times(machine.trt, cache, timing, times, built.timing_cache)
    report = report_on(wanted.title, wanted.key, built, model)
    return Outcome(
        wanted=wanted,
        state="built",
        file=cache.folder / entry.file,
        size_bytes=entry.size_bytes,
        seconds=seconds,
        reasons=found.problems,
        summary=report.summary(),
        report=write_report(cache.folder / REPORTS, report),
    )


def _build(wanted: WantedPlan, machine: Machine, config: PlanConfig, progress: Progress, times: bytes | None) -> Built:
    """Build in a thread of its own, so that Ctrl-C is heard here while NVIDIA's library works."""
    order = Order(
        options=config.builder,
        profile=wanted.key.profile,
        progress=progress,
        compute_capability=machine.compute_capability,
        timing_cache=times,
    )
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="build") as pool:
        try:
            return pool.submit(build_plan, machine.trt, wanted.graph, order).result()
        except KeyboardInterrupt:
            log.warning("%s: cancelling the build", wanted.title)
            progress.cancel()
            raise


def _timing_file(wanted: WantedPlan, machine: Machine, folder: Path) -> Path:
    return folder / TIMING / f"{machine.name.replace(' ', '-')}-sm{wanted.key.compute_capability}.cache"


def _read_times(timing: Path, cache: PlanCache) -> bytes:
    """Return what was timed on this GPU so far, nothing at first."""
    with cache.locked():
        return timing.read_bytes() if timing.is_file() else b""


def _keep_times(trt: Any, cache: PlanCache, timing: Path, before: bytes | None, timed: bytes) -> None:
    """Write what was timed, with what another process has written since `before` was read."""
    with cache.locked():
        meanwhile = timing.read_bytes() if timing.is_file() else b""
        if meanwhile not in (b"", before):
            try:
                timed = merge_timing_caches(trt, timed, meanwhile)
            except GIVING_UP as error:
                log.warning("what another process timed meanwhile is not kept: %s", str(error))
        write_whole(timing, timed)

"""From a bundle's graphs for TensorRT to plans in the cache: what is there stays, what is not is built."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from calibration.build_progress import Progress
from calibration.build_report import report_on, write_report
from calibration.engine import Built, Order, build_plan, merge_timing_caches
from calibration.rules import check_graph
from calibration.rules.files import parse_graph
from edge.backends.plan_key import DeviceFacts, PlanKey, differences, plan_key, profile_of
from edge.backends.plans import PlanCache, PlanConfig
from edge.backends.select import PrecisionChoice, choose_graphs
from models.bundle import WHOLE, Bundle, Precision
from models.disk import write_whole
from models.errors import BundleError, ConfigError

log = logging.getLogger(__name__)

REPORTS = "reports"
TIMING = "timing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Who builds, and for what."""

    trt: Any
    """The module, `tensorrt` or `tensorrt_rtx`."""
    version: str
    """Its full version."""
    facts: DeviceFacts
    compute_capability: str | None = None
    """The kind of GPU to build for where it is not the one at hand."""

    @property
    def has_timing_cache(self) -> bool:
        """Whether builds time kernels at all; `tensorrt_rtx` chooses them when it runs, and its cache does nothing."""
        return str(self.trt.__name__) == "tensorrt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A graph whose plan is wanted."""

    role: str
    precision: Precision
    title: str
    graph: bytes
    key: PlanKey


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a task."""

    task: Task
    state: Literal["found", "built"]
    file: Path
    size_bytes: int
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()
    """Why it had to be built."""
    summary: str = ""
    report: Path | None = None


def plan_tasks(
    bundle: Bundle, machine: Machine, config: PlanConfig, choice: PrecisionChoice, roles: tuple[str, ...]
) -> list[Task]:
    """Return the graphs of a bundle whose plans are wanted, each in the precision that flies.

    Args:
        bundle: whose graphs; those made for TensorRT, or for any target.
        machine: that builds.
        config: options of the builder.
        choice: as `precision` of a deployment: auto takes what is approved for TensorRT.
        roles: modalities, `fusion`, `whole`; empty for all that fly.
    Raises:
        ConfigError: there is no such role.
        BundleError: there is no graph in that precision.
        DeviceError: this version is not supported.
    """
    flying = choose_graphs(bundle, choice, "trt")
    strangers = sorted(set(roles) - {*flying, WHOLE})
    if strangers:
        raise ConfigError(f"--role {' '.join(strangers)}: expected {', '.join(flying)} or {WHOLE}")
    tasks = []
    for role in dict.fromkeys(roles or flying):
        precision = flying.get(role, "fp32")
        graph = bundle.graph(role, precision, "trt")
        key = plan_key(
            graph,
            (machine.trt.__name__, machine.version),
            machine.facts,
            config.builder.as_text(),
            profile_of(bundle.spec, role),
        )
        title = f"{bundle.manifest.title}.{role}.{precision}"
        tasks.append(Task(role=role, precision=precision, title=title, graph=graph, key=key))
    return tasks


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What the cache holds for a task."""

    task: Task
    fits: bool
    """Whether there is a plan that may be used."""
    lines: tuple[str, ...]
    """One for each plan of the graph: why it fits or does not; and what to do where none does."""


def explain_task(task: Task, cache: PlanCache) -> Explanation:
    """Return what the cache holds for a graph."""
    found = cache.look_up(task.key)
    lines = []
    for entry in cache.entries():
        unlike = differences(task.key, entry.key)
        if entry.key.onnx_sha256 == task.key.onnx_sha256 and (unlike or found.plan is not None):
            lines.append(f"{entry.file}: {'; '.join(map(str, unlike)) if unlike else 'fits'}")
    if found.plan is None:
        lines += [f"rebuild with {cache.command}"] if lines else found.reason.splitlines()
    return Explanation(task=task, fits=found.plan is not None, lines=tuple(lines))


def build_one(task: Task, machine: Machine, config: PlanConfig, cache: PlanCache, progress: Progress) -> Outcome:
    """Return a task's plan from the cache, or build it and put it there with a report.

    Ctrl-C ends the build at its next step, and leaves the cache as it was.

    Raises:
        BundleError: the graph breaks our rules or NVIDIA's.
        DeviceError: the machine cannot build it, or the cache's folder is open to others.
        RecordingError: the disk is full.
    """
    found = cache.look_up(task.key)
    if found.plan is not None:
        file = next(cache.folder / one.file for one in cache.entries() if one.key == task.key)
        return Outcome(task=task, state="found", file=file, size_bytes=len(found.plan))
    model = parse_graph(task.graph, task.title)
    broken = [f"{one.node}: {one.reason}: {one.fix}" for one in check_graph(model) if one.severity == "error"]
    if broken:  # some such graphs take NVIDIA's builder down, and this process with it
        raise BundleError("\n".join(f"{task.title}: breaks a rule of TensorRT: {line}" for line in broken))
    began = time.monotonic()
    built = _build(task, machine, config, cache, progress)
    seconds = time.monotonic() - began
    entry = cache.store(task.key, built.plan, task.title)
    report = report_on(task.title, task.key, built, model)
    return Outcome(
        task=task,
        state="built",
        file=cache.folder / entry.file,
        size_bytes=entry.size_bytes,
        seconds=seconds,
        reasons=found.problems,
        summary=report.summary(),
        report=write_report(cache.folder / REPORTS, report),
    )


def _build(task: Task, machine: Machine, config: PlanConfig, cache: PlanCache, progress: Progress) -> Built:
    """Build in a thread of its own, so that Ctrl-C is heard here while NVIDIA's library works."""
    timing = cache.folder / TIMING / f"{machine.trt.__name__}-{machine.version}-sm{task.key.compute_capability}.cache"
    keeps_times = config.builder.timing_cache and machine.has_timing_cache
    before = _read_times(timing, cache) if keeps_times else None
    order = Order(
        options=config.builder,
        profile=task.key.profile,
        progress=progress,
        compute_capability=machine.compute_capability,
        timing_cache=before,
    )
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="build") as pool:
        try:
            built = pool.submit(build_plan, machine.trt, task.graph, order).result()
        except KeyboardInterrupt:
            log.warning("%s: cancelling the build", task.title)
            progress.cancel()
            raise
    if built.timing_cache is not None:
        with cache.locked():
            meanwhile = timing.read_bytes() if timing.is_file() else b""
            merged = built.timing_cache
            if meanwhile not in (b"", before):  # another process has built since
                merged = merge_timing_caches(machine.trt, merged, meanwhile)
            write_whole(timing, merged)
    return built


def _read_times(timing: Path, cache: PlanCache) -> bytes:
    """Return what was timed on this GPU so far, nothing at first."""
    with cache.locked():
        return timing.read_bytes() if timing.is_file() else b""

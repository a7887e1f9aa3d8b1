"""A whole benchmark: every planned scenario on pipelines in real processes, and what they cost.

Open loop where it says so: messages are sent when they are due, whether or not the last one has been answered. Path and
floor take turns in short blocks, so that a machine that slows down slows both.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from msgspec.structs import replace

from edge.bench.contest import ContestPlan, run_contests
from edge.bench.core_cost import import_seconds, measure_core
from edge.bench.handover import measure_handover
from edge.bench.ingest import measure_ingest
from edge.bench.latency import Timed, measure_closed, measure_paced
from edge.bench.machine import NoiseMeter, describe_machine
from edge.bench.plan import Plan, RigPlan
from edge.bench.result import SCHEMA, Core, Handover, Ingest, Machine, Offline, Overload, Report
from edge.bench.rig import Aircraft, Rig, unaccounted
from edge.bench.throughput import measure_offline, measure_overload
from edge.operations.board import Board, read_board, throttled_between
from edge.transport.messages import PipelineStatus, StreamAccounting


@dataclass(kw_only=True, slots=True)
class _Findings:
    """What has been measured so far."""

    timed: list[Timed] = field(default_factory=list)
    offline: list[Offline] = field(default_factory=list)
    overloads: list[Overload] = field(default_factory=list)
    ingest: Ingest | None = None
    handover: Handover | None = None
    core: Core | None = None
    last: PipelineStatus | None = None
    accounting: dict[str, dict[str, StreamAccounting]] = field(default_factory=dict)
    unaccounted: dict[str, int] = field(default_factory=dict)


def run_bench(
    aircraft: Aircraft, plan: Plan, rivals: ContestPlan | None = None, watch: Callable[[int], None] = lambda _: None
) -> tuple[Report, Sequence[Timed]]:
    """Measure, and return figures, and the answers that the timed ones were made of.

    Args:
        aircraft: the model, and who computes it.
        plan: what to measure.
        rivals: what to compare, if anything.
        watch: told the number of blocks done, for a progress bar.
    Raises:
        LinkError: the pipeline or a source does not come up, or ends on its own.
        BundleError: a graph fails its self-test, or there is none of the precision.
        DeviceError: plans are given, and TensorRT cannot fly them.
    """
    noise, found, done = NoiseMeter(), _Findings(), 0
    before = read_board()

    def tick() -> None:
        nonlocal done
        done += 1
        watch(done)

    import_s = import_seconds() if plan.rigs else 0.0
    for one in plan.rigs:
        with tempfile.TemporaryDirectory(prefix="uav-edge-bench-") as folder:
            with Rig(aircraft, one.feeds_in(folder), Path(folder), noise) as rig:
                found.core = found.core or measure_core(rig, plan.lengths.idle_s, import_s)
                _measure(rig, one, plan, found, tick)
                status = rig.stop()
            found.last = status
            found.accounting[one.name] = status.streams
            missing = dict(unaccounted(rig.sent, status.streams))
            found.unaccounted |= {f"{one.name}/{stream}": count for stream, count in missing.items()}
    if "handover" in plan.scenarios:
        found.handover = measure_handover(plan.camera, plan.lengths.handover_s, tick)
    contests, absent = run_contests(rivals, noise, tick) if rivals is not None else ((), ())
    report = _report(aircraft, found, machine_of(before, noise))
    return replace(report, contests=contests, absent=(*plan.absent, *absent)), found.timed


def machine_of(before: Board, noise: NoiseMeter) -> Machine:
    """Return what was measured on, with what slowed it down since a look at the board, and other programs' share."""
    return replace(
        describe_machine(),
        board={name: value for name, value in asdict(before).items() if value is not None},
        throttled=tuple(throttled_between(before, read_board())),
        other_cpu_percent=noise.other_percent,
    )


def _measure(rig: Rig, one: RigPlan, plan: Plan, found: _Findings, tick: Callable[[], None]) -> None:
    lengths = plan.lengths
    for scenario in plan.scenarios_of(one):
        if scenario == "ingest":
            found.ingest = measure_ingest(rig, lengths.ingest_s, tick)
            continue
        for path in plan.paths_of(one, scenario):
            names = one.names_of(path)
            if scenario == "paced":
                found.timed.append(measure_paced(rig, path, names, lengths.paced_s[path], tick))
            elif scenario == "single":
                found.timed.append(measure_closed(rig, "single", path, names, lengths.closed_s, tick))
            elif scenario == "multi":
                found.timed.append(measure_closed(rig, "multi", path, names, lengths.closed_s, tick))
            elif scenario == "overload":
                _overload(rig, path, plan, found, tick)
            else:
                if "overload" not in plan.scenarios:  # which finds the same
                    found.offline.append(measure_offline(rig, path, lengths.offline_s))
                tick()


def _overload(rig: Rig, path: str, plan: Plan, found: _Findings, tick: Callable[[], None]) -> None:
    """Find the maximum anew before each overload: a machine in use is not the same a minute later."""
    for factor in plan.lengths.overloads:
        most = measure_offline(rig, path, plan.lengths.offline_s)
        if factor == plan.lengths.overloads[0] and "offline" in plan.scenarios:
            found.offline.append(most)
        found.overloads.append(measure_overload(rig, path, factor, most.results_per_s, plan.lengths.overload_s))
        tick()


def _report(aircraft: Aircraft, found: _Findings, machine: Machine) -> Report:
    last = found.last
    return Report(
        schema=SCHEMA,
        model=aircraft.bundle.manifest.title,
        backend=last.backend if last is not None else "",
        precisions=last.precisions if last is not None else {},
        machine=machine,
        core=found.core,
        latencies=tuple(timed.result for timed in found.timed),
        offline=tuple(found.offline),
        overloads=tuple(found.overloads),
        ingest=found.ingest,
        handover=found.handover,
        accounting=found.accounting,
        unaccounted=found.unaccounted,
    )

"""`uav-edge bench`: what the pipeline takes in real processes, beside the floor of this machine."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge.commands.precision import add_precision

if TYPE_CHECKING:
    from edge.bench.contest import ContestPlan
    from edge.bench.plan import Plan
    from edge.bench.rig import Aircraft

FULL_SECONDS = 60.0
REGRESSION = 4
"""Exit code where a figure is worse than its baseline's."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--bundle", type=Path, metavar="DIR.uavb", help="model (default: the one shipped)")
    parser.add_argument(
        "--scenario",
        metavar="NAME[,NAME]",
        help="single, multi, paced, offline, overload, ingest, handover (default: all)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="at most a minute in all")
    length.add_argument(
        "--seconds-per-path",
        type=float,
        default=FULL_SECONDS,
        metavar="S",
        help=f"default {FULL_SECONDS:g}, for each scenario of each path",
    )
    parser.add_argument(
        "--transport", choices=("socket", "shm"), default="socket", help="of every stream (default socket)"
    )
    parser.add_argument("--rehearse", action="store_true", help="with `rehearse` of every stream")
    add_precision(parser)
    parser.add_argument("--plans", type=Path, metavar="DIR", help="fly TensorRT with the plans of this folder")
    parser.add_argument("--plan-options", type=Path, metavar="PLAN.yaml", help="what they were built with")
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="BACKEND:PRECISION[,PRECISION]",
        help="side by side, such as onnxruntime:fp32,int8 openvino:int8 trt:int8; without --scenario, that alone",
    )
    parser.add_argument(
        "--baseline", type=Path, metavar="OLD.json", help="what an earlier --json printed: exit 4 where it was better"
    )
    parser.add_argument("--html", type=Path, metavar="OUT.html", help="write a page with pictures")
    parser.add_argument(
        "--trace", type=Path, metavar="OUT.json", help="write a second of each path for ui.perfetto.dev"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the figures, measure nothing")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Measure and print; fail when a message is not accounted for, or a figure is worse than its baseline's."""
    import msgspec

    from edge.bench.baseline import compare_reports, read_baseline
    from edge.bench.bench import run_bench
    from edge.bench.page import write_page
    from edge.bench.result import json_schema
    from edge.bench.text import print_bench, print_verdict
    from edge.bench.trace import chrome_trace
    from edge.operations.progress import progress_bar
    from models.command_line import check_writable, print_json
    from models.disk import write_whole

    if args.schema:
        print_json(json_schema())
        return 0
    aircraft, plan, rivals = _plan(args)
    baseline = read_baseline(args.baseline) if args.baseline is not None else None
    check_writable(args.html, args.trace)
    with progress_bar("bench", plan.ticks + (rivals.ticks if rivals is not None else 0)) as watch:
        report, timed = run_bench(aircraft, plan, rivals, watch)
    print_bench(report)
    if args.html is not None:
        write_page(args.html, report, timed)
    if args.trace is not None:
        write_whole(args.trace, chrome_trace(timed))
    verdict = compare_reports(baseline, report) if baseline is not None else None
    if verdict is not None:
        print_verdict(verdict)
    if args.json:
        print_json(msgspec.to_builtins(report))
    if not report.is_exact:
        return 1
    return REGRESSION if verdict is not None and verdict.regressions else 0


def _plan(args: argparse.Namespace) -> "tuple[Aircraft, Plan, ContestPlan | None]":
    """Return what flies, what is measured of it, and what is compared; raises ConfigError and BundleError."""
    from edge.bench import plan as plans
    from edge.bench.contest import ContestPlan, parse_choices
    from edge.bench.rig import Aircraft
    from models.bundle import open_bundle, shipped_bundle
    from models.errors import ConfigError

    if not 0 < args.seconds_per_path < float("inf"):
        raise ConfigError(f"--seconds-per-path {args.seconds_per_path:g}: expected above 0")
    if args.plan_options is not None and args.plans is None:
        raise ConfigError("--plan-options goes with --plans: name the folder of plans too")
    choices = parse_choices(args.compare) if args.compare is not None else ()
    default: frozenset[str] = frozenset() if choices else frozenset(plans.SCENARIOS)
    scenarios = plans.parse_scenarios(args.scenario) if args.scenario is not None else default
    if args.trace is not None and not scenarios & plans.TIMED:
        raise ConfigError(f"--trace wants a scenario of {', '.join(sorted(plans.TIMED))}: name it with --scenario")
    bundle = open_bundle(args.bundle or shipped_bundle())
    aircraft = Aircraft(bundle=bundle, precision=args.precision, plans=args.plans, plan_options=args.plan_options)
    lengths = plans.QUICK if args.quick else plans.full_lengths(args.seconds_per_path)
    plan = plans.make_plan(bundle, scenarios, lengths, args.transport, rehearses=args.rehearse)
    if not choices:
        return aircraft, plan, None
    feeds = plans.contested_feeds(bundle, lengths)
    return aircraft, plan, ContestPlan(aircraft=aircraft, choices=choices, feeds=feeds, seconds=lengths.contest_s)

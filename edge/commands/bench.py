"""`uav-edge bench`: what the pipeline takes in real processes, beside the floor of this machine."""

import argparse
from pathlib import Path

from edge.commands.precision import add_precision

FULL_SECONDS = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--bundle", type=Path, metavar="DIR.uavb", help="model (default: the one shipped)")
    parser.add_argument(
        "--scenario",
        metavar="NAME[,NAME]",
        help="single, multi, paced, offline, overload, ingest (default: all; docs/benchmark.md says what they are)",
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
    parser.add_argument("--transport", choices=("socket", "shm"), default="socket", help="of frames (default socket)")
    parser.add_argument("--rehearse", action="store_true", help="with `rehearse` of every stream")
    add_precision(parser)
    parser.add_argument("--plans", type=Path, metavar="DIR", help="fly TensorRT with the plans of this folder")
    parser.add_argument("--plan-options", type=Path, metavar="PLAN.yaml", help="what they were built with")
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of the figures, and measure nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Measure and print; fail when a message is not accounted for."""
    import msgspec

    from edge.bench.bench import run_bench
    from edge.bench.plan import QUICK, SCENARIOS, full_lengths, make_plan, parse_scenarios
    from edge.bench.result import json_schema
    from edge.bench.rig import Aircraft
    from edge.bench.text import print_bench
    from edge.operations.progress import progress_bar
    from models.bundle import open_bundle, shipped_bundle
    from models.command_line import print_json
    from models.errors import ConfigError

    if args.schema:
        print_json(json_schema())
        return 0
    if not 0 < args.seconds_per_path < float("inf"):
        raise ConfigError(f"--seconds-per-path {args.seconds_per_path:g}: expected above 0")
    if args.plan_options is not None and args.plans is None:
        raise ConfigError("--plan-options goes with --plans: name the folder of plans too")
    scenarios = parse_scenarios(args.scenario) if args.scenario is not None else frozenset(SCENARIOS)
    aircraft = Aircraft(
        bundle=open_bundle(args.bundle or shipped_bundle()),
        precision=args.precision,
        plans=args.plans,
        plan_options=args.plan_options,
    )
    lengths = QUICK if args.quick else full_lengths(args.seconds_per_path)
    plan = make_plan(aircraft.bundle, scenarios, lengths, args.transport, rehearses=args.rehearse)
    with progress_bar("bench", plan.ticks) as watch:
        report, _ = run_bench(aircraft, plan, watch)
    print_bench(report)
    if args.json:
        print_json(msgspec.to_builtins(report))
    return 0 if report.is_exact else 1

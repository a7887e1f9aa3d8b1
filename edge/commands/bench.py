"""`uav-edge bench`: latency of the pipeline in real processes, beside the floor of this machine."""

import argparse
from pathlib import Path

from edge.commands.precision import add_precision

FULL_SECONDS = 60.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--bundle", type=Path, metavar="DIR.uavb", help="model (default: the one shipped)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="at most 45 s in all, just enough samples for a p99")
    length.add_argument(
        "--seconds-per-path", type=float, default=FULL_SECONDS, metavar="S", help=f"default {FULL_SECONDS:g}"
    )
    add_precision(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Measure and print; fail when a message is not accounted for."""
    from edge.operations.bench import QUICK, full_times, plan_paths, run_bench
    from edge.operations.bench_text import print_bench
    from edge.operations.progress import progress_bar
    from models.bundle import open_bundle, shipped_bundle
    from models.command_line import print_json
    from models.errors import ConfigError

    if not args.seconds_per_path > 0:
        raise ConfigError(f"--seconds-per-path {args.seconds_per_path:g}: expected above 0")
    bundle = open_bundle(args.bundle or shipped_bundle())
    plans = plan_paths(bundle, QUICK if args.quick else full_times(args.seconds_per_path), args.precision)
    with progress_bar("bench", sum(plan.blocks for plan in plans)) as watch:
        figures = run_bench(bundle, plans, watch)
    print_bench(figures)
    if args.json:
        print_json(figures)
    streams = (stream for path in figures["accounting"].values() for stream in path.values())
    return 0 if all(stream["balanced"] for stream in streams) else 1

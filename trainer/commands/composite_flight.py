"""`uav-train composite-flight`: UAVPair-7 as a recorded flight, with the truth; needs no torch."""

import argparse
import sys
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT.mcap", help="the recording to write; replaced when complete")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="DIR", help="the recordings")
    parser.add_argument("--pairs", type=Path, metavar="CSV", help="pairs to fly over (default: the validation pairs)")
    parser.add_argument("--seconds", type=float, metavar="N", help="length (default: every pair once, at least 60 s)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Write the recording, and say what went into it."""
    from rich.console import Console
    from rich.progress import Progress

    from models.command_line import print_json
    from models.errors import ConfigError
    from trainer.composite import RATE_HZ, PairExamples, plan_visits, write_composite_flight
    from trainer.data.uavpair7 import UavPair7

    if args.seconds is not None and not 0 < args.seconds <= 86_400:
        raise ConfigError(f"--seconds {args.seconds}: expected above 0 to 86400")
    data = UavPair7(args.data)
    pairs = data.read_pairs(args.pairs or args.data / "uavpair7" / "pairs_val.csv")
    visits = plan_visits([pair.label for pair in pairs], args.seconds)
    log = args.data / "flights" / "log171.bin"
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        task = progress.add_task("composing", total=4 * len(visits))
        written = write_composite_flight(
            args.out,
            PairExamples(data, pairs),
            visits,
            log=log if log.is_file() else None,
            watch=lambda done: progress.update(task, completed=done),
        )
    seconds = len(visits) / RATE_HZ
    print(f"{args.out}: {seconds:g} s, " + ", ".join(f"{count} {name}" for name, count in written.items()))
    if not log.is_file():
        print(f"no poses in it: {log} is absent")
    if args.json:
        print_json({"path": str(args.out), "seconds": seconds, "messages": written})
    return 0

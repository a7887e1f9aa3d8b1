"""`uav-edge run`: a whole flight, its processes supervised."""

import argparse
import sys
import time
from pathlib import Path

from models.command_line import positive_seconds


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FLIGHT.yaml", help="the deployment")
    parser.add_argument("--seconds", type=positive_seconds, help="stop after this long (default: at SIGTERM or Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Start everything, show what comes out, stop in order."""
    from edge.config import load_flight
    from edge.operations.observer import Observer
    from edge.operations.signals import stop_on_signals
    from edge.operations.summary_text import print_summary
    from edge.operations.supervisor import Supervisor, flight_commands
    from models.command_line import print_json

    stop = stop_on_signals()
    config = load_flight(args.config)
    deadline_s = time.monotonic() + args.seconds if args.seconds is not None else float("inf")
    with Observer(config.results, show=sys.stderr.isatty()) as observer:
        with Supervisor(flight_commands(config, args.config)) as supervisor:
            while not stop.is_set() and time.monotonic() < deadline_s:
                observer.poll(100)
                supervisor.check()
        observer.drain()
    flown = observer.flown(str(args.config))
    print_summary(flown.summary())
    if args.json:
        print_json(flown.summary())
    return 0 if flown.is_balanced else 1

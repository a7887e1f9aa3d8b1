"""`uav-edge mavlink`: publish the pipeline's answers over MAVLink; `uav-edge run` starts it as one of its processes."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FLIGHT.yaml", help="the deployment")


def run(args: argparse.Namespace) -> int:
    """Publish until SIGTERM or SIGINT."""
    from edge.config import load_flight
    from edge.mavlink.publisher import run_publisher
    from edge.operations.signals import stop_on_signals

    stop = stop_on_signals()
    run_publisher(load_flight(args.config), stop)
    return 0

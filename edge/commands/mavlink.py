"""`uav-edge mavlink`: publish the pipeline's answers over MAVLink; `uav-edge run` starts it as one of its processes."""

import argparse
import gc
import sys
from functools import partial
from pathlib import Path

from models.command_line import add_group, run_group
from models.errors import ConfigError

COMMANDS: dict[str, tuple[str, str]] = {
    "dump-dialect": ("edge.commands.mavlink_dump_dialect", "our messages for other programs: XML, or in a language"),
    "monitor": ("edge.commands.mavlink_monitor", "who is on a link, how much each sends, what was seen last"),
    "keygen": ("edge.commands.mavlink_keygen", "a key that the frames of a link are signed with"),
}
"""Without one of them it publishes."""
SWITCH_INTERVAL_S = 0.0005
"""An answer waits no longer for the thread that looks at the board, or writes the flight's memory, than this."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--config", type=Path, metavar="FLIGHT.yaml", help="the deployment")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="how `run --fault` tells of its faults")
    parser.add_argument(
        "--faults-reach-vehicle", action="store_true", help="with --faults: an autopilot that is not armed may hear us"
    )
    add_group(parser, COMMANDS, is_required=False)


def run(args: argparse.Namespace) -> int:
    """Publish until SIGTERM or SIGINT, or run the command that was chosen."""
    if hasattr(args, "run_of_group"):
        return run_group(args)
    if args.config is None:
        raise ConfigError("mavlink: expected --config FLIGHT.yaml, or one of the commands that --help shows")
    from edge.config import load_flight
    from edge.faults.lost_link import LostLink
    from edge.faults.orders import Orders
    from edge.mavlink.process import run_publisher
    from edge.operations.signals import stop_on_signals

    stop = stop_on_signals()
    behind = None
    if args.faults is not None:
        behind = partial(LostLink, orders=Orders(args.faults), is_vehicle_safe=args.faults_reach_vehicle)
    config = load_flight(args.config)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # what is loaded now stays until the end: looking through it would hold an answer up for 22 ms
    run_publisher(config, stop, behind=behind)
    return 0

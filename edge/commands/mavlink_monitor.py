"""`uav-edge mavlink monitor`: who is on a link, how much each sends, and what was seen last."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from edge.mavlink.station.ground import GroundStation
    from edge.mavlink.station.monitor import Monitor


PLAIN_WIDTH = 160
"""Of a table that goes into a file."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--link",
        default="udpin:127.0.0.1:14550",
        help="udpin:HOST:PORT, udpout:HOST:PORT, tcpin:HOST:PORT, tcpout:HOST:PORT or serial:DEVICE:BAUD"
        " (default: %(default)s)",
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="only what is signed with this key counts")
    parser.add_argument("--seconds", type=float, help="stop after this long (default: at SIGTERM or Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Watch until told to stop; 1 when nothing came."""
    from edge.clock import SystemClock
    from edge.mavlink.station.ground import GroundStation
    from edge.mavlink.station.monitor import Monitor
    from edge.operations.mavlink_view import drawn
    from edge.operations.signals import stop_on_signals
    from models.command_line import print_json

    stop, monitor, clock = stop_on_signals(), Monitor(), SystemClock()
    with GroundStation(args.link, key=args.key) as station:
        print(f"watching {args.link}; Ctrl-C ends", file=sys.stderr)
        _watch(station, monitor, stop, args)
        state, now_ns = station.state.value, clock.now_ns()
    if monitor.peers:
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        console.print(drawn(monitor, f"{args.link}: {state}", now_ns, console.width))
    else:
        print("nothing came: does the vehicle send to this address, and does no firewall drop it?", file=sys.stderr)
    if args.json:
        print_json({"link": args.link, "state": state, "peers": monitor.summary(now_ns)})
    return 0 if monitor.peers else 1


def _watch(station: "GroundStation", monitor: "Monitor", stop: "threading.Event", args: argparse.Namespace) -> None:
    """Take what comes, and show it where somebody looks."""
    from edge.clock import SystemClock

    clock, view = SystemClock(), None
    if sys.stderr.isatty():
        from edge.operations.mavlink_view import MavlinkView

        view = MavlinkView(args.link)
        view.start()
    deadline_s = time.monotonic() + (args.seconds if args.seconds is not None else float("inf"))
    try:
        while not stop.is_set() and time.monotonic() < deadline_s:
            for item in station.poll(timeout_ms=100):
                monitor.take(item, clock.now_ns())
            if view is not None:
                view.show(monitor, station.state.value, clock.now_ns())
    finally:
        if view is not None:
            view.stop()

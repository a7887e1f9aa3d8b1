"""`uav-edge run`: a whole flight, its processes supervised."""

import argparse
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from models.command_line import positive_seconds

if TYPE_CHECKING:
    from edge.config import FlightConfig
    from edge.operations.faulty_run import FaultyRun

log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FLIGHT.yaml", help="the deployment")
    parser.add_argument("--seconds", type=positive_seconds, help="stop after this long (default: at SIGTERM or Ctrl-C)")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="TARGET:KIND@STARTs+DURATIONs",
        help="let a fault befall the flight, such as camera:stuck@10s+5s; may be given several times. Such a flight is"
        " a test, says so everywhere, and is judged at its end",
    )
    parser.add_argument("--fault-seed", type=int, default=0, metavar="N", help="of what the faults leave to chance")
    parser.add_argument(
        "--faults-reach-vehicle",
        action="store_true",
        help="inject them even where mavlink.links may lead to an autopilot, as all do that leave this computer; to an"
        " armed one nothing is sent all the same",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Start everything, show what comes out, stop in order; with faults, judge the flight."""
    from edge.config import load_flight
    from edge.operations.observer import Observer
    from edge.operations.signals import stop_on_signals
    from edge.operations.summary_text import print_summary
    from edge.operations.supervisor import Supervisor, flight_commands
    from models.command_line import print_json

    stop = stop_on_signals()
    config = load_flight(args.config)
    with _faulty(args, config) as faulty, Observer(config.results, show=sys.stderr.isatty()) as observer:
        commands = flight_commands(config, args.config)
        begun_s: float | None = time.monotonic()
        with Supervisor(faulty.told(commands) if faulty is not None else commands) as supervisor:
            while not stop.is_set() and not _is_over(begun_s, args.seconds):
                observer.poll(100 if faulty is None else 20)
                supervisor.check()
                begun_s = faulty.check(observer, supervisor) if faulty is not None else begun_s
            observer.end()
        observer.drain()
        judgement = faulty.judgement(observer) if faulty is not None else None
    flown = replace(observer.flown(str(args.config)), judgement=judgement)
    summary = flown.summary() | ({"injected": args.fault} if args.fault else {})
    print_summary(summary)
    if args.fault:
        print(f"faults were injected into this flight: {', '.join(args.fault)}")
        print(
            "\n".join(judgement.lines() if judgement is not None else ["not judged: the pipeline never said anything"])
        )
    if args.json:
        print_json(summary)
    return 0 if flown.is_sound and (judgement is not None or not args.fault) else 1


def _is_over(begun_s: float | None, seconds: float | None) -> bool:
    return begun_s is not None and seconds is not None and time.monotonic() >= begun_s + seconds


@contextlib.contextmanager
def _faulty(args: argparse.Namespace, config: "FlightConfig") -> "Iterator[FaultyRun | None]":
    """Give the faults of the flight; None where none are named.

    Raises:
        ConfigError: they cannot befall it.
    """
    if not args.fault:
        yield None
        return
    from edge.commands.record import first_path
    from edge.faults.deployment import check_deployment
    from edge.faults.fault import parse_fault
    from edge.faults.injector import FaultPlan
    from edge.operations.faulty_run import FaultyRun

    plan = FaultPlan(faults=tuple(parse_fault(text) for text in args.fault), seed=args.fault_seed)
    check_deployment(plan.faults, config, is_vehicle_safe=args.faults_reach_vehicle)
    log.warning("THIS IS A TEST: faults are injected into this flight: %s", ", ".join(args.fault))
    first = first_path(config, args.config).resolve() if config.recording is not None else None
    with tempfile.TemporaryDirectory(prefix="uav-edge-") as folder:
        yield FaultyRun(config, plan, Path(folder), first, is_vehicle_safe=args.faults_reach_vehicle)

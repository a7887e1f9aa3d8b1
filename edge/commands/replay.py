"""`uav-edge replay`: a recorded flight through the pipeline: live at a rate, or exact on a virtual clock."""

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edge.commands.engines import add_engines, check_engines
from edge.commands.exact import add_exact, check_exact
from edge.commands.precision import add_precision
from edge.commands.replay_part import add_part, part_of
from edge.recording.controls import FASTEST, SLOWEST

if TYPE_CHECKING:
    from edge.faults.injector import FaultPlan
    from edge.operations.flown import Flown
    from edge.recording.reader import Recording
    from models.bundle import Bundle


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("recording", type=Path, metavar="FLIGHT.mcap", help="the recording")
    parser.add_argument("--bundle", type=Path, required=True, metavar="DIR.uavb", help="the model to fly with")
    add_precision(parser)
    add_engines(parser)
    add_part(parser)
    parser.add_argument("--exact", action="store_true", help="virtual clock: the same bytes every time")
    add_exact(parser)
    parser.add_argument(
        "--rate",
        type=_rate,
        default=1.0,
        help="live: speed, 1 is real time, max as fast as the sockets take it without loss (of which the pipeline uses"
        " the newest messages)",
    )
    parser.add_argument(
        "--loop",
        type=_laps,
        nargs="?",
        const=0,
        default=1,
        metavar="N",
        help="live: fly it N times as one flight that goes on; without N until q is pressed",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="TARGET:KIND@STARTs+DURATIONs",
        help="let a fault befall the flight, such as camera:stuck@10s+5s; may be given several times",
    )
    parser.add_argument("--fault-seed", type=int, default=0, metavar="N", help="of what the faults leave to chance")
    parser.add_argument(
        "--faults-reach-vehicle",
        action="store_true",
        help="live: inject them even where --mavlink may lead to an autopilot; to an armed one nothing is sent",
    )
    parser.add_argument(
        "--mavlink",
        action="append",
        default=[],
        metavar="LINK",
        help="live: publish over MAVLink too, e.g. udpout:127.0.0.1:14550; may be given several times",
    )
    parser.add_argument(
        "--autopilot",
        metavar="LINK",
        help="live: let the recorded flight's autopilot speak on a link, e.g. udpout:127.0.0.1:14551",
    )
    parser.add_argument("--results", type=Path, metavar="OUT.jsonl", help="write every answer, one JSON object a line")
    parser.add_argument("--report", type=Path, metavar="OUT.html", help="write a report with pictures")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Replay, print a summary, and fail when the accounting does not balance or a promise is broken."""
    from edge.operations.report import write_report
    from edge.operations.summary_text import print_summary
    from edge.recording.reader import open_recording
    from models.bundle import open_bundle
    from models.command_line import check_writable, print_json

    _check_choices(args)
    plan = _plan(args)
    check_writable(args.results, args.report)
    bundle = open_bundle(args.bundle)
    recording = part_of(open_recording(args.recording), args)
    started_s = time.monotonic()
    flown = _fly_exactly(args, recording, bundle, plan) if args.exact else _fly_live(args, recording, bundle, plan)
    wall_s = time.monotonic() - started_s
    flown_ns = flown.played.recorded_ns if flown.played is not None else recording.duration_ns
    digest = hashlib.sha256()
    for line in _lines(flown):
        digest.update(line)
    summary = {
        **flown.summary(),
        "realtime_factor": round(flown_ns / 1e9 / wall_s, 2),
        "results_sha256": digest.hexdigest(),
        "damage": str(recording.damage),
    }
    print_summary(summary)
    if flown.judgement is not None:
        print("\n".join(flown.judgement.lines()))
    if args.results is not None:
        with args.results.open("wb") as file:
            file.writelines(_lines(flown))
    if args.report is not None:
        write_report(args.report, flown)
        print(f"report: {args.report}")
    if args.json:
        print_json(summary)
    return 0 if flown.is_sound else 1


def _lines(flown: "Flown") -> Iterator[bytes]:
    import msgspec

    return (msgspec.json.encode(answer) + b"\n" for answer in flown.answers)


def _plan(args: argparse.Namespace) -> "FaultPlan":
    from edge.faults.fault import parse_fault
    from edge.faults.injector import FaultPlan

    return FaultPlan(faults=tuple(parse_fault(text) for text in args.fault), seed=args.fault_seed)


def _fly_exactly(args: argparse.Namespace, recording: "Recording", bundle: "Bundle", plan: "FaultPlan") -> "Flown":
    from edge.operations.progress import progress_bar
    from edge.operations.replays import ExactOptions, fly_exact
    from edge.recording.engine_cost import parse_engine_cost

    cost = parse_engine_cost(args.engine_cost)
    with progress_bar("replay", recording.event_count) as watch:
        exact = ExactOptions(precision=args.precision, plan=plan, cost=cost, threads=args.threads or 1)
        return fly_exact(recording, bundle, exact, watch)


def _fly_live(args: argparse.Namespace, recording: "Recording", bundle: "Bundle", plan: "FaultPlan") -> "Flown":
    from edge.operations.live_replay import LiveOptions, fly_live

    options = LiveOptions(
        rate=args.rate,
        laps=args.loop or None,
        plan=plan,
        is_vehicle_safe=args.faults_reach_vehicle,
        mavlink=tuple(args.mavlink),
        autopilot=args.autopilot,
        show=sys.stderr.isatty(),
        precision=args.precision,
        backend=args.backend,
        plans=args.plans,
        plan_options=args.plan_options,
    )
    return fly_live(recording, bundle, options)


def _rate(text: str) -> float:
    """Return times real time; 0 is as fast as it goes."""
    try:
        rate = 0.0 if text == "max" else float(text)
    except ValueError:
        rate = -1.0
    if not (rate == 0 or SLOWEST <= rate <= FASTEST):
        raise argparse.ArgumentTypeError(f"{text!r}: expected max, or {SLOWEST:g} to {FASTEST:g} times real time")
    return rate


def _laps(text: str) -> int:
    """Return how often to fly; above 0."""
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected how often to fly it, 1 to 999999, or nothing")
    return int(text)


def _check_choices(args: argparse.Namespace) -> None:
    """Raise ConfigError where arguments contradict each other."""
    from edge.mavlink.ports.transport import parse_link
    from models.errors import ConfigError

    if args.exact and args.loop != 1:
        raise ConfigError("--loop goes with live replay: leave out --exact")
    if args.exact and (args.mavlink or args.autopilot is not None):
        raise ConfigError("--mavlink and --autopilot go with live replay: leave out --exact")
    if args.exact and (args.plans is not None or args.backend == "tensorrt"):
        raise ConfigError(
            "--exact flies on ONNX Runtime, as its bytes must not depend on the machine: leave out --plans"
        )
    check_engines(args)
    check_exact(args)
    for link in (*args.mavlink, *([args.autopilot] if args.autopilot is not None else [])):
        parse_link(link)

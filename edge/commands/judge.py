"""`uav-edge judge`: whether a recorded flight kept what is promised of every flight."""

import argparse
from pathlib import Path

from edge.commands.recording_inputs import open_shown, print_lost


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "recordings",
        type=Path,
        nargs="+",
        metavar="FLIGHT.mcap",
        help="a recording with answers and statuses; where a flight has several parts, all of them",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="TARGET:KIND@STARTs+DURATIONs",
        help="known to have befallen the flight, such as camera:stuck@10s+5s; may be given several times (default: what"
        " was injected, as the recording says)",
    )
    parser.add_argument("--json", action="store_true", help="print the judgement as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Print a line for each promise, and exit with 1 where one was broken."""
    from edge.faults.fault import parse_fault
    from edge.judging.recorded import judge_flight, judged_count
    from edge.operations.progress import progress_bar
    from edge.recording.injected import injected_into
    from models.command_line import print_json

    faults = [parse_fault(text) for text in args.fault]
    parts = [open_shown(path) for path in args.recordings]
    for part in parts:
        print_lost(part)
    injected = injected_into(parts)
    if injected is not None:
        print(f"faults were injected into this flight: {', '.join(injected.faults)}")
    with progress_bar("judging", sum(judged_count(part) for part in parts)) as watch:
        judgement = judge_flight(parts, faults, watch)
    for line in judgement.lines():
        print(line)
    if args.json:
        told = {"held": judgement.has_held, "promises": judgement.as_json()}
        print_json({"path": str(args.recordings[0]), "injected": injected.faults if injected else (), **told})
    return 0 if judgement.has_held else 1

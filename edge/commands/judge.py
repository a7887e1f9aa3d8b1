"""`uav-edge judge`: whether a recorded flight kept what is promised of every flight."""

import argparse
from pathlib import Path

from edge.commands.recording_inputs import open_shown, print_lost


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("recording", type=Path, metavar="FLIGHT.mcap", help="a recording with answers and statuses")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="TARGET:KIND@STARTs+DURATIONs",
        help="known to have befallen the flight, such as camera:stuck@10s+5s; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="print the judgement as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Print a line for each promise, and exit with 1 where one was broken."""
    from edge.faults.fault import parse_fault
    from edge.judging.recorded import judge_recording, judged_count
    from edge.operations.progress import progress_bar
    from models.command_line import print_json

    faults = [parse_fault(text) for text in args.fault]
    recording = open_shown(args.recording)
    print_lost(recording)
    with progress_bar("judging", judged_count(recording)) as watch:
        judgement = judge_recording(recording, faults, watch)
    for line in judgement.lines():
        print(line)
    if args.json:
        print_json({"path": str(args.recording), "held": judgement.has_held, "promises": judgement.as_json()})
    return 0 if judgement.has_held else 1

"""`uav-edge recording check`: whether every byte is as it was written."""

import argparse
import sys
from pathlib import Path
from typing import Any

from edge.commands.recording_inputs import file_bytes, print_lost


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("recordings", type=Path, nargs="+", metavar="FLIGHT.mcap", help="the recordings")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Check each file; exit 0 when all are sound, 1 when one is damaged, 6 when one cannot be read at all."""
    from models.command_line import print_json

    verdicts = [_check(path) for path in args.recordings]
    if args.json:
        print_json({"recordings": verdicts})
    found = {verdict["verdict"] for verdict in verdicts}
    return 6 if "unreadable" in found else int("damaged" in found)


def _check(path: Path) -> dict[str, Any]:
    """Check one file, print what was found, and return it as values for JSON."""
    from edge.operations.progress import progress_bar
    from edge.recording.checking import check_recording
    from edge.recording.damage_text import damage_json
    from models.errors import RecordingError

    try:
        with progress_bar(f"checking {path.name}", 2 * file_bytes(path)) as watch:
            checked = check_recording(path, watch)
    except RecordingError as error:
        for line in str(error).splitlines():
            print(f"uav-edge: {line}", file=sys.stderr)
        return {"path": str(path), "verdict": "unreadable", "reason": str(error)}
    verdict = "sound" if checked.is_sound else "damaged"
    messages = {name: stream.count for name, stream in checked.recording.streams.items()}
    print(f"{path}: {verdict}, {sum(messages.values())} messages")
    print_lost(checked.recording)
    for line in (*checked.faults, *checked.notes):
        print(f"{path}: {line}")
    return {
        "path": str(path),
        "verdict": verdict,
        "messages": messages,
        "damage": damage_json(checked.recording),
        "faults": checked.faults,
        "notes": checked.notes,
    }

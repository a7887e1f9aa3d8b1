"""What the commands on recordings share: how they are opened, and how their results are told."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.recording.copying import Copied
    from edge.recording.exports.flight import Exported
    from edge.recording.reader import Recording

MAX_SECONDS = 3e8
"""Some 10 years: times fit a recording's 64 bits."""


def add_topics(parser: argparse.ArgumentParser) -> None:
    """Add `--topics` to a command's arguments."""
    parser.add_argument(
        "--topics",
        type=_names,
        metavar="A,B",
        help="streams and topics, by the names that info shows (default: everything)",
    )


def open_shown(path: Path) -> "Recording":
    """Open a recording, with a progress bar; raises as `open_recording`."""
    from edge.operations.progress import progress_bar
    from edge.recording.reader import open_recording

    with progress_bar(f"reading {path.name}", file_bytes(path)) as watch:
        return open_recording(path, watch)


def file_bytes(path: Path) -> int:
    """Return a file's size, 0 where it has none: who opens it says why."""
    return path.stat().st_size if path.is_file() else 0


def print_lost(recording: "Recording") -> None:
    """Print what of a recording is lost, if anything is."""
    from edge.recording.damage_text import gap_lines

    if recording.damage.is_damaged:
        print(f"{recording.path}: damage: {recording.damage}")
        for line in gap_lines(recording):
            print(f"{recording.path}: {line}")


def tell(args: argparse.Namespace, done: "Copied | Exported", recordings: "list[Recording]") -> int:
    """Print what was written to `args.out`, what was left out and lost before; return 1 if anything was, else 0."""
    from edge.recording.damage_text import damage_json
    from models.command_line import print_json

    for recording in recordings:
        print_lost(recording)
    for stream, count in done.skipped.items():
        print(f"{stream}: {count} messages hold nothing usable: left out")
    print(f"{args.out}: " + (", ".join(f"{count} {name}" for name, count in done.written.items()) or "nothing"))
    if args.json:
        damage = {str(recording.path): damage_json(recording) for recording in recordings}
        counts = {"messages": dict(done.written), "skipped": dict(done.skipped)}
        print_json({"path": str(args.out), **counts, "damage": damage})
    return int(bool(done.skipped) or any(recording.damage.is_damaged for recording in recordings))


def seconds(text: str) -> float:
    """Return a time on the command line; for `add_argument(type=...)`."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -MAX_SECONDS <= value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, such as 12.5")
    return value


def _names(text: str) -> frozenset[str]:
    names = frozenset(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names, such as radio,pose")
    return names

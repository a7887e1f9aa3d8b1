"""`uav-edge recording repair`: all that can be read of a damaged recording, in a new file with an index."""

import argparse
from pathlib import Path

from edge.commands.recording_inputs import open_shown, tell


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("recording", type=Path, metavar="DAMAGED.mcap", help="the recording; it is not changed")
    parser.add_argument("out", type=Path, metavar="OUT.mcap", help="the file to write; replaced when complete")
    parser.add_argument("--json", action="store_true", help="print what was saved and lost as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Save what can be read, and say what is lost."""
    from edge.operations.progress import progress_bar
    from edge.recording.copying import Source, copy

    recording = open_shown(args.recording)
    metadata = {"repaired": str(recording.damage)} if recording.damage.is_damaged else {}
    with progress_bar("saving", recording.event_count) as watch:
        copied = copy(args.out, [Source(recording=recording)], metadata=metadata, watch=watch)
    tell(args, copied, [recording])
    return 0

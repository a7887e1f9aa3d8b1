"""`uav-edge recording export`: a recording as files that other programs read."""

import argparse
from pathlib import Path

from edge.commands.recording_inputs import add_topics, open_shown, tell


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("recording", type=Path, metavar="FLIGHT.mcap", help="the recording; it is not changed")
    parser.add_argument("out", type=Path, metavar="DIR", help="the folder to make; it must not be there yet")
    parser.add_argument("--tables", choices=("csv", "parquet"), default="csv", help="(default csv; extra: parquet)")
    parser.add_argument("--video", action="store_true", help="frames as a video (extra: camera), not as images")
    add_topics(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Export; exit 1 when the recording was damaged, or messages were unusable."""
    from edge.operations.progress import progress_bar
    from edge.recording.exports.flight import Wishes, export

    recording = open_shown(args.recording)
    wishes = Wishes(streams=args.topics, table_format=args.tables, is_video=args.video)
    count = recording.count(args.topics)
    with progress_bar("exporting", count) as watch:
        done = export(recording, args.out, wishes, watch)
    return tell(args, done, [recording])

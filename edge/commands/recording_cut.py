"""`uav-edge recording cut`: a part of a recording, by time and topic."""

import argparse
from pathlib import Path

from edge.commands.recording_inputs import add_topics, open_shown, seconds, tell


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("recording", type=Path, metavar="FLIGHT.mcap", help="the recording; it is not changed")
    parser.add_argument("out", type=Path, metavar="OUT.mcap", help="the file to write; replaced when complete")
    parser.add_argument(
        "--from", type=seconds, dest="begin_s", metavar="S", help="from so many seconds after its start"
    )
    parser.add_argument("--to", type=seconds, dest="end_s", metavar="S", help="up to so many seconds after its start")
    add_topics(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Copy the part; exit 1 when the recording was damaged, wherever that was."""
    from edge.operations.progress import progress_bar
    from edge.recording.copying import Source, copy
    from models.errors import ConfigError

    recording = open_shown(args.recording)
    begin_ns, end_ns = (
        None if at_s is None else recording.start_ns + round(at_s * 1e9) for at_s in (args.begin_s, args.end_s)
    )
    source = Source(recording=recording, begin_ns=begin_ns, end_ns=end_ns)
    count = source.count(args.topics)
    if not count and not (args.topics or set()) - set(recording.streams):
        raise ConfigError(f"{args.recording}: nothing in this part: it lasts {recording.duration_ns / 1e9:.3f} s")
    with progress_bar("cutting", count) as watch:
        copied = copy(args.out, [source], streams=args.topics, watch=watch)
    return tell(args, copied, [recording])

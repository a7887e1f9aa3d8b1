"""`uav-edge recording merge`: several recordings in one, on the clock of the first."""

import argparse
from pathlib import Path

from edge.commands.recording_inputs import add_topics, open_shown, seconds, tell


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT.mcap", help="the file to write; replaced when complete")
    parser.add_argument("recordings", type=Path, nargs="+", metavar="FLIGHT.mcap", help="the recordings")
    parser.add_argument(
        "--clock-offset",
        action="append",
        default=[],
        metavar="NAME=SECONDS",
        help="added to the times of a recording, named by its file without ending, whose clock is off",
    )
    add_topics(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Merge; exit 1 when one of the recordings was damaged."""
    from edge.operations.progress import progress_bar
    from edge.recording.copying import Source, copy

    offsets = _offsets(args)
    sources = [
        Source(recording=open_shown(path), clock_offset_ns=offsets.get(path.stem, 0)) for path in args.recordings
    ]
    with progress_bar("merging", sum(source.count(args.topics) for source in sources)) as watch:
        copied = copy(args.out, sources, streams=args.topics, watch=watch)
    return tell(args, copied, [source.recording for source in sources])


def _offsets(args: argparse.Namespace) -> dict[str, int]:
    """Return nanoseconds by the stem of a recording's name."""
    from models.errors import ConfigError

    known = {path.stem for path in args.recordings}
    offsets = {}
    for text in args.clock_offset:
        name, _, value = text.rpartition("=")
        try:
            offsets[name] = round(seconds(value) * 1e9)
        except argparse.ArgumentTypeError as error:
            raise ConfigError(f"--clock-offset {text}: expected NAME=SECONDS, such as {min(known)}=-0.5") from error
        if name not in known:
            raise ConfigError(f"--clock-offset {text}: expected one of {', '.join(sorted(known))} before the =")
    return offsets

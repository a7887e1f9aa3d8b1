"""Which part of a recording a command flies, and under which names: `--from`, `--to`, `--remap`."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.recording.reader import Recording

MAX_SECONDS = 3e8
"""Some 10 years: times fit a recording's 64 bits."""
_EXPECTED = "expected seconds from the start, such as 12.5, or UTC, such as 2026-11-21T10:15:00Z"


def add_part(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--from", dest="begin", type=_moment, metavar="TIME", help="fly from here on: seconds from the start, or UTC"
    )
    parser.add_argument("--to", dest="end", type=_moment, metavar="TIME", help="fly up to here, in the same ways")
    parser.add_argument(
        "--remap",
        type=_names,
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="call a stream otherwise, such as front=camera; may be given several times",
    )


def part_of(recording: "Recording", args: argparse.Namespace) -> "Recording":
    """Return the part that is to be flown, its streams called as they are to be.

    Raises:
        ConfigError: the part ends before it begins, or holds nothing; a stream to be renamed is not there, or its new
            name is no name of a stream, or another's.
    """
    from models.errors import ConfigError

    names = dict(args.remap)
    if len(names) < len(args.remap):
        raise ConfigError("--remap: expected each stream once")
    begin_ns, end_ns = (_time_ns(recording, moment) for moment in (args.begin, args.end))
    if begin_ns is not None and end_ns is not None and end_ns <= begin_ns:
        raise ConfigError(
            f"--to is {(end_ns - recording.start_ns) / 1e9:.3f} s, --from {(begin_ns - recording.start_ns) / 1e9:.3f} s"
            " from the start: expected --from before --to"
        )
    renamed = recording.renamed(names) if names else recording
    return renamed if begin_ns is None and end_ns is None else renamed.part(begin_ns, end_ns)


def _time_ns(recording: "Recording", moment: float | int | None) -> int | None:
    """Return a moment in the recording's own time; a whole number is UTC in ns, any other seconds from its start."""
    if moment is None:
        return None
    return moment - recording.utc_offset_ns if isinstance(moment, int) else recording.start_ns + round(moment * 1e9)


def _moment(text: str) -> float | int:
    """Return seconds as a float, UTC as an integer of ns."""
    from edge.recording.imports.utc import parse_utc

    try:
        seconds = float(text)
    except ValueError:
        utc_ns = parse_utc(text)
        if utc_ns is None:
            raise argparse.ArgumentTypeError(f"{text!r}: {_EXPECTED}") from None
        return utc_ns
    if not 0 <= seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r}: {_EXPECTED}")
    return seconds


def _names(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"{text!r}: expected OLD=NEW, such as front=camera")
    return old, new

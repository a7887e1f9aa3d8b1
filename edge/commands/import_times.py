"""What `uav-edge import` is told about when its sources were recorded."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.recording.imports.arranging import Wishes


def add_time_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --align, --anchor, --offset and --correct-drift."""
    times = parser.add_argument_group("times; a source is named by its file or folder without ending")
    times.add_argument(
        "--align",
        choices=("begin", "utc"),
        help="begin: all begin with the flight (default); utc: each at its own UTC, also where --anchor is given",
    )
    times.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="SOURCE=UTC",
        help="when a source began, 2026-01-31T14:25:30.25Z",
    )
    times.add_argument(
        "--offset",
        action="append",
        default=[],
        metavar="SOURCE=SECONDS",
        help="when a source begins in the flight (default: 0; radio: after the one before); by UTC: how much later",
    )
    times.add_argument(
        "--correct-drift", action="store_true", help="stretch what a clock timed that is known to be slow or fast"
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return the names of sources: without ending, but with it where two would be named alike.

    Raises:
        ConfigError: two are named alike even so.
    """
    from models.errors import ConfigError

    stems = [path.stem for path in paths]
    names = [path.stem if stems.count(path.stem) == 1 else path.name for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"two sources are named {twice}: rename one, so that each can be told from the other")
    return names


def wishes_of(args: argparse.Namespace, names: Sequence[str]) -> "Wishes":
    """Return what is wished of the sources' times.

    Raises:
        ConfigError: nonsense, or about a source that is not there.
    """
    from edge.recording.imports.arranging import Wishes
    from models.errors import ConfigError

    by_utc = args.align == "utc" or bool(args.anchor)
    if args.align == "begin" and args.anchor:
        raise ConfigError("--anchor places a source by its UTC: leave out --align begin")
    return Wishes(
        offsets_ns=_offsets(args.offset, names),
        anchors_ns=_anchors(args.anchor, names),
        by_utc=by_utc,
        corrects_drift=args.correct_drift,
    )


def _offsets(texts: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    from edge.recording.imports.arranging import MAX_FLIGHT_S
    from models.errors import ConfigError

    offsets_ns: dict[str, int] = {}
    for text in texts:
        source, _, seconds = text.rpartition("=")
        try:
            offsets_ns[source] = round(float(seconds) * 1e9)
        except (ValueError, OverflowError) as error:
            example = min(names, default="radio")
            raise ConfigError(f"--offset {text}: expected SOURCE=SECONDS, such as {example}=2.5") from error
        if source not in names or abs(offsets_ns[source]) > MAX_FLIGHT_S * 1e9:
            known = ", ".join(sorted(names))
            raise ConfigError(f"--offset {text}: expected one of {known}, up to {MAX_FLIGHT_S:g} s")
    return offsets_ns


def _anchors(texts: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    from edge.recording.imports.utc import parse_utc
    from models.errors import ConfigError

    anchors_ns: dict[str, int] = {}
    for text in texts:
        source, _, moment = text.rpartition("=")
        time_ns = parse_utc(moment)
        if source not in names or time_ns is None:
            known = ", ".join(sorted(names))
            raise ConfigError(
                f"--anchor {text}: expected SOURCE=UTC of one of {known}, such as {names[0]}=2026-01-31T14:25:30.25Z"
            )
        anchors_ns[source] = time_ns
    return anchors_ns

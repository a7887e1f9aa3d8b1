"""`uav-edge import`: one recording from parts that were never recorded together."""

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commands.import_times import add_time_arguments, names_of, wishes_of

if TYPE_CHECKING:
    from edge.recording.imports.arranging import Arranged
    from edge.recording.imports.source import Source


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT.mcap", help="the recording to write; replaced when complete")
    radio = parser.add_argument_group("radio; several follow each other")
    radio.add_argument("--sigmf", type=Path, action="append", default=[], metavar="META", help="a SigMF recording")
    radio.add_argument(
        "--raw", type=Path, action="append", default=[], metavar="FILE", help="bare samples: .cu8 .cs8 .cs16 .cf32 ..."
    )
    radio.add_argument("--sample-rate", type=float, metavar="HZ", help="of --raw: samples a second")
    radio.add_argument("--centre", type=float, default=0.0, metavar="HZ", help="of --raw: tuned frequency (default 0)")
    radio.add_argument("--raw-type", metavar="TYPE", help="of --raw, where the ending does not say it: cu8, cs16, cf32")
    radio.add_argument("--rate", type=float, metavar="HZ", help="windows a second (default: back to back)")
    pictures = parser.add_argument_group("camera")
    camera = pictures.add_mutually_exclusive_group()
    camera.add_argument("--images", type=Path, metavar="DIR", help="a folder of JPEG and PNG files")
    camera.add_argument("--video", type=Path, metavar="FILE", help="a video, at its own times")
    pictures.add_argument("--fps", type=float, default=1.0, help="images a second, by their names (default 1)")
    pictures.add_argument(
        "--times", metavar="names|exif|CSV", help="when images were taken: by names, EXIF, or a table file,time"
    )
    parser.add_argument("--pose", type=Path, metavar="LOG", help="ArduPilot .bin, PX4 .ulg, .tlog, or a track as .csv")
    add_time_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Compose the recording, and say what went into it."""
    from edge.operations.progress import progress_bar
    from edge.recording.composition import compose
    from edge.recording.imports.arranging import arrange
    from models.command_line import print_json

    _check(args)
    names = names_of([path for path in (*_radio(args), args.images, args.video, args.pose) if path is not None])
    wishes = wishes_of(args, names)
    sources = [replace(source, name=name) for source, name in zip(_sources(args), names, strict=True)]
    arranged = arrange(sources, wishes)
    expected: dict[str, int] = {}
    for part in arranged.parts:
        expected[part.name] = expected.get(part.name, 0) + part.count
    with progress_bar("composing", sum(expected.values())) as watch:
        written = compose(
            args.out,
            arranged.parts,
            metadata={"utc": f"of {arranged.utc_of}" if arranged.utc_of else "unknown"},
            utc_offset_ns=arranged.utc_offset_ns or 0,
            watch=watch,
        )
    missing = {name: count - written.get(name, 0) for name, count in expected.items() if count > written.get(name, 0)}
    _print(args, arranged, sources, written, missing)
    if args.json:
        print_json(_summary(args, arranged, sources, written, missing))
    return 0


def _radio(args: argparse.Namespace) -> list[Path]:
    return [*args.sigmf, *args.raw]


def _check(args: argparse.Namespace) -> None:
    from models.errors import ConfigError

    for name, value in (("--rate", args.rate), ("--fps", args.fps)):
        if value is not None and not 0 < value <= 10_000:
            raise ConfigError(f"{name} {value}: expected above 0 to 10000")
    if args.sample_rate is not None and not 0 < args.sample_rate <= 1e11:
        raise ConfigError(f"--sample-rate {args.sample_rate}: expected above 0 to 1e11 samples a second")
    if not -1e12 <= args.centre <= 1e12:
        raise ConfigError(f"--centre {args.centre}: expected a frequency in Hz")
    if bool(args.raw) != (args.sample_rate is not None):
        raise ConfigError("--raw and --sample-rate go together: bare samples do not say how fast they came")
    if args.raw_type is not None:
        from edge.sources.raw_iq import RAW_TYPES

        if args.raw_type not in RAW_TYPES:
            raise ConfigError(f"--raw-type {args.raw_type}: expected one of {', '.join(RAW_TYPES)}")
    if args.times is not None and args.images is None:
        raise ConfigError("--times says when images were taken: name their folder by --images")
    if not (_radio(args) or args.images or args.video or args.pose):
        raise ConfigError("nothing to import: name at least one of --sigmf, --raw, --images, --video, --pose")


def _sources(args: argparse.Namespace) -> list["Source"]:
    from edge.recording.imports.flight_log import log_source
    from edge.recording.imports.images import image_source
    from edge.recording.imports.radio import raw_source, sigmf_source
    from edge.recording.imports.video import video_source

    sources = [sigmf_source(path, args.rate) for path in args.sigmf]
    sources += [raw_source(path, (args.sample_rate, args.centre, args.raw_type), args.rate) for path in args.raw]
    if args.images is not None:
        sources.append(image_source(args.images, args.fps, args.times))
    if args.video is not None:
        sources.append(video_source(args.video))
    if args.pose is not None:
        sources.append(log_source(args.pose))
    return sources


def _print(
    args: argparse.Namespace,
    arranged: "Arranged",
    sources: list["Source"],
    written: dict[str, int],
    missing: dict[str, int],
) -> None:
    for part in arranged.parts:
        print(f"{part.name}: {part.origin}")
    timed = [(source.name, source.clock) for source in sources if source.clock is not None]
    for name, clock in timed:
        fate = ", corrected" if clock.is_certain else ", too uncertain to be corrected"
        print(f"{name}: {clock}{fate if args.correct_drift else ''}")
    for (name, clock), (other, reference) in itertools.pairwise(timed):
        print(f"{name} against {other}: {clock.against(reference)}")
    for name, count in missing.items():
        print(f"{name}: {count} could not be read: is the file whole?")
    print(f"{args.out}: " + ", ".join(f"{count} {name}" for name, count in written.items()))


def _summary(
    args: argparse.Namespace,
    arranged: "Arranged",
    sources: list["Source"],
    written: dict[str, int],
    missing: dict[str, int],
) -> dict[str, Any]:
    clocks = {source.name: source.clock for source in sources if source.clock is not None}
    return {
        "path": str(args.out),
        "messages": written,
        "missing": missing,
        "origins": {part.name: part.origin for part in arranged.parts},
        "begin_s": {name: round(place.begin_ns / 1e9, 6) for name, place in arranged.places.items()},
        "clock_ppm": {name: round(clock.ppm, 3) for name, clock in clocks.items()},
        "clock_ppm_error": {name: round(clock.error_ppm, 3) for name, clock in clocks.items()},
    }

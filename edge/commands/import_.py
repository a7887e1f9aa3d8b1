"""`uav-edge import`: one recording from parts that were never recorded together."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

MAX_OFFSET_S = 3e8
"""Some 10 years: times fit the recording's 64 bits, whatever clock the parts are on."""

if TYPE_CHECKING:
    from edge.mavlink.dataflash import LoggedFlight
    from edge.recording.composition import Part


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT.mcap", help="the recording to write; replaced when complete")
    parser.add_argument(
        "--sigmf", type=Path, action="append", default=[], metavar="META", help="radio; several follow each other"
    )
    camera = parser.add_mutually_exclusive_group()
    camera.add_argument("--images", type=Path, metavar="DIR", help="JPEG and PNG files, in the order of their names")
    camera.add_argument("--video", type=Path, metavar="FILE", help="a video, at its own times")
    parser.add_argument("--pose", type=Path, metavar="LOG.bin", help="ArduPilot log: poses from its first good fix on")
    parser.add_argument("--rate", type=float, metavar="HZ", help="radio windows a second (default: back to back)")
    parser.add_argument("--fps", type=float, default=1.0, help="images a second (default 1)")
    parser.add_argument(
        "--offset",
        action="append",
        default=[],
        metavar="SOURCE=SECONDS",
        help="when a source begins: its file or folder name without ending (default: 0; radio: after the one before)",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Compose the recording, and say what went into it."""
    from edge.mavlink.dataflash import read_dataflash
    from edge.operations.progress import progress_bar
    from edge.recording.composition import compose
    from models.command_line import print_json

    log = read_dataflash(args.pose) if args.pose is not None else None
    begins = _begins(args)
    parts = _parts(args, begins, log)
    utc_offset_ns = _utc_offset_ns(args, begins, log)
    with progress_bar("composing", sum(part.count for part in parts)) as watch:
        written = compose(
            args.out,
            parts,
            metadata={"utc": "unknown" if utc_offset_ns is None else "by GPS"},
            utc_offset_ns=utc_offset_ns or 0,
            watch=watch,
        )
    for part in parts:
        print(f"{part.name}: {part.origin}")
    print(f"{args.out}: " + ", ".join(f"{count} {name}" for name, count in written.items()))
    if args.json:
        print_json({"path": str(args.out), "messages": written})
    return 0


def _parts(args: argparse.Namespace, begins: dict[str, int], log: "LoggedFlight | None") -> list["Part"]:
    from edge.recording.composition import START_NS
    from edge.recording.importers import image_part, pose_part, radio_part, video_part
    from models.errors import ConfigError

    _check(args)
    parts: list[Part] = []
    radio_ns = START_NS
    for path in args.sigmf:
        parts.append(radio_part(path, begins.get(path.stem, radio_ns), args.rate))
        radio_ns = parts[-1].end_ns
    if args.images is not None:
        parts.append(image_part(args.images, begins.get(args.images.stem, START_NS), args.fps))
    if args.video is not None:
        parts.append(video_part(args.video, begins.get(args.video.stem, START_NS)))
    if log is not None:
        end_ns = max((part.end_ns for part in parts), default=None)
        parts.append(pose_part(args.pose, log, begins.get(args.pose.stem, START_NS), end_ns))
    if not parts:
        raise ConfigError("nothing to import: name at least one of --sigmf, --images, --video, --pose")
    return parts


def _check(args: argparse.Namespace) -> None:
    from models.errors import ConfigError

    for name, value in (("--rate", args.rate), ("--fps", args.fps)):
        if value is not None and not 0 < value <= 10_000:
            raise ConfigError(f"{name} {value}: expected above 0 to 10000")


def _begins(args: argparse.Namespace) -> dict[str, int]:
    """Return when sources begin that --offset names."""
    from edge.recording.composition import START_NS
    from models.errors import ConfigError

    named = [path for path in (*args.sigmf, args.images, args.video, args.pose) if path is not None]
    known = {path.stem for path in named}
    begins = {}
    for text in args.offset:
        source, _, seconds = text.partition("=")
        try:
            begins[source] = START_NS + round(float(seconds) * 1e9)
        except (ValueError, OverflowError) as error:
            raise ConfigError(
                f"--offset {text}: expected SOURCE=SECONDS, such as {min(known, default='radio')}=2.5"
            ) from error
        if source not in known or not 0 <= begins[source] <= MAX_OFFSET_S * 1e9:
            names = ", ".join(sorted(known))
            raise ConfigError(f"--offset {text}: expected one of {names}, from -1 s on, up to {MAX_OFFSET_S:g} s")
    return begins


def _utc_offset_ns(args: argparse.Namespace, begins: dict[str, int], log: "LoggedFlight | None") -> int | None:
    """Return UTC minus the composed flight's clock, None where no log tells it."""
    from edge.recording.composition import START_NS

    if log is None or log.utc_offset_ns is None:
        return None
    shift_ns = begins.get(args.pose.stem, START_NS) - log.poses[0].capture_ns
    return log.utc_offset_ns - shift_ns

"""`uav-edge record`: every stream of a deployment, its results and poses, into one file."""

import argparse
import sys
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.config import FlightConfig
    from edge.recording.recorder import Recorder


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FLIGHT.yaml", help="the deployment")
    parser.add_argument("--out", type=Path, metavar="FILE.mcap", help="file (default: by time in recording.directory)")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so long (default: on SIGTERM or Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="print what was recorded as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Record until SIGTERM, Ctrl-C or the time is over; say what was recorded, and what was lost."""
    from edge.config import load_flight
    from edge.operations.signals import stop_on_signals
    from edge.recording.recorder import Recorder
    from edge.recording.writer import RecordingWriter
    from models.command_line import print_json

    stop = stop_on_signals()
    config = load_flight(args.config)
    path = args.out or _path(config, args.config)
    with RecordingWriter(path, metadata={"bundle": Path(config.bundle).name}) as writer:
        writer.attach("flight.yaml", "application/yaml", args.config.read_bytes())
        recorder = Recorder(config, writer)
        if args.seconds is not None:
            timer = threading.Timer(args.seconds, stop.set)
            timer.daemon = True
            timer.start()
        print(f"recording to {path}", file=sys.stderr, flush=True)
        try:
            recorder.run(stop)
        finally:
            _print_tallies(recorder)
    if args.json:
        streams = {
            name: {
                "recorded": tally.recorded,
                "bytes": tally.recorded_bytes,
                "lost": tally.lost,
                "refused": dict(tally.refused),
            }
            for name, tally in recorder.tallies.items()
        }
        print_json({"path": str(path), "streams": streams})
    return 0


def _print_tallies(recorder: "Recorder") -> None:
    for name, tally in recorder.tallies.items():
        refused = "".join(f", {count} refused ({reason})" for reason, count in tally.refused.items())
        megabytes = tally.recorded_bytes / 1e6
        print(f"{name}: {tally.recorded} messages recorded, {megabytes:.1f} MB, {tally.lost} lost{refused}")


def _path(config: "FlightConfig", config_path: Path) -> Path:
    from models.errors import ConfigError, RecordingError

    if config.recording is None:
        raise ConfigError(f"{config_path}: no recording.directory: add it, or name a file with --out")
    folder = config_path.parent / config.recording.directory
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be made ({error.strerror}): choose another directory") from error
    now = datetime.now(timezone.utc)
    return folder / f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z.mcap"

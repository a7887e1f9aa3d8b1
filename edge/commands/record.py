"""`uav-edge record`: every stream of a deployment, its results and poses, into files."""

import argparse
import contextlib
import os
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
    parser.add_argument("--faults", type=Path, metavar="FILE", help="how `run --fault` tells of its faults")
    parser.add_argument("--json", action="store_true", help="print what was recorded as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Record until SIGTERM, Ctrl-C or the time is over; say what was recorded, and what was lost."""
    _let_others_go_first()  # before the imports, which start threads of their own
    from edge.config import RecordingConfig, load_flight
    from edge.faults.full_disk import FullDisk
    from edge.faults.orders import Orders
    from edge.operations.signals import stop_on_signals
    from edge.recording.courtesy import Courtesy
    from edge.recording.flight_facts import about_flight
    from edge.recording.flight_files import FlightFiles
    from edge.recording.recorder import Recorder
    from edge.transport.messages import NOTHING_INJECTED
    from models.command_line import print_json

    stop = stop_on_signals()
    config = load_flight(args.config)
    wanted = config.recording or RecordingConfig(directory=".")
    orders = Orders(args.faults) if args.faults is not None else None
    injected = orders.injected() if orders is not None else NOTHING_INJECTED
    about, first = about_flight(config, args.config, injected), args.out or first_path(config, args.config)
    with FlightFiles(first, wanted, about) as files:
        recorder = Recorder(config, files, courtesy=Courtesy())
        if args.seconds is not None:
            timer = threading.Timer(args.seconds, stop.set)
            timer.daemon = True
            timer.start()
        where = files.paths[0] if files.paths else f"nothing yet: {files.pause}"
        print(f"recording to {where}", file=sys.stderr, flush=True)
        try:
            with FullDisk(orders) if orders is not None else contextlib.nullcontext():
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
                "left_out": tally.left_out,
            }
            for name, tally in recorder.tallies.items()
        }
        print_json({"files": [str(path) for path in files.paths], "streams": streams})
    return 0


def _let_others_go_first() -> None:
    """Never take a core from a process that is at work: queues wait for the recorder, the pipeline's answers do not."""
    with contextlib.suppress(OSError):  # where a container forbids it, it is the same recording
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _print_tallies(recorder: "Recorder") -> None:
    for name, tally in recorder.tallies.items():
        refused = "".join(f", {count} refused ({reason})" for reason, count in tally.refused.items())
        left_out = f", {tally.left_out} left out" if tally.left_out else ""
        megabytes = tally.recorded_bytes / 1e6
        print(f"{name}: {tally.recorded} messages recorded, {megabytes:.1f} MB, {tally.lost} lost{refused}{left_out}")


def first_path(config: "FlightConfig", config_path: Path) -> Path:
    """Return the name of a recording that begins now; its folder is made when absent.

    Raises:
        ConfigError: the deployment says no folder.
        RecordingError: it cannot be made.
    """
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

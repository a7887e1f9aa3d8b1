"""`uav-edge demo`: a recorded flight becomes classifications at a ground station, with nothing but this machine."""

import argparse
import sys
import tempfile
from pathlib import Path

from edge.commands.precision import add_precision
from models.command_line import positive_seconds

DEMO_SEED = 7
DEMO_DWELL_S = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--seconds", type=positive_seconds, default=20.0, help="length of the flight (default 20)")
    parser.add_argument("--seed", type=int, default=DEMO_SEED, help="another seed, another flight")
    parser.add_argument("--bundle", type=Path, metavar="DIR.uavb", help="model (default: the one shipped)")
    add_precision(parser)
    parser.add_argument("--report", type=Path, default=Path("report.html"), metavar="OUT.html", help="the report")
    parser.add_argument("--keep", type=Path, metavar="FLIGHT.mcap", help="keep the recording that is flown")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Synthesize a flight, replay it in real time through all processes, receive it by MAVLink, and report."""
    from edge.mavlink.station.ground import GroundStation
    from edge.operations.live_replay import LiveOptions, fly_live
    from edge.operations.progress import progress_bar
    from edge.operations.report import write_report
    from edge.operations.summary_text import print_summary
    from edge.recording.reader import open_recording
    from edge.recording.synthetic import message_count, write_synthetic_flight
    from edge.sources.synthetic import SyntheticFlight
    from models.bundle import open_bundle, shipped_bundle
    from models.command_line import check_writable, print_json

    check_writable(args.report, args.keep)
    bundle = open_bundle(args.bundle or shipped_bundle())
    with tempfile.TemporaryDirectory(prefix="uav-edge-demo-") as folder:
        path = args.keep or Path(folder) / "flight.mcap"
        flight = SyntheticFlight(args.seed, DEMO_DWELL_S)
        print(f"1. making {args.seconds:g} s of synthetic flight: radio at 100 Hz, camera at 30 Hz")
        with progress_bar("flight", message_count(flight, args.seconds)) as watch:
            write_synthetic_flight(path, flight, args.seconds, watch)
        with GroundStation("udpin:127.0.0.1:0") as ground:
            link = f"udpout:127.0.0.1:{ground.port}"
            print(f"2. flying it with {bundle.manifest.title}; a MAVLink ground station listens on {link}")
            options = LiveOptions(mavlink=(link,), show=sys.stderr.isatty(), precision=args.precision)
            flown = fly_live(open_recording(path), bundle, options, beside=lambda: ground.poll(0))
            while ground.poll(100):
                pass
            received = dict(ground.counts.frames.messages)
    print_summary(flown.summary())
    print("MAVLink messages at the ground station: " + ", ".join(f"{n} {name}" for name, n in received.items()))
    write_report(args.report, flown)
    print(f"3. report with pictures: {args.report.resolve()}")
    if args.json:
        print_json({**flown.summary(), "mavlink": received, "report": str(args.report)})
    return 0 if flown.is_balanced else 1

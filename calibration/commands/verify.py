"""`uav-calibrate verify`: quantized graphs against FP32 on examples, gates, and what may fly where."""

import argparse
from pathlib import Path

from models.command_line import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--bundle", type=Path, required=True, help="bundle with the FP32 graphs")
    parser.add_argument("--work", type=Path, required=True, help="folder with the graphs that quantize wrote")
    parser.add_argument("--examples", type=Path, required=True, help="examples.npz, none of them calibrated on")
    parser.add_argument("--gates", type=Path, metavar="YAML", help="limits of your own, as in docs/calibration.md")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Judge, write verify.json and verify.html, and say what flies."""
    from calibration.judging.verify import verify_work
    from calibration.work import note_step
    from models.bundle import open_bundle

    found = verify_work(open_bundle(args.bundle), args.work, args.examples, args.gates)
    note_step(args.work, args.typed)
    for line in found.lines():
        print(line)
    if args.json:
        print_json(found.as_json())
    return 0

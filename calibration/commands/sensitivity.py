"""`uav-calibrate sensitivity`: which layers suffer from INT8, and which of them `mixed` leaves in float."""

import argparse
from pathlib import Path

from models.command_line import print_json
from models.errors import ConfigError
from models.manifest import TARGETS


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--bundle", type=Path, required=True, help="bundle with the FP32 graphs")
    parser.add_argument("--work", type=Path, required=True, help="folder with ranges.npz; sensitivity.* goes there")
    parser.add_argument("--examples", type=Path, required=True, help="examples.npz, none of them calibrated on")
    parser.add_argument(
        "--target", nargs="+", choices=TARGETS, default=list(TARGETS), help="whose integers (default: all)"
    )
    parser.add_argument(
        "--budget", type=float, default=0.8, help="largest time that is worth it, share of FP32's (default: 0.8)"
    )
    parser.add_argument("--gates", type=Path, metavar="YAML", help="limits of your own, as for verify")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Examine the layers, write sensitivity.json and sensitivity.html, and say what stays float."""
    if not 0 < args.budget <= 1:
        raise ConfigError(f"--budget {args.budget}: expected a share of FP32's time above 0, at most 1")
    from calibration.bar import Bar
    from calibration.judging.sensitivity_report import Wish, examine_work
    from calibration.work import note_step
    from models.bundle import open_bundle

    with Bar("layers") as bar:
        wish = Wish(targets=tuple(dict.fromkeys(args.target)), budget=args.budget, gates=args.gates)
        found = examine_work(open_bundle(args.bundle), args.work, args.examples, wish, bar.show)
    note_step(args.work, args.typed)
    for line in found.lines():
        print(line)
    if args.json:
        print_json(found.as_json())
    return 0

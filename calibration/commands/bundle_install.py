"""`uav-calibrate bundle install`: onto a drone, atomically, after a self-test there."""

import argparse
from pathlib import Path

from calibration.commands.bundle_trust import add_trust_arguments, trust_of
from models.command_line import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a .uavb folder or a .uavb.tar")
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="where bundles live on this machine")
    add_trust_arguments(parser)
    parser.add_argument("--allow-downgrade", action="store_true", help="take a release older than one that flew here")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Verify, copy, test and change over."""
    from edge.backends.onnx import load_engines
    from models.bundle import open_bundle
    from models.store import CURRENT, install

    bundle = open_bundle(args.bundle, trust_of(args))
    change = install(args.store, bundle, load_engines, may_downgrade=args.allow_downgrade)
    if change.is_change:
        print(f"{args.store / CURRENT}: {change.now} (before: {change.before or 'nothing'})")
    else:
        print(f"{args.store / CURRENT}: {change.now} was installed already")
    if args.json:
        now = {"before": change.before, "now": change.now, "is_change": change.is_change}
        print_json({"store": str(args.store), **now})
    return 0

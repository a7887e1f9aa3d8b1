"""`uav-calibrate bundle rollback`: the last good bundle flies again."""

import argparse
from pathlib import Path

from models.command_line import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="where bundles live on this machine")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Test the bundle before, and change over."""
    from edge.backends.onnx import load_engines
    from models.store import CURRENT, roll_back

    change = roll_back(args.store, load_engines)
    print(f"{args.store / CURRENT}: {change.now} (before: {change.before})")
    if args.json:
        print_json({"store": str(args.store), "before": change.before, "now": change.now})
    return 0

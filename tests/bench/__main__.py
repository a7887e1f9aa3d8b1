"""`python -m tests.bench`: our pipeline and a naive one, in turns, on the same messages."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

from models.bundle import open_bundle, shipped_bundle
from models.command_line import print_json
from tests.bench.rival import duel

PATHS = ("iq", "iq-wide", "image", "jpeg")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--bundle", type=Path, help="model (default: the one shipped)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each path, and half as long again overloaded")
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=PATHS, help="which (default: all)")
    parser.add_argument("--resize", choices=("area", "linear"), default="area", help="how the naive one shrinks frames")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")
    args = parser.parse_args()
    bundle = open_bundle(args.bundle or shipped_bundle())
    duels = []
    for path in args.paths:
        duels.append(msgspec.to_builtins(duel(bundle, path, args.seconds, args.resize)))
        show(duels[-1])
    if args.json:
        print_json({"rival": duels})


def show(found: dict[str, Any]) -> None:
    """Print a path in two lines."""
    print(f"{found['path']}: p50 {found['naive_p50_ms']} ms naive, {found['ours_p50_ms']} ours: {found['ratio']}")
    ages = f"{found['naive_age_ms']} naive, {found['ours_age_ms']} ours: {found['age_ratio']}"
    print(f"  offered {found['offered_per_s']}/s for {found['overload_s']} s: age in ms {ages}")


if __name__ == "__main__":
    main()

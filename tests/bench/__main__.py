"""`python -m tests.bench`: our pipeline against a naive one, frames by socket and in shared memory, headers."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

from models.bundle import open_bundle, shipped_bundle
from models.command_line import print_json

PATHS = ("iq-wide", "image", "jpeg")
NAMES = ("rival", "handover", "headers")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--bundle", type=Path, help="model (default: the one shipped)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each path of the rivals, and of the frames")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown {unknown[0]!r}: choose of {', '.join(NAMES)}")
    bundle = open_bundle(args.bundle or shipped_bundle())
    names, found = args.names or NAMES, {}
    if "headers" in names:
        from tests.bench.headers import header_ns

        found["headers_ns"] = header_ns()
        print(found["headers_ns"])
    if "handover" in names:
        from tests.bench.handover import handover

        found["handover_ms"] = msgspec.to_builtins(handover(bundle, args.seconds))
        show_handover(found["handover_ms"])
    if "rival" in names:
        from tests.bench.rival import duel

        found["rival"] = []
        for path in PATHS:
            found["rival"].append(msgspec.to_builtins(duel(bundle, path, args.seconds, args.seconds / 2)))
            show_duel(found["rival"][-1])
    if args.json:
        print_json(found)


def show_handover(found: dict[str, Any]) -> None:
    """Print both ways in a line."""
    ways = ", ".join(f"{way} p50 {found[way]['p50']}" for way in ("socket", "shm"))
    print(f"1080p frame, send to receipt, ms: {ways}; the socket takes {found['socket_over_shm']} times as long")


def show_duel(found: dict[str, Any]) -> None:
    """Print a path in two lines."""
    print(f"{found['path']}: p50 {found['naive_p50_ms']} ms naive, {found['ours_p50_ms']} ours: {found['ratio']}")
    ages = f"{found['naive_age_ms']} naive, {found['ours_age_ms']} ours: {found['age_ratio']}"
    print(f"  offered {found['offered_per_s']}/s: age in ms {ages}")


if __name__ == "__main__":
    main()

"""`uav-calibrate bundle keygen`: a pair of keys to sign bundles with."""

import argparse
from pathlib import Path

from models.command_line import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("key", type=Path, metavar="FILE", help="private key to write; FILE.pub becomes the public one")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Make the keys."""
    from models.signature import make_keys

    public = args.key.with_name(f"{args.key.name}.pub")
    key_id = make_keys(args.key, public)
    print(f"key {key_id}\n{args.key}: private: keep it off the drone, and in a safe place\n{public}: for the drones")
    if args.json:
        print_json({"key": key_id, "private": str(args.key), "public": str(public)})
    return 0

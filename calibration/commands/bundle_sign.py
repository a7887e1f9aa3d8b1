"""`uav-calibrate bundle sign`: say with a private key that this bundle is ours."""

import argparse
from pathlib import Path

from models.command_line import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a .uavb folder or a .uavb.tar")
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help="private key that keygen wrote")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Verify and sign; another signature is replaced."""
    from models.bundle import add_signature, open_bundle
    from models.manifest import MANIFEST_FILE, SIGNATURE_FILE
    from models.signature import parse_signature, read_private_key, sign

    key = read_private_key(args.key)
    bundle = open_bundle(args.bundle)
    text = sign(bundle.head[MANIFEST_FILE], key)
    add_signature(bundle, text)
    key_id = parse_signature(text, SIGNATURE_FILE).key_id
    print(f"{bundle.path}: signed with key {key_id}")
    if args.json:
        print_json({"bundle": str(bundle.path), "sha256": bundle.sha256, "key": key_id})
    return 0

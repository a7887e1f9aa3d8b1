"""`uav-edge mavlink keygen`: a key that the frames of a link are signed with."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("key", type=Path, metavar="FILE", help="to write: 32 bytes, for its owner's eyes only")
    parser.add_argument(
        "--passphrase", action="store_true", help="ask for the passphrase that the ground station makes its key of"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Make the key."""
    from edge.mavlink.trust.keys import make_key
    from models.command_line import print_json

    make_key(args.key, _ask() if args.passphrase else None)
    print(f"{args.key}: name it as the key of a link; its other end needs the same")
    if args.json:
        print_json({"key": str(args.key)})
    return 0


def _ask() -> str:
    import getpass

    from models.errors import ConfigError

    passphrase = getpass.getpass("passphrase: ")
    if getpass.getpass("once more: ") != passphrase:
        raise ConfigError("the two passphrases differ: type the same one twice")
    return passphrase

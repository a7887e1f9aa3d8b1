"""What every command that reads a bundle asks about signatures."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.signature import Trust


def add_trust_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--keys` and `--require-signature`."""
    parser.add_argument(
        "--keys", type=Path, nargs="+", default=[], metavar="FILE.pub", help="public keys; a signature must be of one"
    )
    parser.add_argument("--require-signature", action="store_true", help="refuse a bundle without signature")


def trust_of(args: argparse.Namespace) -> "Trust":
    """Return whose bundles the command line trusts."""
    from models.signature import read_trust

    return read_trust(args.keys, is_required=args.require_signature)


def signature_as_json(bundle: "Bundle") -> dict[str, Any]:
    """Return who signed a bundle, and whether that was checked."""
    key = None if bundle.signature is None else bundle.signature.key_id
    return {"key": key, "is_trusted": bundle.is_trusted}


def signature_text(bundle: "Bundle") -> str:
    """Return the same in words."""
    if bundle.signature is None:
        return "not signed"
    state = "trusted" if bundle.is_trusted else "not checked: name its key with --keys"
    return f"signed with key {bundle.signature.key_id}, {state}"

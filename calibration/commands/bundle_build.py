"""`uav-calibrate bundle build`: what calibration made becomes a release."""

import argparse
import shlex
from pathlib import Path

from models.command_line import print_json
from models.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--bundle", type=Path, required=True, metavar="BASE", help="bundle with the FP32 graphs")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder with onnx/ and reports")
    parser.add_argument("--version", type=int, required=True, help="of the new bundle: above the base's")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where <name>-<version>.uavb is made")
    parser.add_argument("--archive", action="store_true", help="also make <name>-<version>.uavb.tar, for transport")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key to sign with")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Assemble, test, write, sign and pack."""
    from calibration.release.assembly import assemble
    from edge.backends.onnx import load_engines
    from models.bundle import Bundle, add_signature, open_bundle, pack_bundle, write_bundle
    from models.manifest import MANIFEST_FILE
    from models.signature import read_private_key, sign

    key = None if args.key is None else read_private_key(args.key)
    base = open_bundle(args.bundle)
    if args.version <= base.manifest.version:
        raise ConfigError(f"--version {args.version}: expected above {base.manifest.version}, the base's")
    release = assemble(base, args.work, args.version, _command(args))
    candidate = Bundle(path=args.work, manifest=release.manifest, sha256="", contents=release.contents)
    load_engines(candidate, "auto")  # a bundle that would refuse to start is not written
    path = write_bundle(args.out, release.manifest, release.contents)
    bundle = open_bundle(path)
    if key is not None:
        add_signature(bundle, sign(bundle.head[MANIFEST_FILE], key))
        bundle = open_bundle(path)
    archive = pack_bundle(bundle, args.out) if args.archive else None
    print(f"{path}: {len(bundle.manifest.graphs)} graphs, {len(bundle.contents)} files")
    if archive is not None:
        print(f"{archive}: the same for transport")
    if not bundle.manifest.approved:
        print("no verify.json approves of a precision: the FP32 graphs will fly")
    if args.json:
        facts = {"bundle": str(path), "archive": None if archive is None else str(archive)}
        print_json({**facts, "sha256": bundle.sha256, "approved": bundle.manifest.approved})
    return 0


def _command(args: argparse.Namespace) -> str:
    names = ["--bundle", args.bundle, "--work", args.work, "--version", args.version, "--out", args.out]
    return shlex.join(["uav-calibrate", "bundle", "build", *map(str, names)])

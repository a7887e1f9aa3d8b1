"""`uav-calibrate export`: a checkpoint becomes a bundle."""

import argparse
import re
import shlex
from pathlib import Path

from models.command_line import print_json
from models.errors import ConfigError, DeviceError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--checkpoint", type=Path, required=True, help=".safetensors file that uav-train fit wrote")
    parser.add_argument("--name", required=True, help="name of the bundle: letters, digits, - and _")
    parser.add_argument("--version", type=int, required=True, help="counts up with each release of the name")
    parser.add_argument("--out", type=Path, required=True, help="folder that will hold <name>-<version>.uavb")
    parser.add_argument(
        "--uint8-images",
        action="store_true",
        help="image branches take RGB bytes and normalise in the graph: a quarter of the bytes to hand over",
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Export, check and write the bundle."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", args.name) or args.version < 1:
        raise ConfigError(f"bundle {args.name!r} version {args.version}: expected a plain name and a version from 1")
    try:
        from calibration.export import Release, export_bundle
        from models.nets.checkpoint import read_checkpoint
    except ModuleNotFoundError as error:
        raise DeviceError(f"{error.name} is not installed: pip install 'uav-fusion-edge[export]'") from error
    arguments = ["--checkpoint", str(args.checkpoint), "--name", args.name, "--version", str(args.version)]
    arguments += ["--out", str(args.out), *(["--uint8-images"] if args.uint8_images else [])]
    release = Release(
        name=args.name,
        version=args.version,
        command=shlex.join(["uav-calibrate", "export", *arguments]),
        has_uint8_images=args.uint8_images,
    )
    path, difference = export_bundle(read_checkpoint(args.checkpoint), release, args.out)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{path}: {size:_} bytes, within {difference:.1e} of torch")
    if args.json:
        print_json({"bundle": str(path), "size_bytes": size, "max_difference": difference})
    return 0

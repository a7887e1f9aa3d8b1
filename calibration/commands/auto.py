"""`uav-calibrate auto`: collect, sensitivity, quantize, verify and bundle build, one after the other."""

import argparse
import json
import shlex
import time
from pathlib import Path

from models.command_line import print_json
from models.errors import ConfigError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--bundle", type=Path, required=True, help="bundle with the FP32 graphs, as export wrote it")
    parser.add_argument("--examples", type=Path, required=True, help="examples.npz to calibrate on, of training")
    parser.add_argument("--judged-by", type=Path, required=True, help="examples.npz to judge by, of validation")
    parser.add_argument("--work", type=Path, required=True, help="folder for ranges, graphs and reports")
    parser.add_argument("--version", type=int, required=True, help="of the new bundle, above the old one's")
    parser.add_argument("--out", type=Path, required=True, help="folder that will hold the new bundle")
    parser.add_argument("--gates", type=Path, metavar="YAML", help="limits of your own, as for verify")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Run the commands as if typed; the first that fails ends it, and what came before stays in the work folder."""
    from calibration.cli import main
    from calibration.judging.gates import Gates
    from calibration.work import VERDICT
    from models.bundle import open_bundle
    from models.schema import load_yaml

    base = open_bundle(args.bundle)  # what would end the last step ends it before the first
    if args.version <= base.manifest.version:
        raise ConfigError(f"--version {args.version}: expected above {base.manifest.version}, the base's")
    if args.gates is not None:
        load_yaml(args.gates, Gates)

    seconds = {}
    for words in _commands(args):
        name = " ".join(word for word in words[:2] if not word.startswith("-"))
        print(f"$ uav-calibrate {shlex.join(words)}", flush=True)
        started = time.monotonic()
        code = main(words)
        seconds[name] = round(time.monotonic() - started, 2)
        if code:
            return code
    print(f"{sum(seconds.values()):.1f} s: " + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))
    if args.json:
        approved = json.loads((args.work / VERDICT).read_text())["approved"]
        print_json({"seconds": seconds, "total_seconds": round(sum(seconds.values()), 2), "approved": approved})
    return 0


def _commands(args: argparse.Namespace) -> list[list[str]]:
    here = ["--bundle", str(args.bundle), "--work", str(args.work)]
    gates = [] if args.gates is None else ["--gates", str(args.gates)]
    judged = ["--examples", str(args.judged_by), *gates]
    release = ["--version", str(args.version), "--out", str(args.out)]
    return [
        ["collect", *here, "--examples", str(args.examples), "--method", "best"],
        ["sensitivity", *here, *judged],
        ["quantize", *here],
        ["verify", *here, *judged],
        ["bundle", "build", *here, *release],
    ]

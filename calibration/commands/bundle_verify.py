"""`uav-calibrate bundle verify`: hashes, signature, and whether it answers here as it did at its export."""

import argparse
import time
from pathlib import Path

from calibration.commands.bundle_trust import add_trust_arguments, signature_as_json, signature_text, trust_of
from models.command_line import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a .uavb folder, a .uavb.tar, or a store's current")
    add_trust_arguments(parser)
    parser.add_argument("--self-test", action="store_true", help="also load the graphs and run the golden examples")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Verify, and say how long it took."""
    from models.bundle import open_bundle

    trust = trust_of(args)
    started_s = time.perf_counter()
    bundle = open_bundle(args.bundle, trust)
    seconds = time.perf_counter() - started_s
    files = {**bundle.head, **bundle.contents}
    size = sum(map(len, files.values()))
    print(f"{bundle.manifest.title}: {len(files)} files, {size:_} bytes, verified in {seconds:.3f} s")
    print(signature_text(bundle))
    if args.self_test:
        from edge.backends.onnx import load_engines

        load_engines(bundle)
        print("self-test passed: it answers as it did at its export")
    if args.json:
        print_json(
            {
                "bundle": str(bundle.path),
                "title": bundle.manifest.title,
                "sha256": bundle.sha256,
                "files": len(files),
                "bytes": size,
                "seconds": round(seconds, 6),
                "signature": signature_as_json(bundle),
                "self_tested": args.self_test,
            }
        )
    return 0

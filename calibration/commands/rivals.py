"""`uav-calibrate rivals`: our INT8 graphs beside those of other tools, how exact and how fast."""

import argparse
from pathlib import Path

from models.command_line import print_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--bundle", type=Path, required=True, help="bundle with INT8 graphs for this machine")
    parser.add_argument("--examples", type=Path, required=True, help="examples.npz that the rival calibrates on")
    parser.add_argument("--judged-by", type=Path, required=True, help="examples.npz to compare the logits on")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Let all compete, branch by branch."""
    import msgspec

    from calibration.examples import read_examples
    from calibration.judging.rivals import compete
    from models.bundle import open_bundle

    bundle = open_bundle(args.bundle)
    contests = []
    for contest in compete(
        bundle, read_examples(args.examples, bundle.spec), read_examples(args.judged_by, bundle.spec)
    ):
        contests.append(contest)
        print(f"{contest.role}: one thread, one example; logits compared on {contest.examples} examples")
        for one in contest.contenders:
            exactness = "as FP32" if one.sqnr_db is None else f"{one.sqnr_db:.1f} dB"
            print(f"  {one.name}: {one.ms:.3f} ms, {one.speedup:.2f} x as fast as fp32, {exactness}")
    if args.json:
        print_json({"contests": msgspec.to_builtins(contests)})
    return 0

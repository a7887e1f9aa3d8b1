"""`uav-calibrate collect`: how large the numbers in a bundle's graphs get, and which ranges serve best."""

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibration.quantization.clipping import METHODS
from models.command_line import print_json

BEST = "best"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--bundle", type=Path, required=True, help="bundle whose FP32 graphs are run")
    parser.add_argument("--examples", type=Path, required=True, help="examples.npz that uav-train examples wrote")
    parser.add_argument("--work", type=Path, required=True, help="folder that ranges.npz is written into")
    parser.add_argument(
        "--method",
        choices=(*METHODS, BEST),
        default="mse",
        help="from histogram to range (default: mse); best: the one that serves the worst branch best",
    )
    parser.add_argument("--add", action="store_true", help="add to the ranges that the folder holds already")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Collect, compare the methods and write the ranges."""
    from calibration.bar import Bar
    from calibration.examples import read_examples
    from calibration.quantization.comparison import best_method, compare_methods
    from calibration.quantization.ranges import collect_ranges, merge_ranges, read_ranges, write_ranges
    from calibration.work import RANGES, note_step
    from models.bundle import open_bundle

    bundle = open_bundle(args.bundle)
    examples = read_examples(args.examples, bundle.spec)
    path = args.work / RANGES
    earlier = read_ranges(path) if args.add else None
    with Bar("collect") as bar:
        ranges = collect_ranges(bundle, examples, METHODS[0] if args.method == BEST else args.method, bar.show)
    ranges = merge_ranges(earlier, ranges) if earlier else ranges
    comparisons = list(compare_methods(bundle, examples, ranges))
    if args.method == BEST:
        ranges = replace(ranges, method=best_method(comparisons))
    write_ranges(path, ranges)
    note_step(args.work, args.typed, is_first=not args.add)
    for one in comparisons:
        figures = ", ".join(f"{method} {value:.1f}" for method, value in one.logits_db.items())
        print(f"{one.role} for {one.target}: SQNR of the logits over {one.examples} held-back examples, dB")
        print(f"  {figures}: best {one.best}")
    counts = ", ".join(f"{count} of {role}" for role, count in ranges.counts.items())
    print(f"{path}: ranges for {ranges.method} over {ranges.note}: {counts}")
    if args.json:
        print_json(
            {
                "ranges": str(path),
                "method": ranges.method,
                "examples": dict(ranges.counts),
                "comparisons": [_as_json(one) for one in comparisons],
            }
        )
    return 0


def _as_json(one: Any) -> dict[str, Any]:
    return {
        "role": one.role,
        "target": one.target,
        "held_back": one.examples,
        "best": one.best,
        "logits_sqnr_db": _finite(one.logits_db),
        "tensors_sqnr_db": {name: _finite(values) for name, values in one.tensors_db.items()},
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """Return dB as JSON has them: null stands for no error at all."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}

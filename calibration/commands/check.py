"""`uav-calibrate check`: do graphs keep to the rules of TensorRT?"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.command_line import print_json
from models.errors import BundleError

if TYPE_CHECKING:
    from onnx import ModelProto

    from calibration.rules import Violation


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="graphs (.onnx), <name>-<version>.uavb bundles, or work folders of uav-calibrate quantize",
    )
    parser.add_argument(
        "--parser", action="store_true", help="also ask NVIDIA's parser and builder about graphs without errors"
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Check and print; exit 1 when a graph breaks a rule of severity `error`."""
    from calibration.rules import check_graph
    from calibration.rules.files import read_graphs

    trt = _builder() if args.parser else None
    found: dict[str, list[Violation]] = {}
    skipped = []
    for graph in read_graphs(args.paths):
        if not graph.is_for_trt:
            skipped.append(graph.name)
            print(f"{graph.name}: skipped: made for a CPU")
            continue
        violations = check_graph(graph.model)
        if trt and not _count_errors(violations):  # some that break a rule take the builder's process down
            violations += _ask_nvidia(trt, graph.model)
        found[graph.name] = violations
        _print_violations(graph.name, violations)
    every = [violation for violations in found.values() for violation in violations]
    errors = _count_errors(every)
    counted = f"{len(found)} graphs checked, {len(skipped)} skipped, {errors} errors, {len(every) - errors} warnings"
    print(counted + (f", built by {trt.__name__} {trt.__version__}" if trt and not errors else ""))
    if args.json:
        print_json(_as_json(found, skipped, trt, errors))
    return 1 if errors else 0


def _count_errors(violations: "Sequence[Violation]") -> int:
    return sum(violation.severity == "error" for violation in violations)


def _builder() -> Any:
    from calibration.plans.engine import load_builder

    return load_builder()


def _ask_nvidia(trt: Any, model: "ModelProto") -> "list[Violation]":
    """Return what NVIDIA's parser, else its builder, has against a graph."""
    from calibration.plans.engine import build, parse
    from calibration.rules import Violation

    graph = model.SerializeToString()
    rule, problems = "nvidia-parser", parse(trt, graph)
    if not problems:
        try:
            build(trt, graph)
        except BundleError as error:
            rule, problems = "nvidia-builder", [str(error)]
    fix = "see the rules broken beside it; where there are none, report it with the graph"
    return [Violation(rule=rule, severity="error", node="graph", reason=text, fix=fix) for text in problems]


def _print_violations(name: str, violations: "Sequence[Violation]") -> None:
    """Print one line per violation, in columns."""
    print(f"{name}: {'keeps to every rule' if not violations else f'{len(violations)} violations'}")
    columns = [max((len(getattr(one, key)) for one in violations), default=0) for key in ("severity", "rule", "node")]
    for one in violations:
        cells = (text.ljust(width) for text, width in zip((one.severity, one.rule, one.node), columns, strict=True))
        print(f"  {'  '.join(cells)}  {one.reason}: {one.fix}")


def _as_json(found: "dict[str, list[Violation]]", skipped: list[str], trt: Any, errors: int) -> dict[str, Any]:
    return {
        "graphs": {name: [dataclasses.asdict(one) for one in violations] for name, violations in found.items()},
        "skipped": skipped,
        "errors": errors,
        "warnings": sum(len(violations) for violations in found.values()) - errors,
        "parser": None if trt is None else f"{trt.__name__} {trt.__version__}",
    }

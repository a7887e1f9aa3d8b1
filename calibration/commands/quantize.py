"""`uav-calibrate quantize`: the branches of a bundle in INT8, FP16 or a mixture, each for its target."""

import argparse
import json
from pathlib import Path
from typing import Any

from calibration.quantization.clipping import METHODS
from models.command_line import print_json
from models.errors import ConfigError, InputError
from models.manifest import TARGETS

PRECISIONS = ("int8", "fp16", "mixed")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--bundle", type=Path, required=True, help="bundle whose FP32 graphs are quantized")
    parser.add_argument("--work", type=Path, required=True, help="folder with ranges.npz, that graphs are written into")
    parser.add_argument("--method", choices=METHODS, help="from histogram to range (default: as collected)")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, help="what to write (default: int8, fp16; mixed where asked for)"
    )
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS), help="what for (default: all)")
    parser.add_argument(
        "--float-nodes",
        nargs="+",
        metavar="ROLE:NODE",
        default=[],
        help="what mixed leaves in float (default: as in sensitivity.json of the work folder)",
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Emit all graphs, then write them; a full run takes away what an earlier one left for the same targets."""
    from calibration.quantization.quantize import quantize_bundle
    from calibration.quantization.ranges import read_ranges
    from calibration.work import RANGES, note_step, remove_others
    from models.bundle import open_bundle
    from models.disk import write_whole

    bundle = open_bundle(args.bundle)
    ranges = read_ranges(args.work / RANGES)
    float_nodes = _float_nodes(args, bundle.spec.modality_names)
    method = args.method or ranges.method
    variants = _variants(args.precision, args.target, bool(set(float_nodes) & set(args.target)))
    graphs = list(quantize_bundle(bundle, ranges, variants, float_nodes, method))
    if not graphs:
        raise ConfigError("no branch has a layer to quantize: fly it in fp32")
    if args.precision is None:
        remove_others(args.work, args.target, {graph.entry.file for graph in graphs})
    note_step(args.work, args.typed)
    for graph in graphs:
        write_whole(args.work / graph.entry.file, graph.data)
        print(f"{args.work / graph.entry.file}: {len(graph.data):_} bytes, {len(graph.int8_nodes)} nodes in INT8")
    if args.json:
        print_json({"work": str(args.work), "method": method, "graphs": [_as_json(graph) for graph in graphs]})
    return 0


def _variants(precisions: list[str] | None, targets: list[str], has_float_nodes: bool) -> list[Any]:
    """Return what to emit: FP16 is for TensorRT alone, mixed for a bundle that says what stays float."""
    from calibration.quantization.quantize import Variant

    chosen = precisions or ["int8", *(["mixed"] if has_float_nodes else []), *(["fp16"] if "trt" in targets else [])]
    if "fp16" in chosen and "trt" not in targets:
        raise ConfigError(f"fp16 for {', '.join(targets)}: no CPU computes in FP16 here: add --target trt")
    if "mixed" in chosen and not has_float_nodes:
        raise ConfigError(
            "mixed: nothing says which nodes stay float: run uav-calibrate sensitivity first, or name --float-nodes"
        )
    return [
        Variant(precision=precision, target=target)  # type: ignore[arg-type]
        for precision in dict.fromkeys(chosen)
        for target in dict.fromkeys(targets)
        if precision != "fp16" or target == "trt"
    ]


def _float_nodes(args: argparse.Namespace, roles: tuple[str, ...]) -> dict[str, dict[str, list[str]]]:
    """Return by target and role what mixed leaves in float: from the command line, or from the sensitivity report."""
    from calibration.work import SENSITIVITY

    report = args.work / SENSITIVITY
    if args.float_nodes:
        named: dict[str, list[str]] = {}
        for text in args.float_nodes:
            role, _, node = text.partition(":")
            named.setdefault(role, []).append(node)
        where, found = "--float-nodes", dict.fromkeys(args.target, named)
    elif report.is_file():
        where = str(report)
        try:
            told = json.loads(report.read_text())["float_nodes"]
            found = {
                target: {role: [str(node) for node in nodes] for role, nodes in spared.items() if nodes}
                for target, spared in told.items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{where}: no report with float_nodes ({error!r}): run uav-calibrate sensitivity again"
            ) from error
    else:
        return {}
    strangers = sorted({role for spared in found.values() for role in spared} - set(roles))
    if strangers:
        raise ConfigError(
            f"{where}: no branch is called {strangers}: expected {', '.join(roles)}, as in {roles[0]}:NODE"
        )
    unknown = sorted(set(found) - set(TARGETS))
    if unknown:
        raise InputError(f"{where}: float nodes for {unknown}: expected {', '.join(TARGETS)}: run sensitivity again")
    return {target: spared for target, spared in found.items() if spared}


def _as_json(graph: Any) -> dict[str, Any]:
    return {
        "role": graph.entry.role,
        "precision": graph.entry.precision,
        "target": graph.entry.target,
        "batch": graph.entry.batch,
        "file": graph.entry.file,
        "size_bytes": len(graph.data),
        "int8_nodes": list(graph.int8_nodes),
        "float_nodes": list(graph.float_nodes),
    }

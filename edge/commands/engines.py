"""The choice of engines, for commands without a deployment file, which says it in `pipeline.backend` and `plans`."""

import argparse
from pathlib import Path

from models.errors import ConfigError


def add_engines(parser: argparse.ArgumentParser) -> None:
    """Add `--backend`, `--plans` and `--plan-options` to a command's arguments."""
    parser.add_argument(
        "--backend",
        choices=("auto", "onnxruntime", "tensorrt"),
        default="auto",
        help="whose engines fly (default auto: ONNX Runtime, and TensorRT when the plans are ready)",
    )
    parser.add_argument(
        "--plans", type=Path, metavar="DIR", help="TensorRT plans that uav-calibrate build --plans filled"
    )
    parser.add_argument(
        "--plan-options", type=Path, metavar="YAML", help="what uav-calibrate build --options was given, if anything"
    )


def check_engines(args: argparse.Namespace) -> None:
    """Raise ConfigError where the choice of engines contradicts itself, or the options cannot be read."""
    if args.backend == "tensorrt" and args.plans is None:
        raise ConfigError("--backend tensorrt: expected --plans, the folder that uav-calibrate build --plans filled")
    if args.backend == "onnxruntime" and args.plans is not None:
        raise ConfigError("--backend onnxruntime looks at no plans: leave out --plans")
    from edge.backends.plans import read_options

    if args.plan_options is not None and args.plans is None:
        raise ConfigError("--plan-options says what plans were built with: name the folder with --plans, too")
    read_options(args.plan_options)  # now: once plans are being loaded, what is wrong with it only keeps them away

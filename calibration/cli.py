"""`uav-calibrate`: from a checkpoint to what flies. Thin: each command is a module under `calibration/commands/`."""

import sys
from collections.abc import Sequence

from models.command_line import run_command_line

ABOUT = "Turn a trained checkpoint into a bundle that the onboard runtime verifies and flies."
COMMANDS: dict[str, tuple[str, str]] = {
    "export": ("calibration.commands.export", "checkpoint to bundle: ONNX graphs, parity with torch, golden examples"),
    "collect": (
        "calibration.commands.collect",
        "examples to ranges of all tensors, and which method serves best",
    ),
    "quantize": ("calibration.commands.quantize", "ranges to graphs: INT8 for CPU and TensorRT, FP16, mixed"),
    "sensitivity": ("calibration.commands.sensitivity", "which layers suffer from INT8, and which stay in float"),
    "verify": ("calibration.commands.verify", "every precision against FP32: gates, and what may fly on which target"),
    "rivals": ("calibration.commands.rivals", "INT8 graphs beside those of onnxruntime.quantization and OpenVINO"),
    "auto": ("calibration.commands.auto", "collect, sensitivity, quantize, verify and bundle build in one go"),
    "bundle": ("calibration.commands.bundle", "build, sign, inspect, install bundles, and roll back"),
    "build": (
        "calibration.commands.build",
        "plans for TensorRT on this device, kept in a cache, with a report a layer",
    ),
    "check": ("calibration.commands.check", "do graphs keep to the rules of TensorRT? Names node, reason and remedy"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    return run_command_line("uav-calibrate", ABOUT, COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())

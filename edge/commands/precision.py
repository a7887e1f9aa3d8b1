"""The choice of a precision, for commands without a deployment file, which says it in `pipeline.precision`."""

import argparse


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add `--precision` to a command's arguments."""
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "fp16", "mixed", "int8"),
        default="auto",
        help="of the graphs that fly (default auto: for each the fastest that the bundle approves for this machine)",
    )

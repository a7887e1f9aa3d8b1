"""`uav-edge selfcheck`: is this installation sound, and with `--device` the GPU, its plans and their times?"""

import argparse
import logging
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.operations.board import Board
    from edge.selfcheck.device import DeviceCheck
    from edge.selfcheck.line import Line
    from models.bundle import Bundle

FLIGHT_SECONDS = 10.0
NO_DEVICE = 4
"""Exit code of a DeviceError."""
_NO_BUNDLE = "name a sound one with --bundle, and check again"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--bundle", type=Path, metavar="DIR.uavb", help="model (default: the one shipped)")
    parser.add_argument(
        "--device", action="store_true", help="check the GPU too: answers, memory, CUDA graphs, latency, power"
    )
    parser.add_argument(
        "--plans", type=Path, metavar="DIR", help="TensorRT plans, kept there (default: built, and dropped at the end)"
    )
    parser.add_argument("--plan-options", type=Path, metavar="YAML", help="what plans are built with")
    parser.add_argument(
        "--no-build", action="store_true", help="take the plans that are there, and name what builds the others"
    )
    parser.add_argument(
        "--seconds", type=float, default=FLIGHT_SECONDS, help=f"of each flight, 0 for none (default {FLIGHT_SECONDS:g})"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write selfcheck.json and selfcheck.html (default with --device: selfcheck)",
    )
    parser.add_argument("--json", action="store_true", help="print the same as JSON on the last line")


def run(args: argparse.Namespace) -> int:
    """Check, print a line for each check, and write the report; 1 when a check failed, 4 without a device."""
    from edge.operations.board import read_board
    from edge.selfcheck.installation import check_bundle
    from edge.selfcheck.line import Line, worst
    from edge.selfcheck.report import document_of, write_report
    from models.bundle import shipped_bundle
    from models.command_line import print_json

    _check_arguments(args)
    board = read_board()
    bundle, bundle_lines = check_bundle(args.bundle or shipped_bundle())
    lines = [*_installation_lines(board), *bundle_lines]
    _print(lines)
    check, more = None, []
    if args.device and bundle is not None:
        check = _check_device(args, bundle)
        more = check.lines
    elif args.device:
        more = [Line(name="GPU", status="failed", expected="a bundle to ask it with", found="none", remedy=_NO_BUNDLE)]
    lines += more
    _print(more)
    document = document_of(lines, bundle, board, check)
    folder = args.out or (Path("selfcheck") if args.device else None)
    if folder is not None:
        data, page = write_report(folder, document)
        print(f"report: {data} and {page}: no host name and no serial number is in them")
    if args.json:
        print_json(document)
    if check is not None and check.gpu is None:
        return _end(NO_DEVICE)
    return _end(1 if worst(lines) == "failed" else 0)


def _end(exit_code: int) -> int:
    """Return the exit code; end at once beside a GPU that hangs, where Python aborts as it ends."""
    from edge.selfcheck.patience import is_hanging

    if is_hanging():
        sys.stdout.flush()
        logging.shutdown()
        os._exit(exit_code)
    return exit_code


def _check_arguments(args: argparse.Namespace) -> None:
    from edge.backends.plans import read_options
    from models.errors import ConfigError

    if not 0 <= args.seconds <= 3600:
        raise ConfigError(f"--seconds {args.seconds:g}: expected 0 to 3600")
    only = [name for name in ("plans", "plan_options", "no_build") if getattr(args, name)]
    if only and not args.device:
        raise ConfigError(f"--{only[0].replace('_', '-')} goes with --device: name that, too")
    read_options(args.plan_options)


def _installation_lines(board: "Board") -> "list[Line]":
    from edge.selfcheck import installation

    return [
        installation.check_python(),
        *installation.check_packages(),
        installation.check_opencv(board),
        *installation.check_accelerator(),
        installation.check_sockets(),
        installation.check_disk(Path.cwd()),
        *installation.check_clock(),
        *installation.check_board(board),
    ]


def _check_device(args: argparse.Namespace, bundle: "Bundle") -> "DeviceCheck":
    from edge.backends.planned import PlanChoice
    from edge.operations.progress import progress_bar
    from edge.selfcheck.device import Asked, check_device
    from edge.selfcheck.planning import build_with_calibrate

    with ExitStack() as stack:
        folder = args.plans or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="uav-edge-plans-")))
        choice = PlanChoice(bundle=bundle, precision="auto", folder=folder, options=args.plan_options)
        asked = Asked(choice=choice, seconds=args.seconds, build=None if args.no_build else build_with_calibrate)
        show = stack.enter_context(progress_bar("selfcheck", asked.steps))
        steps = iter(range(1, asked.steps + 1))
        return check_device(asked, lambda: show(next(steps, asked.steps)))


def _print(lines: "list[Line]") -> None:
    for line in lines:
        print(f"{line.status:<8} {line}")

"""What the three commands share: lazy subcommands, one line per error, documented exit codes, JSON at the end."""

import argparse
import contextlib
import importlib
import json
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from models.errors import DeviceError, OnboardError, RecordingError

EXIT_CODES = (
    "exit codes: 0 done, 1 a check failed, 2 command line or configuration, 3 bundle, 4 device, 5 link,"
    " 6 recording or output file, 7 data, 130 interrupted, 143 terminated"
)

EXTRAS = {
    "cryptography": "keys",
    "cv2": "camera",
    "matplotlib": "train",
    "onnx": "quantize",
    "onnxscript": "export",
    "pyarrow": "parquet",
    "ray": "cluster",
    "safetensors": "train",
    "scipy": "train",
    "serial": "serial",
    "tensorboard": "tensorboard",
    "torch": "train",
}
"""Packages that an installation may lack, with the extra that brings them."""


class _PresentStderr(logging.Handler):
    """Logs to whatever `sys.stderr` is now, so that lines go above a live view that has taken it over."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        print(self.format(record), file=sys.stderr, flush=True)


def add_group(
    parser: argparse.ArgumentParser, commands: dict[str, tuple[str, str]], *, is_required: bool = True
) -> None:
    """Give a command commands of its own, each a module as `run_command_line` takes it; `run_group` runs the chosen."""
    choices = parser.add_subparsers(metavar="COMMAND", required=is_required)
    for name, (path, text) in commands.items():
        subparser = choices.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
        module = importlib.import_module(path)
        module.configure(subparser)
        subparser.set_defaults(run_of_group=module.run)


def run_group(args: argparse.Namespace) -> int:
    """Run the command that was chosen from a group."""
    return int(args.run_of_group(args))


def run_command_line(
    program: str, about: str, commands: dict[str, tuple[str, str]], argv: Sequence[str] | None = None
) -> int:
    """Run one subcommand and return its exit code.

    Args:
        program: name shown in usage.
        about: one line on what the program does.
        commands: name -> (module, one line of help). The module offers `configure(parser)` and `run(args) -> int`, and
            is imported only when its command is the one chosen, which keeps `--help` fast.
        argv: arguments; the process's own by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(prog=program, description=about, epilog=EXIT_CODES)
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--debug", action="store_true", help="show tracebacks and debug logs")
    loudness.add_argument("--quiet", action="store_true", help="log warnings and errors only")
    choices = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    modules = {}
    for name, (module, text) in commands.items():
        subparser = choices.add_parser(name, help=text, description=text, epilog=EXIT_CODES)
        if name == chosen:
            modules[name] = importlib.import_module(module)
            modules[name].configure(subparser)
    args = parser.parse_args(arguments)
    args.typed = [program, *arguments]
    level = logging.DEBUG if args.debug else logging.WARNING if args.quiet else logging.INFO
    handler = _PresentStderr()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    try:
        with _unwinding_at_sigterm():
            return _run(modules[args.command], args)
    except OnboardError as error:
        if args.debug:
            raise
        for line in str(error).splitlines():
            print(f"{program}: {line}", file=sys.stderr)
        return error.exit_code
    except _Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe left, as `head` does: say nothing more, not even at exit
        _abandon_stdout()
        return 141
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return 141  # rich met the broken pipe first
    except OSError as error:
        _abandon_stdout()
        if args.debug:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"{program}: {where}{error.strerror or error}: name another path, or make room", file=sys.stderr)
        return RecordingError.exit_code


def _abandon_stdout() -> None:
    """Print what waits, or nothing more where that fails, so that Python does not try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def _unwinding_at_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that temporary folders and child processes go; a command may do better."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # as in tests: no signal comes here
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(module: Any, args: argparse.Namespace) -> int:
    """Run a command; a package that an extra would have brought is named with its remedy."""
    try:
        code = int(module.run(args))
        sys.stdout.flush()
        return code
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        extra = EXTRAS.get(package)
        if extra is None:
            raise
        raise DeviceError(f"{package} is not installed: pip install 'uav-fusion-edge[{extra}]'") from error


def positive_seconds(text: str) -> float:
    """Return a length of time from the command line; for `add_argument(type=...)`."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds above 0")
    return seconds


def check_writable(*paths: Path | None) -> None:
    """Find out before the work whether its outputs can be written; None stands for an output nobody asked for.

    Raises:
        OSError: a file cannot be opened for writing; `run_command_line` says so in a line.
    """
    for path in paths:
        if path is None:
            continue
        is_new = not path.exists()
        with path.open("ab"):
            pass
        if is_new:
            path.unlink()


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object as the last line, for programs that call ours."""
    sys.stdout.flush()
    print(json.dumps(value), flush=True)

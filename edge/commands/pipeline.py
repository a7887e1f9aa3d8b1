"""`uav-edge pipeline`: the pipeline alone; `uav-edge run` starts it as one of its processes."""

import argparse
import gc
import logging
import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from models.errors import DeviceError

if TYPE_CHECKING:
    from edge.config import FlightConfig
    from edge.pipeline.live import LivePipeline
    from models.bundle import Bundle

log = logging.getLogger(__name__)

POLL_S = 0.05


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("--config", type=Path, required=True, metavar="FLIGHT.yaml", help="the deployment")
    parser.add_argument(
        "--without-gpu", action="store_true", help="fly on ONNX Runtime alone: how `run` starts it again after a crash"
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help="how `run --fault` tells of its faults")


def run(args: argparse.Namespace) -> int:
    """Fly until SIGTERM or SIGINT; exit 1 when a thread fails, so that a supervisor can start afresh."""
    from edge.config import load_flight
    from edge.faults.orders import Orders
    from edge.operations.heat import HeatWatch
    from edge.operations.memory import keep_freed_memory
    from edge.operations.signals import stop_on_signals
    from edge.pipeline.live import LivePipeline
    from models.bundle import open_bundle
    from models.signature import read_trust

    stop = stop_on_signals()
    threading.excepthook = _end_process
    keep_freed_memory()
    config = load_flight(args.config)
    trust = read_trust([Path(key) for key in config.bundle_keys], is_required=bool(config.bundle_keys))
    bundle = open_bundle(Path(config.bundle), trust)
    if not args.without_gpu:
        _check_plan_options(config)
    parts = after_crash(config, bundle) if args.without_gpu else (config, bundle)
    pipeline = partial(LivePipeline, heat=HeatWatch())(*parts)
    if args.faults is not None:
        pipeline.injected = Orders(args.faults).injected
    start(pipeline)
    gc.collect()
    gc.freeze()  # what is loaded now stays until the end: the collector need not look through it in flight
    while not stop.is_set():  # not stop.wait(): a signal that comes while it takes its lock would hang it
        time.sleep(POLL_S)
    status = pipeline.stop()
    log.info("%d answers", status.results)
    end_without_gpu()
    return 0


def _check_plan_options(config: "FlightConfig") -> None:
    """Raise ConfigError where they cannot be read: in flight that would only keep TensorRT away, with a warning."""
    from edge.backends.plans import read_options

    read_options(Path(config.plan_options) if config.plan_options is not None else None)


def after_crash(config: "FlightConfig", bundle: "Bundle") -> tuple[Any, ...]:
    """Return what to make a pipeline of that leaves the GPU alone, and says why where the deployment wants it."""
    from msgspec.structs import replace

    if config.plans is None or config.pipeline.backend == "onnxruntime":
        return config, bundle
    return replace(config, pipeline=replace(config.pipeline, backend="auto")), bundle, None, _refuse


def start(pipeline: "LivePipeline") -> None:
    """Start a pipeline; where it insists on a GPU that hangs, end with the exit code and the reason that belong to it.

    Raises:
        OnboardError: as `LivePipeline.start`.
    """
    try:
        pipeline.start()
    except DeviceError as error:
        end_without_gpu(error.exit_code, str(error))
        raise


def end_without_gpu(exit_code: int = 0, reason: str = "") -> None:
    """End at once where a thread still hangs in NVIDIA's libraries: Python aborts as it ends beside such a one.

    Args:
        exit_code: to end with.
        reason: for people, where there is more to say.
    """
    from edge.backends.swap import LOADER
    from edge.backends.worker import THREAD

    if {thread.name for thread in threading.enumerate()} & {LOADER, THREAD}:
        log.warning("the GPU did not let go in time: the process ends without it%s", reason and f": {reason}")
        logging.shutdown()
        os._exit(exit_code)


def _refuse(_: threading.Event) -> NoReturn:
    raise DeviceError(
        "the pipeline's process crashed while TensorRT was to fly: it is left alone until the next flight; look at"
        " dmesg, and build the plans anew with uav-calibrate build"
    )


def _end_process(failure: threading.ExceptHookArgs) -> None:
    """A thread that died leaves the pipeline half alive: say why, and end at once."""
    name = failure.thread.name if failure.thread is not None else "a thread"
    log.critical("%s failed: %r", name, failure.exc_value, exc_info=failure.exc_value)
    os._exit(1)

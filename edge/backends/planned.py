"""The plans of a bundle that fit this machine: from the cache that `uav-calibrate build` fills to engines that run."""

import shlex
import threading
from dataclasses import dataclass
from pathlib import Path

from edge.backends.device import load_driver, platform_of, read_device
from edge.backends.plan_key import Platform, wanted_plans
from edge.backends.plans import PlanCache, read_options
from edge.backends.select import PrecisionChoice
from edge.backends.session import Plans, PlanSource
from edge.backends.swap import Opener
from edge.backends.trt import load_tensorrt
from edge.backends.worker import TrtWorker, open_tensorrt
from models.bundle import Bundle
from models.errors import NotBuiltError


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanChoice:
    """Which plans a flight wants."""

    bundle: Bundle
    precision: PrecisionChoice
    """auto takes what is approved for TensorRT."""
    folder: Path
    """The cache."""
    options: Path | None
    """The YAML that they were built with; the builder's defaults where there is none."""


def find_plans(choice: PlanChoice, platform: Platform) -> Plans:
    """Return the plan of every graph that flies, each verified.

    Raises:
        NotBuiltError: one is missing or does not fit; the message says which, and how to build it.
        BundleError: there is no graph for TensorRT in the precision that is chosen.
        ConfigError: the options cannot be read.
    """
    config = read_options(choice.options)
    cache = PlanCache(choice.folder, config.cache, _command(choice))
    plans, precisions, reasons = {}, {}, []
    for wanted in wanted_plans(choice.bundle, choice.precision, platform, config.builder):
        found = cache.look_up(wanted.key)
        if found.plan is None:
            reasons.append(f"{wanted.role}: {found.reason}")
        else:
            plans[wanted.role], precisions[wanted.role] = found.plan, wanted.precision
    if reasons:
        raise NotBuiltError("\n".join(reasons))
    return Plans(by_role=plans, precisions=precisions)


def plans_of_this_machine(choice: PlanChoice) -> Plans:
    """Return the plans for the TensorRT and the GPU that are here.

    Raises:
        OnboardError: as `find_plans`; there is no TensorRT, or no GPU.
    """
    return find_plans(choice, platform_of(load_tensorrt(), read_device(load_driver())))


def opener(source: PlanSource) -> Opener:
    """Return what loads the plans of a source into the GPU; it raises OnboardError where that cannot be."""

    def open_accelerator(cancel: threading.Event) -> TrtWorker:
        return open_tensorrt(source(), cancel)

    return open_accelerator


def _command(choice: PlanChoice) -> str:
    """Return what to type to build what is missing."""
    words = ["uav-calibrate", "build", "--bundle", str(choice.bundle.path), "--plans", str(choice.folder)]
    words += ["--options", str(choice.options)] if choice.options is not None else []
    words += ["--precision", choice.precision] if choice.precision != "auto" else []
    return shlex.join(words)

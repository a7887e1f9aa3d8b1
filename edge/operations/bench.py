"""Latency of the pipeline as it flies, in real processes over real sockets, beside the floor of this machine.

Open loop: messages are sent when they are due, whether or not the last one has been answered. A latency is what the
answer itself says: from the moment its message was sent to the moment it was made. Path and floor take turns in short
blocks, so that a machine that slows down slows both.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.backends.select import PrecisionChoice
from edge.operations.bench_machine import NoiseMeter, describe_machine
from edge.operations.bench_path import PathPlan, PathRun
from edge.operations.score import accounting_summary
from models.bundle import Bundle
from models.errors import ConfigError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec

RADIO_RATE_HZ = 100.0
CAMERA_RATE_HZ = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """How long each path is measured, and how fast the image path's camera is."""

    image_s: float
    iq_s: float
    both_s: float
    camera_rate_hz: float = CAMERA_RATE_HZ


QUICK = Times(image_s=11.2, iq_s=6.8, both_s=3.0, camera_rate_hz=60.0)
"""Just enough for a p99 of either sensor alone within 45 s; hence a camera of twice the usual rate."""


def full_times(seconds: float) -> Times:
    """Return the same time for every path, at the rate of a usual camera."""
    return Times(image_s=seconds, iq_s=seconds, both_s=seconds)


def plan_paths(bundle: Bundle, times: Times, precision: PrecisionChoice = "auto") -> tuple[PathPlan, ...]:
    """Return the paths of a model: its first image modality, its first I/Q modality, and both together.

    Raises:
        ConfigError: the model lacks one of the two.
    """
    image, iq = _first(bundle, ImageRecipe), _first(bundle, IqRecipe)
    radio, camera = (iq, RADIO_RATE_HZ), (image, CAMERA_RATE_HZ)
    return tuple(
        PathPlan(name=name, streams=streams, seconds=seconds, precision=precision)
        for name, streams, seconds in (
            ("image", ((image, times.camera_rate_hz),), times.image_s),
            ("iq", (radio,), times.iq_s),
            ("both", (camera, radio), times.both_s),
        )
    )


def run_bench(
    bundle: Bundle, plans: Sequence[PathPlan], watch: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Measure paths one after the other, and return figures as plain data.

    Args:
        bundle: the model.
        plans: what to measure.
        watch: told the number of blocks done, for a progress bar.
    Raises:
        LinkError: the pipeline or a source does not come up, or ends on its own.
        BundleError: a graph fails its self-test, or there is none of the precision.
    """
    noise = NoiseMeter()
    paths: dict[str, Any] = {}
    accounting: dict[str, Any] = {}
    precisions: dict[str, str] = {}
    done = 0
    for plan in plans:
        with tempfile.TemporaryDirectory(prefix="uav-edge-bench-") as folder:
            run = PathRun(bundle, plan, Path(folder), noise)
            for blocks in run.blocks():
                watch(done + blocks)
        done += plan.blocks
        paths[plan.name] = run.figures()
        accounting[plan.name] = accounting_summary(run.streams)
        precisions = run.precisions
    machine = {**describe_machine(), "other_cpu_percent": noise.other_percent}
    return {
        "model": bundle.manifest.title,
        "precisions": precisions,
        "paths": paths,
        "machine": machine,
        "accounting": accounting,
    }


def _first(bundle: Bundle, kind: type[ImageRecipe] | type[IqRecipe]) -> ModalitySpec:
    for modality in bundle.spec.modalities:
        if isinstance(modality.recipe, kind):
            return modality
    raise ConfigError(
        f"{bundle.path}: no modality with a recipe of kind {kind.__struct_config__.tag}: bench wants a model of radio"
        " and image"
    )

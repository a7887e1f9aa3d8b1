"""The engines that a benchmark's floor is computed with: the same that fly."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from edge.backends.onnx import load_engines
from edge.backends.planned import PlanChoice, opener, plans_of_this_machine
from edge.backends.session import Engines
from edge.bench.rig import Aircraft


@contextmanager
def open_engines(aircraft: Aircraft) -> Iterator[Engines]:
    """Load an aircraft's engines into this process, TensorRT's where it has plans, and release them at the end.

    Raises:
        BundleError: as `load_engines`.
        DeviceError: TensorRT, a GPU or a plan that fits them is not to be had.
    """
    if aircraft.plans is None:
        yield load_engines(aircraft.bundle, aircraft.precision)
        return
    accelerator = opener(partial(plans_of_this_machine, plan_choice(aircraft)))(threading.Event())
    try:
        yield accelerator.engines()
    finally:
        accelerator.close(2.0)


def plan_choice(aircraft: Aircraft) -> PlanChoice:
    """Return which plans an aircraft wants; only for one that has a folder of them."""
    if aircraft.plans is None:
        raise ValueError("an aircraft without plans")
    return PlanChoice(
        bundle=aircraft.bundle,
        precision=aircraft.precision,
        folder=aircraft.plans,
        options=aircraft.plan_options,
    )

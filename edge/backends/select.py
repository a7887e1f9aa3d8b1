"""Which of a bundle's graphs flies on this machine: the one place that picks."""

import platform
from collections.abc import Mapping
from typing import Literal

from models.bundle import FUSION, Bundle, Precision, Target
from models.errors import BundleError

PrecisionChoice = Literal["auto", "fp32", "fp16", "mixed", "int8"]
"""auto: for each role the fastest that passed its gates for this kind of machine; else that one where there is one."""

_TARGETS: dict[str, Target] = {"x86_64": "cpu-x86", "amd64": "cpu-x86", "aarch64": "cpu-arm", "arm64": "cpu-arm"}


def cpu_target(machine: str | None = None) -> Target:
    """Return the kind of machine that graphs are made for: `any` where none are made for it.

    Args:
        machine: as `platform.machine()` says it, by default of this machine.
    """
    return _TARGETS.get((machine or platform.machine()).lower(), "any")


def choose_graphs(bundle: Bundle, choice: PrecisionChoice, target: Target) -> dict[str, Precision]:
    """Return the precision of each role that flies: the modalities and the fusion head.

    Under `auto` what was not approved for the target flies in fp32, under a named precision what has no graph of it.

    Raises:
        BundleError: no role has a graph of the named precision for the target.
    """
    roles = (*bundle.spec.modality_names, FUSION)
    if choice == "auto":
        approved: Mapping[str, Precision] = bundle.manifest.approved.get(target, {})
        return {role: approved.get(role, "fp32") for role in roles}
    there = {
        graph.role for graph in bundle.manifest.graphs if graph.precision == choice and graph.target in (target, "any")
    }
    if not there & set(roles):
        kinds = sorted({f"{graph.precision} for {graph.target}" for graph in bundle.manifest.graphs})
        raise BundleError(
            f"{bundle.path}: no graph in {choice} for {target} (there is {', '.join(kinds)}): choose another precision"
            " or auto, or make it with uav-calibrate quantize"
        )
    return {role: choice if role in there else "fp32" for role in roles}


def precisions_text(precisions: Mapping[str, str]) -> str:
    """Return which precision each role flies in, in a line."""
    return ", ".join(f"{role} {precision}" for role, precision in precisions.items())

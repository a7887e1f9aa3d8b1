"""From a bundle, ranges and examples to a sensitivity report on disk: JSON to act upon, HTML to look at."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from calibration.examples import read_examples
from calibration.judging.gates import Gates
from calibration.judging.pictures import bars, curve
from calibration.judging.sensitivity import Findings, Question, Sensitivity, examine
from calibration.judging.stopwatch import time_beside
from calibration.quantization.ranges import check_judge, read_ranges
from calibration.work import RANGES, SENSITIVITY, SENSITIVITY_PAGE
from edge.backends.select import cpu_target
from models.bundle import Bundle, Target
from models.disk import write_whole
from models.page import Page
from models.schema import load_yaml


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the user asks for."""

    targets: tuple[Target, ...]
    """Whose integers."""
    budget: float
    gates: Path | None
    """YAML of `Gates`; the defaults without."""


def examine_work(
    bundle: Bundle, work: Path, examples: Path, wish: Wish, on_layer: Callable[[int, int], None]
) -> Findings:
    """Examine the layers of a bundle, and write what was found into the work folder.

    Args:
        bundle: with the FP32 graphs.
        work: with `ranges.npz`.
        examples: file of examples that nothing was calibrated on.
        wish: targets, budget and gates.
        on_layer: learns how many graphs of how many are behind.
    Raises:
        ConfigError: the gates cannot be, or there is nothing to quantize.
        InputError: ranges or examples do not fit.
        BundleError: a graph cannot be quantized or run.
        RecordingError: the report cannot be written.
    """
    ranges = read_ranges(work / RANGES)
    given = read_examples(examples, bundle.spec)
    check_judge(ranges, given)
    gates = load_yaml(wish.gates, Gates) if wish.gates is not None else Gates()
    found = []
    for n, target in enumerate(wish.targets):
        question = Question(
            bundle=bundle,
            ranges=ranges,
            examples=given,
            target=target,
            gates=gates,
            budget=wish.budget,
            stopwatch=time_beside if target == cpu_target() else None,
        )
        for done, total, finding in examine(question):
            on_layer(n * total + done, len(wish.targets) * total)
            if finding is not None:
                found.append(finding)
    findings = Findings(targets=tuple(found))
    write_whole(work / SENSITIVITY, msgspec.json.format(msgspec.json.encode(findings.as_json())))
    write_page(work / SENSITIVITY_PAGE, findings, gates)
    return findings


def write_page(path: Path, found: Findings, gates: Gates) -> None:
    """Write the report as one HTML page that opens offline; RecordingError where the disk is full."""
    page = Page(f"{found.targets[0].bundle}: which layers suffer from INT8")
    for one in found.targets:
        _target(page, one)
    page.text(f"Gate: SQNR of at least {gates.least_sqnr_db:g} dB, and the others of uav-calibrate verify.")
    page.write(path)


def _target(page: Page, found: Sensitivity) -> None:
    page.heading(f"{found.target}: one layer alone in INT8, SQNR of the fused logits")
    page.text(f"{found.examples} examples, ranges by {found.method}. {found.why[:1].upper()}{found.why[1:]}.")
    kept = {(role, node) for role, nodes in found.float_nodes.items() for node in nodes}
    names = {(one.role, one.node): f"{one.role}: {one.node}" for one in found.harms}
    page.svg(
        bars(
            [(names[one.role, one.node], one.fused_sqnr_db) for one in found.harms],
            "dB",
            marked=[names[key] for key in kept],
        )
    )
    page.text("The shorter the bar, the greater the harm; red stays float in the mixed graphs.")
    page.table(
        ("layer", "operator", "SQNR of its branch", "of the fused answer", "classes changed", "weight drift"),
        [
            (names[one.role, one.node], one.operator, _decibels(one.branch_sqnr_db), _decibels(one.fused_sqnr_db),
             f"{one.changed:.1%}", f"{one.weight_drift:.4f}")
            for one in found.harms
        ],
    )  # fmt: skip
    page.heading(f"{found.target}: the most harmful ones in float, one more at a time")
    timed = [
        (one.time, one.fused_sqnr_db, f"{n} in float") for n, one in enumerate(found.steps) if one.time is not None
    ]
    if len(timed) > 1:
        page.svg(curve(timed, "time, share of FP32's", "SQNR, dB"))
    page.table(
        ("in float", "SQNR", "time of FP32's", "gates failed", "why"),
        [
            (str(n), _decibels(one.fused_sqnr_db), "" if one.time is None else f"{one.time:.0%}", str(len(one.broken)),
             "; ".join(one.broken[:2]))
            for n, one in enumerate(found.steps)
        ],
        highlighted=str(found.chosen),
    )  # fmt: skip


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "exact"

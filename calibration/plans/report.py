"""The report of a plan: JSON for programs, one HTML page for people, a line a layer."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from onnx import ModelProto

from calibration.plans.engine import Built
from calibration.plans.layers import Layer, count_int8, from_inspector, from_network, intents
from edge.backends.plan_key import PlanKey
from models.disk import write_whole
from models.page import Page

FROM_ENGINE = "engine inspector"
FROM_NETWORK = "parsed network"
_NO_ENGINE = (
    "No GPU was at hand that could load the plan, so its kernels are not known: what stands here is what the graph asks"
    " for, as NVIDIA's parser understood it. Build on the device to see what runs."
)
_NO_INSPECTION = (
    "The plan was built, but its layers could not be inspected ({}): what stands here is what the graph asks for, as"
    " NVIDIA's parser understood it."
)
_NO_JSON = "The engine inspector's answer is no JSON: what stands here is what the graph asks for."
_NO_QDQ = " The graph has no Q/DQ, so that no layer of it is to be INT8."
_NO_DETAILS = "The plan was built without details: set builder.profiling_verbosity to detailed to see precisions."


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanReport:
    """What is to be said of a plan."""

    title: str
    key: PlanKey
    source: str
    """The engine inspector, or the parsed network."""
    note: str
    """What the source cannot tell; may be empty."""
    layers: tuple[Layer, ...]
    unnamed: tuple[str, ...]
    """Nodes that the graph quantizes and that no layer names."""
    inspection: Any
    """The inspector's JSON as it came; None without one."""

    def _count(self) -> tuple[int, int]:
        found, wanted = count_int8(self.layers)
        return found, wanted + len(self.unnamed)

    def summary(self) -> str:
        """Return how many layers are INT8, in a line."""
        found, wanted = self._count()
        verb = "are" if self.source == FROM_ENGINE else "are to be"
        return f"{found} of {wanted} quantized layers {verb} INT8 ({self.source})" if wanted else "nothing in INT8"

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        found, wanted = self._count()
        return {
            "title": self.title,
            "key": msgspec.to_builtins(self.key),
            "source": self.source,
            "note": self.note,
            "int8_layers": found,
            "int8_layers_wanted": wanted,
            "unnamed": list(self.unnamed),
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "inspector": self.inspection,
        }


def report_on(title: str, key: PlanKey, built: Built, model: ModelProto) -> PlanReport:
    """Return what is to be said of a plan that was just built of a graph."""
    wanted = intents(model)
    inspection = _parsed(built.inspection)
    if inspection is None:
        note = _NO_ENGINE if built.inspection is None else _NO_JSON
        note = _NO_INSPECTION.format(built.failure) if built.failure else note
        source, layers = FROM_NETWORK, from_network(built.network, wanted)
    else:
        source, layers = FROM_ENGINE, from_inspector(inspection, wanted)
        note = "" if any(layer.precision != "unknown" for layer in layers) else _NO_DETAILS
    named = {node for layer in layers for node in layer.nodes}
    unnamed = tuple(node for node, intent in wanted.items() if intent.is_int8 and node not in named)
    if not wanted:
        note += _NO_QDQ
    if unnamed:
        note += f" The graph quantizes {', '.join(unnamed)}; no layer names them: they were joined with others."
    return PlanReport(
        title=title,
        key=key,
        source=source,
        note=note.strip(),
        layers=tuple(layers),
        unnamed=unnamed,
        inspection=inspection,
    )


def _parsed(inspection: str | None) -> dict[str, Any] | None:
    """Return what the engine inspector says, None where that is nothing; names may hold control characters."""
    try:
        told = None if inspection is None else json.loads(inspection, strict=False)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def write_report(folder: Path, report: PlanReport) -> Path:
    """Write `<title>.json` and `<title>.html` and return the page's path; RecordingError where the disk is full."""
    write_whole(folder / f"{report.title}.json", json.dumps(report.as_json(), indent=1))
    page = Page(f"{report.title}: what became of each layer")
    key = report.key
    page.text(f"{report.summary()}. Built by {key.provider} {key.version} for {_device(key)}.")
    if report.note:
        page.text(report.note)
    page.heading("Layers")
    page.table(("layer", "kind", "precision", "kernel", "nodes of the graph", "why"), _lines(report.layers))
    page.heading("What the plan depends on")
    page.table((), [(name, str(value)) for name, value in msgspec.to_builtins(key).items()])
    page.write(folder / f"{report.title}.html")
    return folder / f"{report.title}.html"


def _lines(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    return [(one.name, one.kind, one.precision, one.tactic, ", ".join(one.nodes), one.why) for one in layers]


def _device(key: PlanKey) -> str:
    kind = f"compute capability {key.compute_capability}"
    return f"any GPU of {kind}" if not key.sm_count else f"{key.gpu} ({kind}, {key.sm_count} multiprocessors)"

"""Checkpoint -> bundle: a graph per branch and one for the fusion head, checked against torch before they may fly."""

import io
import logging
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from calibration.graphs import OPSET, join, serialize, with_batch, with_uint8_input
from edge.backends.iemf import IemfHead, iemf_fuse, stored_head
from edge.backends.onnx import ENGINE_ERRORS
from models.bundle import FUSION, GOLDEN, SCHEMA_VERSION, WHOLE, Batch, GraphEntry, Manifest, write_bundle
from models.errors import BundleError, InputError
from models.nets.checkpoint import Checkpoint
from models.nets.fusion import IemfFusion
from models.nets.multimodal import MultimodalNet
from models.preprocess import image_planes, image_scaling
from models.spec import ImageRecipe, ModelSpec

MAX_DIFFERENCE = 1e-4
"""Largest difference between torch and ONNX Runtime that a bundle may have: float32 rounding, never an error."""

_BATCH = {0: torch.export.Dim("batch")}
_FUSED = ["logits", "weights", "entropies"]

Arrays = dict[str, NDArray[Any]]
Graphs = dict[Batch, dict[str, bytes]]
"""By how many examples they take, and by role."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What an exported bundle is called, the command that exports it, and what its branches take."""

    name: str
    version: int
    command: str
    has_uint8_images: bool = False
    """Image branches take RGB planes as bytes, and normalise them in the graph."""


def export_bundle(checkpoint: Checkpoint, release: Release, folder: Path) -> tuple[Path, float]:
    """Write a checkpoint's bundle into `folder`; return its path and the largest difference from torch.

    Raises:
        InputError: the checkpoint has no golden examples.
        BundleError: a graph does not run in ONNX Runtime, or answers otherwise than torch.
    """
    network = checkpoint.network.eval()
    golden = golden_examples(network, checkpoint.golden, has_uint8_images=release.has_uint8_images)
    difference = _accepted("the NumPy reference", reference_difference(network.spec, golden))
    graphs = export_graphs(network, has_uint8_images=release.has_uint8_images)
    difference = max(difference, _accepted("ONNX Runtime", largest_difference(network.spec, graphs, golden)))
    entries = [
        (GraphEntry(role=role, precision="fp32", batch=batch, file=_file(role, batch)), graph)
        for batch, of_batch in graphs.items()
        for role, graph in of_batch.items()
    ]
    contents = {entry.file: graph for entry, graph in entries}
    contents[GOLDEN] = _pack(golden)
    return write_bundle(
        folder, _manifest(checkpoint, release, tuple(entry for entry, _ in entries)), contents
    ), difference


def _accepted(other: str, difference: float) -> float:
    """Return a difference from torch that is small enough; BundleError otherwise."""
    if not difference <= MAX_DIFFERENCE:
        raise BundleError(
            f"{other} differs from torch by {difference:.3g}, at most {MAX_DIFFERENCE} is accepted:"
            f" report torch {torch.__version__} and onnxruntime {onnxruntime.__version__}"
        )
    return difference


def export_graphs(network: MultimodalNet, *, has_uint8_images: bool = False) -> Graphs:
    """Return the graphs of branches, fusion head, and all of them in one, each for one example and for any number.

    Torch is asked once a graph, for any number: the rest is made from these.
    """
    branches = {}
    for modality in network.spec.modalities:
        branch, recipe = branch_graph(network, modality.name), modality.recipe
        if has_uint8_images and isinstance(recipe, ImageRecipe):
            branch = with_uint8_input(branch, recipe)
        branches[modality.name] = branch
    fusion = fusion_graph(network)
    models = {**branches, FUSION: fusion, WHOLE: join(branches, fusion)}
    return {
        "one": {role: serialize(with_batch(model, 1)) for role, model in models.items()},
        "any": {role: serialize(model) for role, model in models.items()},
    }


def branch_graph(network: MultimodalNet, name: str) -> ModelProto:
    """Return the graph of a branch: `input` -> `feature`, `logits`."""
    example = torch.zeros(2, *network.spec.modality(name).recipe.input_shape)
    with _quiet_exporter():
        program = torch.onnx.export(
            network.branch(name),
            (example,),
            input_names=["input"],
            output_names=["feature", "logits"],
            dynamic_shapes=(_BATCH,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    return _bare(program)


def fusion_graph(network: MultimodalNet) -> ModelProto:
    """Return the graph of the fusion head: features, logits and mask -> `logits`, `weights`, `entropies`."""
    spec = network.spec
    features = [torch.zeros(2, modality.feature_size) for modality in spec.modalities]
    logits = [torch.zeros(2, len(spec.classes)) for _ in spec.modalities]
    with _quiet_exporter():
        program = torch.onnx.export(
            network.fusion,
            (features, logits, torch.ones(2, len(spec.modalities))),
            input_names=[
                *(f"feature_{name}" for name in spec.modality_names),
                *(f"logits_{name}" for name in spec.modality_names),
                "mask",
            ],
            output_names=_FUSED,
            dynamic_shapes=([_BATCH] * len(features), [_BATCH] * len(logits), _BATCH),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    return _bare(program)


def golden_examples(network: MultimodalNet, inputs: Mapping[str, Tensor], *, has_uint8_images: bool = False) -> Arrays:
    """Return inputs, as the graphs take them, with torch's outputs, and the numbers of an entropy fusion head.

    The masks go through all present, each absent, and a degraded one.
    """
    absent = [name for name in network.spec.modality_names if name not in inputs]
    if absent or not len(next(iter(inputs.values()))):
        raise InputError(f"the checkpoint has no golden examples for {absent}: train again with this release")
    planes, normalised = _in_bytes(network.spec, inputs) if has_uint8_images else ({}, {})
    inputs = {**inputs, **normalised}
    count, modalities = len(next(iter(inputs.values()))), len(network.spec.modalities)
    cases = torch.cat([torch.ones(1, modalities), 1 - torch.eye(modalities), torch.full((1, modalities), 0.5)])
    mask = cases[torch.arange(count) % len(cases)]
    with torch.no_grad():
        answer = network(inputs, mask)
    golden = {"mask": mask, "logits": answer.logits, "weights": answer.weights, "entropies": answer.entropies}
    for name in network.spec.modality_names:
        golden[f"input_{name}"] = inputs[name]
        golden[f"feature_{name}"] = answer.features[name]
        golden[f"logits_{name}"] = answer.branch_logits[name]
    head = network.fusion
    numbers = iemf_head(head).as_arrays() if isinstance(head, IemfFusion) else {}
    taken = {f"input_{name}": array for name, array in planes.items()}
    return {**{name: value.numpy() for name, value in golden.items()}, **numbers, **taken}


def _in_bytes(spec: ModelSpec, inputs: Mapping[str, Tensor]) -> tuple[Arrays, dict[str, Tensor]]:
    """Return the image modalities' inputs as grey values, and what a graph that takes these makes of them."""
    planes, normalised = {}, {}
    for modality in spec.modalities:
        if isinstance(modality.recipe, ImageRecipe):
            planes[modality.name] = image_planes(inputs[modality.name].numpy(), modality.recipe)
            scale, offset = image_scaling(modality.recipe)
            normalised[modality.name] = torch.from_numpy(planes[modality.name] * scale + offset)
    return planes, normalised


def iemf_head(fusion: IemfFusion) -> IemfHead:
    """Return a head's numbers as the NumPy reference takes them."""
    return IemfHead(
        layers=tuple(
            (layer.weight.detach().numpy(), layer.bias.detach().numpy())
            for layer in fusion.head.modules()
            if isinstance(layer, torch.nn.Linear)
        ),
        beta=fusion.beta.detach().numpy(),
        temperatures=fusion.temperatures.numpy(),
        tau=fusion.tau,
        floor=fusion.floor,
    )


def reference_difference(spec: ModelSpec, golden: Arrays) -> float:
    """Return the largest difference of golden outputs from the NumPy reference; 0 for a fusion form that has none."""
    head = stored_head(golden, spec.fusion)
    worst = 0.0
    if head is None:
        return worst
    for n in range(len(golden["mask"])):
        features, logits = (
            [golden[f"{kind}_{name}"][n] for name in spec.modality_names] for kind in ("feature", "logits")
        )
        fused = iemf_fuse(features, np.stack(logits), golden["mask"][n], head)
        outputs = (golden[name][n] for name in ("logits", "weights", "entropies"))
        worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(fused, outputs, strict=True)))
    return worst


def largest_difference(spec: ModelSpec, graphs: Graphs, golden: Arrays) -> float:
    """Run golden examples through the graphs; return the largest difference from torch.

    Those for one example are asked one by one, those for any number about all at once and about each alone.

    Raises:
        BundleError: ONNX Runtime cannot load or run a graph.
    """
    count = len(golden["mask"])
    singly = [slice(n, n + 1) for n in range(count)]
    worst = 0.0
    try:
        for batch, of_batch in graphs.items():
            sessions = {role: onnxruntime.InferenceSession(graph, _options()) for role, graph in of_batch.items()}
            for rows in singly if batch == "one" else (slice(0, count), *singly):
                worst = max(worst, _difference_of_rows(spec, sessions, {k: v[rows] for k, v in golden.items()}))
    except ENGINE_ERRORS as error:
        raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot run an exported graph: {error}") from error
    return worst


def _difference_of_rows(spec: ModelSpec, sessions: Mapping[str, Any], golden: Arrays) -> float:
    found: dict[str, Any] = {}
    inputs = {f"input_{name}": golden[f"input_{name}"] for name in spec.modality_names}
    for name in spec.modality_names:
        feature, logits = sessions[name].run(["feature", "logits"], {"input": inputs[f"input_{name}"]})
        found |= {f"feature_{name}": feature, f"logits_{name}": logits}
    fused = sessions[FUSION].run(_FUSED, {"mask": golden["mask"], **found})
    whole = sessions[WHOLE].run(_FUSED, {"mask": golden["mask"], **inputs})
    pairs = [*found.items(), *zip(_FUSED, fused, strict=True), *zip(_FUSED, whole, strict=True)]
    differences = [np.abs(value - golden[name]).max() for name, value in pairs]
    return float(np.max(differences)) if np.isfinite(differences).all() else float("inf")


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _bare(program: Any) -> ModelProto:
    """Return a graph without the exporter's notes, which hold paths of this machine and differ from run to run."""
    model: ModelProto = program.model_proto
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        noted.doc_string = ""
        del noted.metadata_props[:]
    del graph.value_info[:]
    unfolded = [node.name for node in graph.node if node.op_type == "BatchNormalization"]
    if unfolded:
        raise BundleError(f"normalisation is not folded into {unfolded}: export with torch 2.6 or newer")
    return model


def _file(role: str, batch: Batch) -> str:
    return f"onnx/{role}.fp32.onnx" if batch == "one" else f"onnx/{role}.fp32-any-batch.onnx"


def _pack(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _manifest(checkpoint: Checkpoint, release: Release, graphs: tuple[GraphEntry, ...]) -> Manifest:
    header = checkpoint.header
    return Manifest(
        schema=SCHEMA_VERSION,
        name=release.name,
        version=release.version,
        licence=header.licence,
        description=header.description,
        reproduce=(*header.reproduce, release.command),
        spec=header.spec,
        temperature=header.temperature,
        graphs=graphs,
        metrics=header.metrics,
        tools={
            **header.tools,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's notes on its own passes and deprecations: the checks that follow judge its work."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)

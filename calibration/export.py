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
from torch import Tensor

from edge.backends.iemf import IemfHead, iemf_fuse, stored_head
from edge.backends.onnx import ENGINE_ERRORS
from models.bundle import FUSION, GOLDEN, SCHEMA_VERSION, FileEntry, GraphEntry, Manifest, write_bundle
from models.errors import BundleError, InputError
from models.nets.checkpoint import Checkpoint
from models.nets.fusion import IemfFusion
from models.nets.multimodal import MultimodalNet
from models.spec import ModelSpec

OPSET = 18  # every TensorRT 10 reads it, and torch writes it without conversion
MAX_DIFFERENCE = 1e-4
"""Largest difference between torch and ONNX Runtime that a bundle may have: float32 rounding, never an error."""

_BATCH = {0: torch.export.Dim("batch")}

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What an exported bundle is called, and the command that exports it."""

    name: str
    version: int
    command: str


def export_bundle(checkpoint: Checkpoint, release: Release, folder: Path) -> tuple[Path, float]:
    """Write a checkpoint's bundle into `folder`; return its path and the largest difference from torch.

    Raises:
        InputError: the checkpoint has no golden examples.
        BundleError: a graph does not run in ONNX Runtime, or answers otherwise than torch.
    """
    network = checkpoint.network.eval()
    golden = golden_examples(network, checkpoint.golden)
    graphs = {name: branch_graph(network, name) for name in network.spec.modality_names}
    graphs[FUSION] = fusion_graph(network)
    difference = 0.0
    for other, found in (
        ("ONNX Runtime", largest_difference(network.spec, graphs, golden)),
        ("the NumPy reference", reference_difference(network.spec, golden)),
    ):
        if not found <= MAX_DIFFERENCE:
            raise BundleError(
                f"{other} differs from torch by {found:.3g}, at most {MAX_DIFFERENCE} is accepted:"
                f" report torch {torch.__version__} and onnxruntime {onnxruntime.__version__}"
            )
        difference = max(difference, found)
    contents = {f"onnx/{role}.fp32.onnx": graph for role, graph in graphs.items()}
    contents[GOLDEN] = _pack(golden)
    return write_bundle(folder, _manifest(checkpoint, release, tuple(graphs)), contents), difference


def branch_graph(network: MultimodalNet, name: str) -> bytes:
    """Return the ONNX bytes of a branch: `input` -> `feature`, `logits`."""
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
    return _serialize(program)


def fusion_graph(network: MultimodalNet) -> bytes:
    """Return the ONNX bytes of the fusion head: features, logits and mask -> `logits`, `weights`, `entropies`."""
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
            output_names=["logits", "weights", "entropies"],
            dynamic_shapes=([_BATCH] * len(features), [_BATCH] * len(logits), _BATCH),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    return _serialize(program)


def golden_examples(network: MultimodalNet, inputs: Mapping[str, Tensor]) -> Arrays:
    """Return inputs with torch's outputs, and the numbers of an entropy fusion head.

    The masks go through all present, each absent, and a degraded one.
    """
    absent = [name for name in network.spec.modality_names if name not in inputs]
    if absent or not len(next(iter(inputs.values()))):
        raise InputError(f"the checkpoint has no golden examples for {absent}: train again with this release")
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
    return {**{name: value.numpy() for name, value in golden.items()}, **numbers}


def iemf_head(fusion: IemfFusion) -> IemfHead:
    """Return a head's numbers as the NumPy reference takes them."""
    return IemfHead(
        weight=fusion.head.weight.detach().numpy(),
        bias=fusion.head.bias.detach().numpy(),
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


def largest_difference(spec: ModelSpec, graphs: Mapping[str, bytes], golden: Arrays) -> float:
    """Run golden examples through the graphs as a batch and one by one; return the largest difference from torch.

    Raises:
        BundleError: ONNX Runtime cannot load or run a graph.
    """
    count = len(golden["mask"])
    worst = 0.0
    try:
        sessions = {role: onnxruntime.InferenceSession(graph, _options()) for role, graph in graphs.items()}
        for rows in (slice(0, count), *(slice(n, n + 1) for n in range(count))):
            worst = max(worst, _difference_of_rows(spec, sessions, {k: v[rows] for k, v in golden.items()}))
    except ENGINE_ERRORS as error:
        raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot run an exported graph: {error}") from error
    return worst


def _difference_of_rows(spec: ModelSpec, sessions: Mapping[str, Any], golden: Arrays) -> float:
    found: dict[str, Any] = {}
    for name in spec.modality_names:
        feature, logits = sessions[name].run(["feature", "logits"], {"input": golden[f"input_{name}"]})
        found |= {f"feature_{name}": feature, f"logits_{name}": logits}
    feeds = {"mask": golden["mask"], **found}
    outputs = ["logits", "weights", "entropies"]
    found |= dict(zip(outputs, sessions[FUSION].run(outputs, feeds), strict=True))
    differences = [np.abs(value - golden[name]).max() for name, value in found.items()]
    return float(np.max(differences)) if np.isfinite(differences).all() else float("inf")


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _serialize(program: Any) -> bytes:
    """Return a graph without the exporter's notes, which hold paths of this machine and differ from run to run."""
    model = program.model_proto
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        noted.doc_string = ""
        del noted.metadata_props[:]
    del graph.value_info[:]
    unfolded = [node.name for node in graph.node if node.op_type == "BatchNormalization"]
    if unfolded:
        raise BundleError(f"normalisation is not folded into {unfolded}: export with torch 2.6 or newer")
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _pack(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _manifest(checkpoint: Checkpoint, release: Release, roles: tuple[str, ...]) -> Manifest:
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
        graphs=tuple(GraphEntry(role=role, precision="fp32", file=f"onnx/{role}.fp32.onnx") for role in roles),
        metrics=header.metrics,
        tools={
            **header.tools,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        files={f"onnx/{role}.fp32.onnx": FileEntry(sha256="", size_bytes=0) for role in roles},
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

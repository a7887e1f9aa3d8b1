"""How large the numbers in a graph get: a histogram of each tensor that may be quantized, over the examples."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from calibration.arrays import pack_arrays, read_arrays
from calibration.clipping import METHODS, clip_range
from calibration.examples import Examples
from calibration.histogram import BINS, Histogram, histogram, merged
from calibration.operators import GraphView, tensors_to_calibrate, view
from calibration.session import Session, branch_feed
from models.bundle import Bundle
from models.disk import write_whole
from models.errors import InputError
from models.quantization import SCHEMES
from models.spec import Recipe

FORMAT = 1
_REMEDY = "run uav-calibrate collect again"
_STACK = 32  # examples that become a histogram at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranges:
    """One range table for every target and precision."""

    bundle: str
    """Name and version of the bundle whose FP32 graphs were run."""
    graphs: Mapping[str, str]
    """By role: SHA-256 of that graph."""
    note: str
    """Where the examples come from."""
    counts: Mapping[str, int]
    """By role: how many examples were run."""
    method: str
    """The way from histogram to range that is taken unless another is asked for."""
    histograms: Mapping[str, Mapping[str, Histogram]]
    """By role and tensor."""

    def of(self, role: str, target: str, method: str | None = None) -> dict[str, tuple[float, float]]:
        """Return the range of each tensor of a graph, as suits the integers of a target.

        Raises:
            InputError: nothing was collected for this role, or a tensor was not finite.
        """
        if role not in self.histograms:
            raise InputError(f"no ranges for {role} (there are {sorted(self.histograms)}): {_REMEDY}")
        scheme, chosen = SCHEMES[target], method or self.method
        return {tensor: clip_range(one, chosen, scheme) for tensor, one in self.histograms[role].items()}


def collect_ranges(bundle: Bundle, examples: Examples, method: str) -> Iterator[tuple[str, int, Ranges | None]]:
    """Run the examples that are not held back through the branches; yield (role, examples done, None), and the end.

    Each example is run alone, so that neither their order nor a batch size leaves a trace.

    Raises:
        BundleError: a graph cannot be run, or holds an operator that cannot be quantized.
        InputError: a tensor becomes NaN or infinite.
    """
    histograms, graphs, counts = {}, {}, {}
    for n, modality in enumerate(bundle.spec.modalities):
        data = bundle.graph(modality.name, batch="any")
        rows = examples.rows(n, is_held_back=False)
        inputs = examples.inputs[modality.name]
        found: dict[str, Histogram] = {}
        graph = view(data)
        session = observed(graph)
        for start in range(0, len(rows), _STACK):
            part = observe(graph, session, inputs[rows[start : start + _STACK]], modality.recipe)
            found = {name: merged(found[name], one) if name in found else one for name, one in part.items()}
            yield modality.name, min(start + _STACK, len(rows)), None
        _check_finite(modality.name, found)
        histograms[modality.name] = found
        graphs[modality.name] = hashlib.sha256(data).hexdigest()
        counts[modality.name] = len(rows)
    yield (
        "",
        0,
        Ranges(
            bundle=bundle.manifest.title,
            graphs=graphs,
            note=examples.note,
            counts=counts,
            method=method,
            histograms=histograms,
        ),
    )


def observed(graph: GraphView) -> Session:
    """Return a graph whose tensors to calibrate are outputs."""
    model = ModelProto()
    model.CopyFrom(graph.model)
    known = {value.name for value in (*model.graph.output, *model.graph.input)}
    for name in tensors_to_calibrate(graph):
        if name not in known:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return Session(model.SerializeToString(), is_exact=True)


def observe(graph: GraphView, session: Session, inputs: NDArray[np.float32], recipe: Recipe) -> dict[str, Histogram]:
    """Return a histogram of each tensor to calibrate over inputs (batch, *input_shape), run one by one."""
    names = tensors_to_calibrate(graph)
    taken: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for n in range(len(inputs)):
        feed = branch_feed(session, inputs[n : n + 1], recipe)
        found = {**feed, **session.run(feed)}
        for name in names:
            taken[name].append(found[name])
    return {name: histogram(np.stack(arrays)) for name, arrays in taken.items()}


def merge_ranges(one: Ranges, other: Ranges) -> Ranges:
    """Return the ranges over the examples of both.

    Raises:
        InputError: they are of different graphs.
    """
    if one.graphs != other.graphs:
        raise InputError(
            f"ranges of {one.bundle} and of {other.bundle} are of different FP32 graphs: collect both from one bundle"
        )
    histograms = {
        role: {name: merged(found, other.histograms[role][name]) for name, found in tensors.items()}
        for role, tensors in one.histograms.items()
    }
    note = "; ".join(dict.fromkeys((*one.note.split("; "), *other.note.split("; "))))
    counts = {role: count + other.counts[role] for role, count in one.counts.items()}
    return replace(other, histograms=histograms, note=note, counts=counts)


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write ranges whole."""
    keys = [(role, name) for role, tensors in ranges.histograms.items() for name in tensors]
    ordered = [ranges.histograms[role][name] for role, name in keys]
    about = {
        "format": FORMAT,
        "bundle": ranges.bundle,
        "graphs": dict(ranges.graphs),
        "note": ranges.note,
        "counts": dict(ranges.counts),
        "method": ranges.method,
        "tensors": keys,
    }
    arrays = {
        "about": np.array(json.dumps(about)),
        "counts": np.stack([one.counts for one in ordered]),
        "exponents": np.array([one.exponent for one in ordered], np.int64),
        "minima": np.array([one.minimum for one in ordered], np.float64),
        "maxima": np.array([one.maximum for one in ordered], np.float64),
        "zeros": np.array([one.zeros for one in ordered], np.int64),
        "not_finite": np.array([one.not_finite for one in ordered], np.int64),
    }
    write_whole(path, pack_arrays(arrays))


def read_ranges(path: Path) -> Ranges:
    """Return the ranges of a file.

    Raises:
        InputError: absent, damaged, or of another release.
    """
    arrays = read_arrays(path, _REMEDY)
    try:
        about = json.loads(str(arrays["about"]))
        if about["format"] != FORMAT:
            raise InputError(f"{path}: format {about['format']}, this release reads {FORMAT}: {_REMEDY}")
        histograms: dict[str, dict[str, Histogram]] = {}
        for n, (role, name) in enumerate(about["tensors"]):
            histograms.setdefault(role, {})[name] = _stored(arrays, n)
        if about["method"] not in METHODS:
            raise ValueError(f"method {about['method']!r}")
        return Ranges(
            histograms=histograms, **{key: about[key] for key in ("bundle", "graphs", "note", "counts", "method")}
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a file of ranges ({error!r}): {_REMEDY}") from error


def check_graph(ranges: Ranges, role: str, data: bytes) -> None:
    """Raise InputError unless the ranges are of this FP32 graph."""
    if ranges.graphs.get(role) != hashlib.sha256(data).hexdigest():
        raise InputError(f"the ranges are of {ranges.bundle}, whose graph of {role} is another: {_REMEDY}")


def _stored(arrays: Mapping[str, NDArray[Any]], n: int) -> Histogram:
    counts = arrays["counts"][n].astype(np.int64)
    if counts.shape != (2 * BINS,) or (counts < 0).any():
        raise ValueError(f"histogram of shape {counts.shape}")
    return Histogram(
        exponent=int(arrays["exponents"][n]),
        counts=counts,
        minimum=float(arrays["minima"][n]),
        maximum=float(arrays["maxima"][n]),
        zeros=int(arrays["zeros"][n]),
        not_finite=int(arrays["not_finite"][n]),
    )


def _check_finite(role: str, found: Mapping[str, Histogram]) -> None:
    broken = [name for name, one in found.items() if one.not_finite]
    if broken:
        raise InputError(
            f"{role}: {', '.join(broken[:5])} became NaN or infinite on finite examples: the network itself is broken:"
            " train again, and export another checkpoint"
        )

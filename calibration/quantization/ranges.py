"""How large the numbers in a graph get: a histogram of each tensor that may be quantized, over the examples."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from calibration.arrays import pack_arrays, read_arrays
from calibration.examples import Examples
from calibration.quantization.clipping import METHODS, clip_range
from calibration.quantization.histogram import BINS, Histogram, histogram, merged
from calibration.quantization.operators import GraphView, tensors_to_calibrate, tensors_with_maxima, view
from calibration.session import Session, branch_feed
from models.bundle import Bundle
from models.disk import write_whole
from models.errors import InputError
from models.quantization import SCHEMES
from models.spec import Recipe

FORMAT = 2
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
    examples: tuple[str, ...]
    """SHA-256 of each file of examples."""
    counts: Mapping[str, int]
    """By role: how many examples were run."""
    method: str
    """The way from histogram to range that is taken unless another is asked for."""
    histograms: Mapping[str, Mapping[str, Histogram]]
    """By role and tensor."""
    maxima: Mapping[str, tuple[str, ...]]
    """By role: tensors of which a maximum is taken, so that no method may clip what is largest in them."""

    def of(self, role: str, target: str, method: str | None = None) -> dict[str, tuple[float, float]]:
        """Return the range of each tensor of a graph, as suits the integers of a target.

        Raises:
            InputError: nothing was collected for this role, or a tensor was not finite.
        """
        if role not in self.histograms:
            raise InputError(f"no ranges for {role} (there are {sorted(self.histograms)}): {_REMEDY}")
        scheme, chosen = SCHEMES[target], method or self.method
        return {
            tensor: clip_range(one, "minmax" if tensor in self.maxima[role] else chosen, scheme)
            for tensor, one in self.histograms[role].items()
        }


def collect_ranges(
    bundle: Bundle, examples: Examples, method: str, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Ranges:
    """Run the examples that are not held back through the branches.

    Each example is run alone, so that neither their order nor a batch size leaves a trace.

    Args:
        bundle: whose FP32 graphs are run.
        examples: checked against its spec.
        method: from histogram to range, unless another is asked for later.
        on_progress: told how many examples of how many are done, all modalities together.
    Raises:
        BundleError: a graph cannot be run, or holds an operator that cannot be quantized.
        InputError: a tensor becomes NaN or infinite.
    """
    names = bundle.spec.modality_names
    data = {name: bundle.graph(name, batch="any") for name in names}
    views = {name: view(one) for name, one in data.items()}
    rows = {name: examples.rows(n, is_held_back=False) for n, name in enumerate(names)}
    total, done = sum(len(one) for one in rows.values()), 0
    histograms: dict[str, dict[str, Histogram]] = {name: {} for name in names}
    for name in names:
        session, found = observed(views[name]), histograms[name]
        for start in range(0, len(rows[name]), _STACK):
            inputs = examples.inputs[name][rows[name][start : start + _STACK]]
            for tensor, one in observe(views[name], session, inputs, bundle.spec.modality(name).recipe).items():
                found[tensor] = merged(found[tensor], one) if tensor in found else one
            done += len(inputs)
            on_progress(done, total)
        _check_finite(name, found)
    return Ranges(
        bundle=bundle.manifest.title,
        graphs={name: hashlib.sha256(one).hexdigest() for name, one in data.items()},
        note=examples.note,
        examples=(examples.sha256,) if examples.sha256 else (),
        counts={name: len(one) for name, one in rows.items()},
        method=method,
        histograms=histograms,
        maxima={name: tuple(tensors_with_maxima(one)) for name, one in views.items()},
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
        InputError: they are of different graphs, or of the same examples.
    """
    if set(one.examples) & set(other.examples):
        raise InputError("these examples are in the ranges already, and would count twice: add other ones")
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
    examples = (*one.examples, *other.examples)
    return replace(other, histograms=histograms, note=note, counts=counts, examples=examples)


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write ranges whole."""
    keys = [(role, name) for role, tensors in ranges.histograms.items() for name in tensors]
    ordered = [ranges.histograms[role][name] for role, name in keys]
    about = {
        "format": FORMAT,
        "bundle": ranges.bundle,
        "graphs": dict(ranges.graphs),
        "note": ranges.note,
        "examples": list(ranges.examples),
        "counts": dict(ranges.counts),
        "method": ranges.method,
        "maxima": {role: list(names) for role, names in ranges.maxima.items()},
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
            histograms=histograms,
            maxima={role: tuple(about["maxima"][role]) for role in histograms},
            examples=tuple(about["examples"]),
            **{key: about[key] for key in ("bundle", "graphs", "note", "counts", "method")},
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a file of ranges ({error!r}): {_REMEDY}") from error


def check_judge(ranges: Ranges, examples: Examples) -> None:
    """Raise InputError where examples that made the ranges are to judge them."""
    if examples.sha256 in ranges.examples:
        raise InputError(
            "these examples made the ranges, and would judge too kindly: judge by others, as those of validation"
        )


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

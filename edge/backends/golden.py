"""The self-test at every start: do the graphs that are about to fly answer as they did when they were made?

FP32 graphs repeat their golden answers to within rounding. Quantized ones do not, and not the same on every processor
either, so there is nothing to store that they would repeat: they are held to the FP32 answers by bounds that rounding
to 8 bits never comes near and another model's graph, or a damaged one, never keeps.
"""

import io
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from edge.backends.iemf import iemf_fuse, stored_head
from edge.backends.session import Engines, Session
from models.bundle import FUSION, GOLDEN, Bundle
from models.errors import BundleError

GOLDEN_TOLERANCE = 1e-3
"""Largest difference from the FP32 outputs stored at export; other CPUs round otherwise, never this much."""
LEAST_SQNR_DB = 15.0
"""Of an output of another precision against FP32, over all golden examples: errors below a sixth of the signal.

Measured on the branches of the shipped model: weights rounded to 8 bits leave 29 dB and more; weights a tenth too large
leave 9 dB and less, those of another training 1 dB and less.
"""
CLEAR_MARGIN = 1.0
"""Of the first class over the second, relative to the RMS of all logits: above it no rounding changes the first."""

FloatArray = NDArray[np.float32]

_BRANCH = ("feature", "logits")
_FUSED = ("logits", "weights", "entropies")


def check_golden(bundle: Bundle, engines: Engines) -> float:
    """Run the golden examples through the engines, and return the largest difference of FP32 from their stored outputs.

    Each graph is asked about stored inputs, so that an error shows where it arises; the head is asked again about what
    the branches said, if one of them is not FP32.

    Raises:
        BundleError: a graph's answers are out of bounds, or the examples do not fit the graphs.
    """
    try:
        golden = _stored(bundle)
        found = _all_answers(engines, golden)
        worst = 0.0
        for role, precision in engines.precisions.items():
            outputs = _FUSED if role == FUSION else _BRANCH
            keys = {name: name if role == FUSION else f"{name}_{role}" for name in outputs}
            pairs = {name: (found[f"{role}/{name}"], golden[key]) for name, key in keys.items()}
            if precision == "fp32":
                worst = max(worst, *(_difference(*pair) for pair in pairs.values()))
            else:
                _check_rounded(bundle, f"{role} in {precision}", pairs)
        if set(engines.precisions.values()) == {"fp32"}:
            worst = max(worst, *(_difference(found[f"chain/{name}"], golden[name]) for name in _FUSED))
        else:
            _check_rounded(bundle, "the fused answer", {"logits": (found["chain/logits"], golden["logits"])})
    except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:  # RuntimeError: a graph fails as it runs
        raise _misfit(bundle, error) from error
    if not worst <= GOLDEN_TOLERANCE:
        raise BundleError(
            f"{bundle.path}: answers differ from the golden examples by {worst:.3g}, at most {GOLDEN_TOLERANCE} is"
            " expected: export the bundle anew, or build its plans anew where they answered; if that does not help"
            " report the version of ONNX Runtime or TensorRT, and the processor"
        )
    return worst


def check_fusion(bundle: Bundle, engine: Session) -> float:
    """Run an entropy fusion under every kind of mask, and return the largest difference from its formulas in NumPy.

    The golden examples show what the graph did at export, under one mask each; this shows that it is what the manifest
    says, with whatever sensor gone. A bundle of another fusion form, or without the head's numbers, differs by 0.

    Raises:
        BundleError: the difference is above GOLDEN_TOLERANCE, or the numbers do not fit the graph.
    """
    worst = 0.0
    names = bundle.spec.modality_names
    try:
        golden = _stored(bundle)
        head = stored_head(golden, bundle.spec.fusion)
        if head is None:
            return worst
        for n in range(len(golden["mask"])):
            features, logits = ([golden[f"{output}_{name}"][n] for name in names] for output in _BRANCH)
            for name, feature, one in zip(names, features, logits, strict=True):
                engine.inputs[f"feature_{name}"][0], engine.inputs[f"logits_{name}"][0] = feature, one
            for mask in kinds_of_masks(len(names)):
                engine.inputs["mask"][0] = mask
                engine.run()
                expected = iemf_fuse(features, np.stack(logits), mask, head)
                pairs = zip(_FUSED, expected, strict=True)
                worst = max(worst, *(_difference(engine.outputs[name][0], value) for name, value in pairs))
    except (KeyError, ValueError, OSError, RuntimeError) as error:
        raise _misfit(bundle, error) from error
    if not worst <= GOLDEN_TOLERANCE:
        raise BundleError(
            f"{bundle.path}: the fusion graph differs by {worst:.3g} from the entropy fusion that the manifest names,"
            f" at most {GOLDEN_TOLERANCE} is expected: export the bundle anew"
        )
    return worst


def kinds_of_masks(modalities: int) -> FloatArray:
    """Return masks (kinds, modalities): all there, none, each alone, each gone, and all degraded."""
    alone = np.eye(modalities)
    degraded = np.arange(1, modalities + 1) / (modalities + 1)
    kinds = [np.ones(modalities), np.zeros(modalities), *alone, *(1 - alone), degraded]
    return np.array(kinds, np.float32)


def sqnr_db(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Return the power of what is expected over that of the error, in dB; minus infinity where one is not finite."""
    signal, error = np.asarray(expected, np.float64), np.asarray(found, np.float64) - expected
    if not np.isfinite(error).all():
        return float("-inf")
    noise, power = float(np.mean(error**2)), float(np.mean(signal**2))
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(power / noise)) if power else float("-inf")


def _all_answers(engines: Engines, golden: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return what every graph says about all golden examples, by `<role>/<output>`."""
    if not len(golden["mask"]):
        raise ValueError("no examples")
    rows: dict[str, list[FloatArray]] = {}
    for n in range(len(golden["mask"])):
        for name, value in _answers(engines, golden, n):
            rows.setdefault(name, []).append(value.copy())
    return {name: np.stack(values) for name, values in rows.items()}


def _answers(engines: Engines, golden: Mapping[str, FloatArray], n: int) -> Iterator[tuple[str, FloatArray]]:
    """Yield what each graph says about a golden example, by `<role>/<output>`; read it before the next."""
    fed: dict[str, FloatArray] = {}
    for name, engine in engines.branches.items():
        np.copyto(engine.inputs["input"][0], golden[f"input_{name}"][n], casting="no")
        engine.run()
        for output in _BRANCH:
            fed[f"{output}_{name}"] = engine.outputs[output][0]
            yield f"{name}/{output}", engine.outputs[output][0]
    for chain, source in (("chain", fed), (FUSION, {name: golden[name][n] for name in fed})):
        for name, value in source.items():
            engines.fusion.inputs[name][0] = value
        engines.fusion.inputs["mask"][0] = golden["mask"][n]
        engines.fusion.run()
        for output in _FUSED:
            yield f"{chain}/{output}", engines.fusion.outputs[output][0]


def _check_rounded(bundle: Bundle, what: str, pairs: Mapping[str, tuple[FloatArray, FloatArray]]) -> None:
    """Raise BundleError unless outputs of another precision are what FP32 said, but for rounding."""
    remedy = "make it again with uav-calibrate quantize, or fly with precision fp32"
    for name, (found, expected) in pairs.items():
        quality_db = sqnr_db(found, expected)
        if not quality_db >= LEAST_SQNR_DB:
            raise BundleError(
                f"{bundle.path}: {what}: {name} of the golden examples with {quality_db:.1f} dB of signal over error,"
                f" expected at least {LEAST_SQNR_DB:g}: {remedy}"
            )
    found, expected = pairs["logits"]
    second, first = np.sort(expected, axis=1)[:, -2:].T
    is_clear = first - second > CLEAR_MARGIN * np.sqrt(np.mean(np.square(expected)))
    changed = np.flatnonzero(is_clear & (found.argmax(axis=1) != expected.argmax(axis=1)))
    if len(changed):
        raise BundleError(f"{bundle.path}: {what}: golden examples {changed.tolist()} are of another class: {remedy}")


def _stored(bundle: Bundle) -> dict[str, FloatArray]:
    with np.load(io.BytesIO(bundle.contents[GOLDEN]), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _misfit(bundle: Bundle, error: Exception) -> BundleError:
    return BundleError(f"{bundle.path}: {GOLDEN} does not fit the graphs ({error}): export the bundle anew")


def _difference(found: FloatArray, expected: NDArray[np.floating]) -> float:
    """Return the largest absolute difference; infinite where either holds something that is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.max(np.abs(found - expected), initial=0.0))

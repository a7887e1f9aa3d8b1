"""The INT8 graphs beside what other tools make of the same model: how exact, and how fast, in one run.

Rivals are `onnxruntime.quantization` with its own defaults, calibrated on the same examples, and OpenVINO, where it is
installed, on our graph.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.examples import Examples
from calibration.judging.latency import Latency, measure, speedup
from calibration.quantization.clipping import sqnr_db
from calibration.session import Session, branch_feed
from edge.backends.select import cpu_target
from models.bundle import Bundle
from models.errors import ConfigError, InputError

FP32, OURS, DEFAULTS, OPENVINO = "fp32", "int8", "onnxruntime.quantization, defaults", "int8 in OpenVINO"
_ROUNDS, _CALLS = 60, 10
_HELD = 64

Call = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""One example's inputs, (1, *input_shape), to its logits."""


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One way to compute a branch."""

    name: str
    ms: float
    """Median of a call, one thread, batch 1."""
    speedup: float
    """Times as fast as FP32 in ONNX Runtime: the median over rounds of the ratio of CPU times."""
    sqnr_db: float | None
    """Of the logits against FP32's; None where nothing differs."""


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """One branch by everybody."""

    role: str
    examples: int
    contenders: tuple[Contender, ...]


def compete(bundle: Bundle, examples: Examples, judged_by: Examples) -> Iterator[Contest]:
    """Yield a contest for every branch that has an INT8 graph for this machine.

    Args:
        bundle: with those graphs.
        examples: that the rival calibrates on, as ours did.
        judged_by: other ones, that the logits are compared on.
    Raises:
        ConfigError: the bundle has no INT8 graph for this machine.
        InputError: the rival cannot quantize the branch.
        BundleError: a graph cannot be run.
    """
    target = cpu_target()
    with_int8 = {one.role for one in bundle.manifest.graphs if (one.precision, one.target) == ("int8", target)}
    if not with_int8:
        raise ConfigError(f"{bundle.path}: no INT8 graph for {target}: make one with uav-calibrate quantize")
    for place, modality in enumerate(bundle.spec.modalities):
        if modality.name not in with_int8:
            continue
        fp32, ours = bundle.graph(modality.name), bundle.graph(modality.name, "int8", target)
        rows = examples.rows(place, is_held_back=False)
        calls: dict[str, Call] = {FP32: _in_onnxruntime(fp32), OURS: _in_onnxruntime(ours)}
        calls[DEFAULTS] = _in_onnxruntime(quantized_by_defaults(fp32, examples.inputs[modality.name][rows]))
        if (in_openvino := _in_openvino(ours)) is not None:
            calls[OPENVINO] = in_openvino
        given = [
            branch_feed(Session(fp32), judged_by.inputs[modality.name][row : row + 1], modality.recipe)["input"]
            for row in judged_by.rows(place, is_held_back=True)[:_HELD]
        ]
        yield _contest(modality.name, calls, given)


def quantized_by_defaults(fp32: bytes, inputs: NDArray[np.float32]) -> bytes:
    """Return a graph as `onnxruntime.quantization.quantize_static` makes it where nobody tells it anything.

    Raises:
        InputError: it cannot.
    """
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Rows(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(inputs)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            row = next(self._left, None)
            return None if row is None else {"input": row[None]}

    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(fp32)
        logging.disable(logging.WARNING)  # it advises everybody to prepare the graph with another of its tools
        try:
            quantize_static(str(source), str(made), Rows())
        except (ValueError, RuntimeError, KeyError) as error:
            raise InputError(f"onnxruntime.quantization cannot quantize the branch: {error}") from error
        finally:
            logging.disable(logging.NOTSET)
        return made.read_bytes()


def _contest(role: str, calls: dict[str, Call], given: list[NDArray[np.float32]]) -> Contest:
    logits = {name: np.concatenate([call(one) for one in given]) for name, call in calls.items()}
    taken = measure({name: _turn(call, given[0]) for name, call in calls.items()}, _ROUNDS, _CALLS)
    return Contest(
        role=role,
        examples=len(given),
        contenders=tuple(_contender(name, taken, logits) for name in calls),
    )


def _contender(name: str, taken: dict[str, Latency], logits: dict[str, NDArray[np.float32]]) -> Contender:
    exactness = sqnr_db(logits[FP32], logits[name])
    return Contender(
        name=name,
        ms=taken[name].median_cpu_ms,
        speedup=speedup(taken[FP32], taken[name]),
        sqnr_db=exactness if np.isfinite(exactness) else None,
    )


def _turn(call: Call, one: NDArray[np.float32]) -> Callable[[], object]:
    return lambda: call(one)


def _in_onnxruntime(graph: bytes) -> Call:
    session = Session(graph)
    return lambda inputs: session.run({"input": inputs}, ["logits"])["logits"]


def _in_openvino(graph: bytes) -> Call | None:
    """Return a graph compiled by OpenVINO for one thread; None where it is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    core: Any = openvino.Core()
    one_thread = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(core.read_model(graph), "CPU", one_thread | {"INFERENCE_PRECISION_HINT": "f32"})
    request, output = compiled.create_infer_request(), compiled.output("logits")

    def call(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(request.infer({"input": inputs}, share_inputs=True, share_outputs=True)[output], np.float32)

    return call

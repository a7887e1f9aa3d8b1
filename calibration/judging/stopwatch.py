"""How long a graph takes for one example on this machine, beside FP32's graph in the same run."""

import statistics

import numpy as np
import onnx
from onnx import helper

from calibration.judging.latency import measure, speedup
from calibration.session import Arrays, Session

_ROUNDS = 31
_TURN_MS = 8.0
"""Of one turn, about: long beside the clock's steps, short beside what else the machine does."""


def time_beside(graph: bytes, fp32: bytes) -> tuple[float, float]:
    """Return the milliseconds of a graph and of FP32's, one thread, medians of turns taken one after the other.

    Raises:
        BundleError: ONNX Runtime cannot run one of them.
    """
    calls = {}
    for name, data in (("graph", graph), ("fp32", fp32)):
        session, feed = Session(data), _noise(data)
        calls[name] = lambda session=session, feed=feed: session.run(feed)
    first = measure(calls, rounds=3, calls_a_round=3)
    turn = max(1, round(_TURN_MS / max(one.median_wall_ms for one in first.values())))
    taken = measure(calls, rounds=_ROUNDS, calls_a_round=turn)
    fp32_ms = statistics.median(taken["fp32"].cpu_ms)
    return fp32_ms / speedup(taken["fp32"], taken["graph"]), fp32_ms


def _noise(graph: bytes) -> Arrays:
    """Return an example of noise for every input of a graph."""
    rng = np.random.default_rng(0)
    feed = {}
    for value in onnx.load_from_string(graph).graph.input:
        tensor = value.type.tensor_type
        shape = [one.dim_value or 1 for one in tensor.shape.dim]
        noise = rng.normal(0, 1, shape)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feed[value.name] = (rng.integers(0, 256, shape) if dtype == np.uint8 else noise).astype(dtype)
    return feed

"""How ONNX Runtime computes in flight: in the caller's thread, and in buffers that stay where they are."""

import numpy as np
import pytest

from edge.backends.onnx import load_engines
from edge.backends.session import Engines
from models.bundle import open_bundle, shipped_bundle


@pytest.fixture(scope="module")
def engines() -> Engines:
    return load_engines(open_bundle(shipped_bundle()))


def test_every_graph_has_one_thread_that_never_spins(engines: Engines) -> None:
    for session in (*engines.branches.values(), engines.fusion):
        options = session._session.get_session_options()
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_inputs_and_outputs_are_the_same_memory_at_every_inference(engines: Engines) -> None:
    rng = np.random.default_rng(0)
    for session in engines.branches.values():
        inputs, outputs = session.inputs["input"], session.outputs["logits"]
        answers = []
        for scale in (1.0, 3.0):
            inputs[:] = scale * rng.standard_normal(inputs.shape, np.float32)
            assert session.run()
            answers.append(outputs.copy())
        assert not np.array_equal(*answers)
        assert session.inputs["input"] is inputs
        assert session.outputs["logits"] is outputs

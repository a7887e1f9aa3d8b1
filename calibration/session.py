"""ONNX Runtime as calibration uses it: a graph of any precision, one thread, errors that say what to do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge.backends.onnx import ENGINE_ERRORS
from models.errors import BundleError
from models.preprocess import image_planes
from models.spec import ImageRecipe, Recipe

Arrays = dict[str, NDArray[Any]]


class Session:
    """A loaded graph; `run` is all it can do."""

    def __init__(
        self,
        graph: bytes,
        is_exact: bool = False,
        settings: Mapping[str, str] | None = None,
        save_optimized: Path | None = None,
    ) -> None:
        """Load a graph.

        Args:
            graph: ONNX bytes.
            is_exact: compute node by node as the standard says, without fusing any.
            settings: further entries of the session's configuration.
            save_optimized: where to write what ONNX Runtime makes of it.
        Raises:
            BundleError: ONNX Runtime cannot load it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        for name, value in {"session.intra_op.allow_spinning": "0", **(settings or {})}.items():
            options.add_session_config_entry(name, value)
        if save_optimized:
            options.optimized_model_filepath = str(save_optimized)
        if is_exact:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except ENGINE_ERRORS as error:
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load a graph: {error}") from error
        self.inputs: dict[str, str] = {node.name: node.type for node in self._session.get_inputs()}
        self.outputs: list[str] = [node.name for node in self._session.get_outputs()]

    def shape(self, name: str) -> list[int | str | None]:
        """Return the shape of an input; text or None where it is open."""
        return next(list(node.shape) for node in self._session.get_inputs() if node.name == name)

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> Arrays:
        """Return the outputs by name.

        Raises:
            BundleError: ONNX Runtime fails, as where a shape does not fit.
        """
        names = list(outputs or self.outputs)
        try:
            found: list[Any] = self._session.run(names, dict(feeds))
        except ENGINE_ERRORS as error:
            raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot run a graph: {error}") from error
        return dict(zip(names, found, strict=True))


def branch_feed(session: Session, inputs: NDArray[Any], recipe: Recipe) -> Arrays:
    """Return preprocessed inputs (batch, *input_shape) as a branch's graph takes them: float32, or grey values."""
    takes_bytes = session.inputs["input"] == "tensor(uint8)"
    if takes_bytes and inputs.dtype != np.uint8 and isinstance(recipe, ImageRecipe):
        return {"input": image_planes(inputs, recipe)}
    return {"input": inputs}

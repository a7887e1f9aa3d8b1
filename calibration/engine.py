"""NVIDIA's own parser and builder: what they say of a graph, and the plan they make of it.

Two packages offer the same interface: `tensorrt`, which JetPack brings and which needs a GPU, and `tensorrt_rtx`, which
parses and builds on any machine. Either is handed in as `trt`. Networks are strongly typed: precision is in the graph.
"""

import functools
import logging
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from models.errors import BundleError, DeviceError

log = logging.getLogger(__name__)

LARGEST_BATCH = 8
"""Of graphs for any batch: what plans are made for; they are best at one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """A network and what it must not outlive: its weights are the parser's."""

    builder: Any
    network: Any
    parser: Any
    problems: list[str]


def load_builder() -> ModuleType:
    """Return `tensorrt` where it is installed, else `tensorrt_rtx`.

    Raises:
        DeviceError: neither is to be had.
    """
    try:
        import tensorrt

        return tensorrt  # type: ignore[no-any-return]
    except (ImportError, OSError) as error:  # OSError: a library it needs is absent
        first = error
    try:
        import tensorrt_rtx

        return tensorrt_rtx  # type: ignore[no-any-return]
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"neither tensorrt ({first}) nor tensorrt_rtx ({error}) can be imported: on a Jetson install tensorrt from"
            " JetPack, elsewhere pip install 'uav-fusion-edge[trt-check]'"
        ) from error


def parse(trt: Any, graph: bytes) -> list[str]:
    """Return what NVIDIA's parser has against an ONNX graph, a line per problem; nothing when it reads it."""
    return _read(trt, graph).problems


def build(trt: Any, graph: bytes) -> bytes:
    """Return the plan of an ONNX graph, as serialized; its precision is what the graph says.

    Raises:
        BundleError: the parser or the builder refuses the graph.
        DeviceError: there is no builder, as where tensorrt finds no GPU.
    """
    reading = _read(trt, graph)
    builder, network = reading.builder, reading.network
    if reading.problems:
        raise BundleError(f"{trt.__name__} {trt.__version__} cannot read the graph: {'; '.join(reading.problems)}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        one, most = ([size if size > 0 else batch for size in tensor.shape] for batch in (1, LARGEST_BATCH))
        profile.set_shape(tensor.name, one, one, most)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BundleError(f"{trt.__name__} {trt.__version__} builds no plan: {_complaints(trt)}")
    return bytes(plan)


def _read(trt: Any, graph: bytes) -> _Reading:
    """Return the network that the parser makes of a graph, with what it has against it."""
    logger = _logger(trt)
    logger.lines.clear()
    try:
        builder = trt.Builder(logger)
    except (RuntimeError, TypeError) as error:
        complaints = _complaints(trt) or "is there a GPU?"
        raise DeviceError(f"{trt.__name__} offers no builder ({error}): {complaints}") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    problems = []
    if not parser.parse(graph):
        problems = [_problem(parser.get_error(n)) for n in range(parser.num_errors)]
        problems = problems or [_complaints(trt) or "the parser failed and did not say why"]
    return _Reading(builder=builder, network=network, parser=parser, problems=problems)


def _problem(error: Any) -> str:
    """Return a parser's error as one line that names the node, where the parser does."""
    node, operator = error.node_name(), error.node_operator()
    where = " ".join(part for part in (operator, node) if part)
    return " ".join(f"{where + ': ' if where else ''}{error.desc()}".split())


def _complaints(trt: Any) -> str:
    """Return the errors that were logged since the last graph, in one line."""
    return "; ".join(_logger(trt).lines)


@functools.cache
def _logger(trt: Any) -> Any:
    """Return a module's one logger: TensorRT keeps the first that a process makes, whatever others it is handed."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps errors for the message of an exception, and passes all on to Python's logging."""

        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Take one line."""
            text = " ".join(message.split())
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.lines.append(text)
            log.debug("%s: %s", trt.__name__, text)

    return Logger()

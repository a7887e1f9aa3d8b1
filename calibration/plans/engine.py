"""NVIDIA's own parser and builder: what they say of a graph, and the plan they make of it.

Two packages offer the same interface: `tensorrt`, which JetPack brings and which needs a GPU, and `tensorrt_rtx`, which
parses and builds on any machine. Either is handed in as `trt`. Networks are strongly typed: precision is in the graph.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from calibration.plans.progress import Progress
from edge.backends.cuda import UNFORESEEN
from edge.backends.plan_key import BuilderOptions, Profile
from edge.backends.trt_log import logger_of
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """How a plan is to be built."""

    options: BuilderOptions
    profile: Profile
    progress: Progress
    compute_capability: str | None = None
    """The kind of GPU to build for, such as 8.6; the one at hand where none is named."""
    timing_cache: bytes | None = None
    """What earlier builds timed, empty at first; None where nothing is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkLayer:
    """A layer of a parsed network, in plain values."""

    name: str
    kind: str
    """As `LayerType` calls it, such as CONVOLUTION."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: str
    """Of its first output, such as HALF."""
    metadata: str
    """Which nodes of the graph it is made of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A plan, and what is to be said of it."""

    plan: bytes
    timing_cache: bytes | None
    """What was timed so far; None where nothing is kept."""
    inspection: str | None
    """JSON of the engine inspector; None where the plan could not be loaded, as where no GPU is at hand."""
    failure: str
    """What was raised when the plan was to be inspected; empty where nothing was."""
    network: tuple[NetworkLayer, ...]
    """What the parser made of the graph, before layers were joined."""


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
    config.add_optimization_profile(_profile(builder, _any_batch(network)))
    return _finish(trt, builder, network, config)


def build_plan(trt: Any, graph: bytes, order: Order) -> Built:
    """Return the plan of an ONNX graph as it was ordered; its precision is what the graph says.

    Raises:
        BundleError: the parser or the builder refuses the graph, it has other inputs than the profile, or the build
            was cancelled.
        DeviceError: there is no builder, not enough memory, or none for the GPU that is named.
    """
    reading = _read(trt, graph)
    builder, network = reading.builder, reading.network
    if reading.problems:
        raise BundleError(f"{trt.__name__} {trt.__version__} cannot read the graph: {'; '.join(reading.problems)}")
    inputs = {tensor.name for tensor in map(network.get_input, range(network.num_inputs))}
    if inputs != set(order.profile):
        raise BundleError(
            f"graph with inputs {sorted(inputs)}: expected {sorted(order.profile)}: export the bundle anew"
        )
    layers = tuple(_layers(network))
    config = builder.create_builder_config()
    _set_options(trt, config, order.options)
    if order.compute_capability is not None:
        _aim(trt, config, order.compute_capability)
    if order.timing_cache is not None:
        _set_timing_cache(config, order.timing_cache)
    config.add_optimization_profile(_profile(builder, order.profile))
    config.progress_monitor = monitor = _monitor(trt, order.progress)
    plan = _finish(trt, builder, network, config)
    del monitor  # not earlier: it must outlive the build
    timed = _timed(config) if order.timing_cache is not None else None
    inspection, failure = _inspect(trt, plan)
    return Built(plan=plan, timing_cache=timed, inspection=inspection, failure=failure, network=layers)


def merge_timing_caches(trt: Any, ours: bytes, theirs: bytes) -> bytes:
    """Return what two builds on this GPU timed; what is of another version or GPU is left out."""
    builder = _builder(trt)
    config = builder.create_builder_config()
    cache, other = config.create_timing_cache(ours), config.create_timing_cache(theirs)
    if not cache.combine(other, False):
        log.warning("%s: timing cache of another GPU or version: it is not kept", trt.__name__)
    return _as_bytes(cache)


def _finish(trt: Any, builder: Any, network: Any, config: Any) -> bytes:
    plan = builder.build_serialized_network(network, config)
    if plan is not None:
        return bytes(plan)
    complaints = _complaints(trt)
    if "out of memory" in complaints.lower() or "outofmemory" in complaints.lower():
        raise DeviceError(
            f"{trt.__name__} {trt.__version__}: not enough GPU memory ({complaints}): close what else uses the GPU, or"
            " set builder.workspace_mib lower in the YAML of --options"
        )
    raise BundleError(f"{trt.__name__} {trt.__version__} builds no plan: {complaints}")


def _any_batch(network: Any) -> Profile:
    """Return shapes from one example to `LARGEST_BATCH`, best at one."""
    shapes = {}
    for n in range(network.num_inputs):
        tensor = network.get_input(n)
        one, most = (tuple(size if size > 0 else batch for size in tensor.shape) for batch in (1, LARGEST_BATCH))
        shapes[tensor.name] = (one, one, most)
    return shapes


def _profile(builder: Any, shapes: Profile) -> Any:
    profile = builder.create_optimization_profile()
    for name, (least, usual, most) in shapes.items():
        profile.set_shape(name, least, usual, most)
    return profile


def _set_options(trt: Any, config: Any, options: BuilderOptions) -> None:
    """Set the options, and what is fixed: with another fixed setting raise BUILDER_REVISION, so that old plans go."""
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = getattr(trt.ProfilingVerbosity, options.profiling_verbosity.upper())
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    config.clear_flag(trt.BuilderFlag.TF32)  # with it FP32 graphs answer otherwise than flight's golden check allows
    config.max_aux_streams = 0  # in flight managed memory belongs to one stream, and no other may touch it


def kind_of_gpu(trt: Any, compute_capability: str) -> Any:
    """Return what a kind of GPU is called by a builder that needs none at hand; only `tensorrt_rtx` is one.

    Raises:
        DeviceError: this builder needs the GPU, or does not know the kind.
    """
    kinds = getattr(trt, "ComputeCapability", None)
    if kinds is None:
        raise DeviceError(
            f"compute capability {compute_capability}: {trt.__name__} builds for the GPU it runs on: run it on the"
            " device without --compute-capability"
        )
    known = {f"{name[2:-1]}.{name[-1]}": kind for name, kind in kinds.__members__.items() if name.startswith("SM")}
    if compute_capability not in known:
        raise DeviceError(
            f"compute capability {compute_capability}: expected one that {trt.__name__} {trt.__version__} builds for:"
            f" {', '.join(known)}"
        )
    return known[compute_capability]


def _aim(trt: Any, config: Any, compute_capability: str) -> None:
    """Let the plan be for a kind of GPU that need not be at hand."""
    kind = kind_of_gpu(trt, compute_capability)
    config.num_compute_capabilities = 1
    config.set_compute_capability(kind, 0)


def _set_timing_cache(config: Any, data: bytes) -> None:
    """Let the builder start from what was timed; what is of another GPU or version is not used."""
    if not config.set_timing_cache(config.create_timing_cache(data), False):
        log.warning("timing cache of another GPU or version, or damaged: all is timed anew")
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _timed(config: Any) -> bytes | None:
    """Return what was timed; None where it cannot be had, which is no reason to lose a plan."""
    try:
        cache = config.get_timing_cache()
        return _as_bytes(cache)
    except UNFORESEEN as error:
        log.warning("what was timed is not kept: %r", error)
        return None


def _as_bytes(cache: Any) -> bytes:
    return bytes(cache.serialize())


def _inspect(trt: Any, plan: bytes) -> tuple[str | None, str]:
    """Return what the engine inspector says of a plan, as JSON, and what kept it from that, where something did.

    There is neither where there is no GPU to load the plan. The plan is good whatever happens here.
    """
    try:
        runtime = trt.Runtime(logger_of(trt))
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            return None, ""
        inspector = engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON)), ""
    except UNFORESEEN as error:
        log.warning("the plan cannot be inspected: %r", error)
        return None, repr(error)


def _layers(network: Any) -> Iterator[NetworkLayer]:
    """Yield the layers of a network as plain values."""
    for n in range(network.num_layers):
        layer = network.get_layer(n)
        inputs = [layer.get_input(k) for k in range(layer.num_inputs)]
        outputs = [layer.get_output(k) for k in range(layer.num_outputs)]
        yield NetworkLayer(
            name=layer.name,
            kind=layer.type.name,
            inputs=tuple(tensor.name for tensor in inputs if tensor is not None),
            outputs=tuple(tensor.name for tensor in outputs),
            dtype=_dtype(outputs[0]),
            metadata=layer.metadata,
        )


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype.name)


def _monitor(trt: Any, progress: Progress) -> Any:
    """Return what TensorRT tells its progress to, from threads of its own; False as answer to a step ends the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes on."""

        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Take the start of a phase."""
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Take a step; say whether to go on."""
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            """Take the end of a phase."""
            progress.finish(phase_name)

    return Monitor()


def _builder(trt: Any) -> Any:
    """Return a new builder, with no complaint of an earlier one's left."""
    logger = logger_of(trt)
    logger.lines.clear()
    try:
        return trt.Builder(logger)
    except (RuntimeError, TypeError) as error:
        complaints = _complaints(trt) or "no reason was given"
        raise DeviceError(
            f"{trt.__name__} offers no builder; expected a GPU, and a driver as new as its CUDA: look at nvidia-smi,"
            f" update the driver ({error}): {complaints}"
        ) from error


def _read(trt: Any, graph: bytes) -> _Reading:
    """Return the network that the parser makes of a graph, with what it has against it."""
    builder = _builder(trt)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger_of(trt))
    problems = []
    if not parser.parse(graph):
        problems = [_problem(parser.get_error(n)) for n in range(parser.num_errors)]
        problems = problems or [_complaints(trt) or "the parser failed and did not say why"]
    return _Reading(builder=builder, network=network, parser=parser, problems=problems)


def _problem(parser_error: Any) -> str:
    """Return a parser's error as one line that names the node, where the parser does."""
    node, operator = parser_error.node_name(), parser_error.node_operator()
    where = " ".join(part for part in (operator, node) if part)
    return " ".join(f"{where + ': ' if where else ''}{parser_error.desc()}".split())


def _complaints(trt: Any) -> str:
    """Return the errors that were logged since the last graph, in one line."""
    return "; ".join(logger_of(trt).lines)

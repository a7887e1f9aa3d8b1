"""A `tensorrt` with a GPU, as far as building goes: reads every graph, times kernels, lets plans be inspected."""

import json
from types import SimpleNamespace


class _Builder:
    def __init__(self, logger, trt):
        self.logger, self.trt = logger, trt

    def create_network(self, flags):
        self.trt.network_flags.append(flags)
        return SimpleNamespace(num_inputs=0, num_layers=0, names=[])

    def create_builder_config(self):
        return _Config(self.trt)

    def create_optimization_profile(self):
        return SimpleNamespace(set_shape=lambda *shapes: self.trt.shapes.append(shapes))

    def build_serialized_network(self, network, config):
        self.trt.configs.append(config)
        monitor, self.trt.steps = config.progress_monitor, []
        monitor.phase_start("Building engine", None, 3)
        for step in range(3):
            self.trt.on_step(step)
            self.trt.steps.append(step)
            if not monitor.step_complete("Building engine", step):
                self.logger.log(1, "Build canceled by user")
                return None
        monitor.phase_finish("Building engine")
        if self.trt.complaint:
            self.logger.log(1, self.trt.complaint)
            return None
        config.cache = _TimingCache(config.cache.data + b"timed;") if config.cache else None
        return b"plan of " + network.name.encode()


class _Config:
    def __init__(self, trt):
        self.trt, self.cache, self.flags, self.limits = trt, None, {"TF32"}, {}

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool, size_bytes):
        self.limits[pool] = size_bytes

    def add_optimization_profile(self, profile):
        pass

    def create_timing_cache(self, data):
        return _TimingCache(data)

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache.data.startswith(b"foreign") and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        self.trt.reach("get_timing_cache")
        return self.cache


class _TimingCache:
    def __init__(self, data):
        self.data = bytes(data)

    def serialize(self):
        return self.data

    def combine(self, other, ignore_mismatch):
        if other.data.startswith(b"breaking"):
            raise RuntimeError("combine raised")
        if other.data.startswith(b"foreign") and not ignore_mismatch:
            return False
        self.data += other.data
        return True


class _Parser:
    def __init__(self, network, logger):
        self.network = network

    def parse(self, data):
        import onnx  # the drone's tests hold this fake to the real names, and have no onnx

        graph = onnx.load_model_from_string(data).graph
        inputs = [SimpleNamespace(name=one.name, shape=(-1,)) for one in graph.input]
        self.network.name = graph.name
        self.network.num_inputs, self.network.get_input = len(inputs), inputs.__getitem__
        return True


class FakeTensorrt:
    """Stands in for the module."""

    __name__ = "tensorrt"
    __version__ = "10.3.0"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    ProfilingVerbosity = SimpleNamespace(NONE="none", LAYER_NAMES_ONLY="names", DETAILED="detailed")
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    BuilderFlag = SimpleNamespace(TF32="TF32")
    LayerInformationFormat = SimpleNamespace(JSON="json")
    OnnxParser = _Parser
    IProgressMonitor = object

    class ILogger:
        """As the real one."""

        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)

    def __init__(self, layers=(), complaint="", on_step=lambda step: None):
        self.layers, self.complaint, self.on_step = list(layers), complaint, on_step
        self.answer = ""  # of the engine inspector, in place of its JSON
        self.configs, self.shapes, self.deserialized, self.network_flags = [], [], [], []
        self.raising = ""  # name of what raises

    def reach(self, name):
        if name == self.raising:
            raise RuntimeError(f"{name} raised")

    def Builder(self, logger):  # noqa: N802
        return _Builder(logger, self)

    def Runtime(self, logger):  # noqa: N802
        self.reach("Runtime")

        def deserialize(plan):
            self.reach("deserialize_cuda_engine")
            self.deserialized.append(plan)
            told = self.answer or json.dumps({"Layers": self.layers, "Bindings": []})

            def get_engine_information(form):
                self.reach("get_engine_information")
                return told

            def create_engine_inspector():
                self.reach("create_engine_inspector")
                return SimpleNamespace(get_engine_information=get_engine_information)

            return SimpleNamespace(create_engine_inspector=create_engine_inspector)

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

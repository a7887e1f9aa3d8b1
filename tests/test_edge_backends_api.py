"""TensorRT, pycuda and libcuda as their own bindings have them: what our code and the fake touch is in all versions.

The file is made by launch/dump-tensorrt-api from the real bindings. Objects of theirs are known by the names that our
code gives them; in the files that touch them nothing else may be of unknown type.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from fake_builder import FakeTensorrt, _Builder, _Config, _Parser, _TimingCache
from fake_gpu import Event, Gpu, LibCuda, ManagedAllocation, PagelockedHostAllocation, Stream
from fake_tensorrt import ICudaEngine, IExecutionContext
from house import ROOT, sources

from edge.backends.plan_key import BuilderOptions

API = json.loads((ROOT / "tests" / "data" / "tensorrt_api.json").read_text())
TENSORRT = {
    "trt": "", "runtime": "Runtime", "engine": "ICudaEngine", "context": "IExecutionContext",
    "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig",
    "profile": "IOptimizationProfile", "tensor": "ITensor", "dims": "Dims", "Severity": "Severity",
    "severity": "Severity",
    "TensorIOMode": "TensorIOMode", "DataType": "DataType", "ILogger": "ILogger",
    "NetworkDefinitionCreationFlag": "NetworkDefinitionCreationFlag",
}  # fmt: skip
"""Which class an object is of, by the name it has in our code; an empty one is the module itself."""
BUILDER = TENSORRT | {
    "layer": "ILayer", "type": "LayerType", "dtype": "DataType", "inspector": "EngineInspector",
    "cache": "ITimingCache", "other": "ITimingCache", "parser_error": "ParserError", "BuilderFlag": "BuilderFlag",
    "LayerInformationFormat": "LayerInformationFormat", "MemoryPoolType": "MemoryPoolType",
    "ProfilingVerbosity": "ProfilingVerbosity",
}  # fmt: skip
"""The same where plans are built."""
PYCUDA = {
    "driver": "", "Device": "Device", "device": "Device", "Context": "Context", "cuda_context": "Context",
    "stream": "Stream", "event": "Event", "start": "Event", "managed": "ManagedAllocation",
    "mapped": "PagelockedHostAllocation", "allocation": "DeviceAllocation", "event_flags": "event_flags",
    "host_alloc_flags": "host_alloc_flags", "mem_attach_flags": "mem_attach_flags",
}  # fmt: skip
LIBCUDA = {"libcuda": ""}
OURS = {"args", "options"}
"""Of unknown type, but handed on alone."""
ONLY_RTX = {"IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"}
"""Where the builder aims at another GPU, which it does with TensorRT-RTX alone."""
BUILDING = "calibration/plans/engine.py"
FLYING = {
    "edge/backends/trt.py": (TENSORRT, PYCUDA),
    "edge/backends/cuda.py": (PYCUDA, LIBCUDA),
    "edge/backends/trt_log.py": (TENSORRT,),
}
FILES = FLYING | {BUILDING: (BUILDER,)}


def versions(names: dict[str, str]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the surfaces, by version, of the library whose objects have these names."""
    if names is LIBCUDA:
        return {version: {"": functions} for version, functions in API["libcuda"].items()}
    return API["pycuda" if names is PYCUDA else "tensorrt"]


def last_name(node: ast.expr) -> str:
    """Return what an object is called: of `self._stream` and `stream` the same."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name.lstrip("_")


def touched(tree: ast.Module, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (class, member) for each member of an object of theirs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and last_name(node.value) in names and node.attr != "__name__":
            yield names[last_name(node.value)], node.attr


def missing(tree: ast.Module, names: dict[str, str]) -> list[str]:
    """Return what is touched and is not in every version."""
    return sorted(
        f"{version}: {of or 'module'}.{member}"
        for of, member in set(touched(tree, names))
        for version, surface in versions(names).items()
        if member not in surface[of]
    )


def unknown(tree: ast.Module) -> set[str]:
    """Return the names of what is of type Any."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            name = node.arg if isinstance(node, ast.arg) else last_name(node.target)
            found |= {name.lstrip("_")} if ast.unparse(node.annotation) == "Any" else set()
    return found


def nameless(tree: ast.Module, names: dict[str, str]) -> list[str]:
    """Return what is touched of an object of theirs that has no name by which its class is known."""
    answers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Subscript)]
    chained = [ast.unparse(one) for one in answers if isinstance(one, ast.Call) and _is_theirs(one.func, names)]
    held = {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Call)
        if _is_theirs(node.value.func, names)
    }
    return chained + [one.id for one in answers if isinstance(one, ast.Name) and one.id in held - names.keys()]


def _is_theirs(node: ast.expr, names: dict[str, str]) -> bool:
    return isinstance(node, ast.Attribute) and last_name(node.value) in names


def overridden(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """Yield (class of theirs, method of ours in its place, number of arguments without self)."""
    for node in ast.walk(tree):
        for base in node.bases if isinstance(node, ast.ClassDef) else ():
            if isinstance(base, ast.Attribute) and last_name(base.value) == "trt":
                methods = (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name[0] != "_")
                yield from ((base.attr, method.name, len(method.args.args) - 1) for method in methods)


def test_all_supported_versions_are_in_the_file():
    assert [version.rpartition(".")[0] for version in API["tensorrt"]] == ["10.16.1", "10.3", "11.4.0"]
    assert list(API["pycuda"]) == ["2026.1"]


@pytest.mark.parametrize("path", FLYING)
def test_everything_touched_is_in_every_version(path):
    for names in FLYING[path]:
        found = set(touched(sources()[path], names))
        assert found
        assert missing(sources()[path], names) == []


def test_everything_that_the_builder_touches_is_in_every_version():
    lacking = {line.partition(": ")[2] for line in missing(sources()[BUILDING], BUILDER)}
    assert lacking == ONLY_RTX
    found = set(touched(sources()[BUILDING], BUILDER))
    classes = {of for of, _ in found}
    assert {"ILayer", "ITensor", "EngineInspector", "ITimingCache", "ParserError", "MemoryPoolType"} <= classes
    layer = {"name", "type", "metadata", "num_inputs", "num_outputs", "get_input", "get_output"}
    assert {member for of, member in found if of == "ILayer"} == layer


def test_each_verbosity_that_an_option_names_is_in_every_version():
    wanted = {name.upper() for name in get_args(get_type_hints(BuilderOptions)["profiling_verbosity"])}
    for surface in versions(BUILDER).values():
        assert wanted <= surface["ProfilingVerbosity"].keys()


@pytest.mark.parametrize("path", [BUILDING, "edge/backends/trt_log.py"])
def test_what_tensorrt_calls_of_ours_is_in_every_version_and_takes_as_many_arguments(path):
    found = list(overridden(sources()[path]))
    assert found
    for surface in versions(BUILDER).values():
        for of, method, count in found:
            assert surface[of][method].count(",") + 1 == count, (of, method)


@pytest.mark.parametrize("path", FILES)
def test_nothing_without_a_name_escapes_this_test(path):
    assert [one for names in FILES[path] for one in nameless(sources()[path], names)] == []


@pytest.mark.parametrize(
    "text", ["x = network.get_layer(0)\nx.nam", "config.get_timing_cache().serialise()", "network.get_input(0).nam"]
)
def test_a_member_of_something_without_a_name_is_found(text):
    assert len(nameless(ast.parse(text), BUILDER)) == 1


def test_a_method_of_ours_that_no_version_calls_is_found():
    (found,) = overridden(ast.parse("class M(trt.IProgressMonitor):\n  def phase_end(self, name): ..."))
    assert found == ("IProgressMonitor", "phase_end", 1)
    assert all("phase_end" not in surface["IProgressMonitor"] for surface in versions(BUILDER).values())


@pytest.mark.parametrize("path", FILES)
def test_nothing_of_unknown_type_escapes_this_test(path):
    known = {name for names in FILES[path] for name in names}
    assert unknown(sources()[path]) - known - OURS == set()


@pytest.mark.parametrize("path", FLYING)
def test_members_are_named_and_never_looked_up_by_text(path):
    calls = {ast.unparse(node.func) for node in ast.walk(sources()[path]) if isinstance(node, ast.Call)}
    assert not calls & {"getattr", "setattr", "vars"}


@pytest.mark.parametrize(
    ("text", "names", "found"),
    [
        ("context.execute_async_v4(1)", TENSORRT, "IExecutionContext.execute_async_v4"),
        ("self._runtime.deserialise_cuda_engine(plan)", TENSORRT, "Runtime.deserialise_cuda_engine"),
        ("trt.TensorIOMode.IN", TENSORRT, "TensorIOMode.IN"),
        ("builder.platform_has_fast_int8", TENSORRT, "Builder.platform_has_fast_int8"),
        ("lane.stream.wait(event)", PYCUDA, "Stream.wait"),
        ("driver.memcpy_htod_asynch", PYCUDA, "module.memcpy_htod_asynch"),
        ("libcuda.cuStreamBeginCapture", LIBCUDA, "module.cuStreamBeginCapture"),
        ("layer.number_of_inputs", BUILDER, "ILayer.number_of_inputs"),
        ("layer.get_inputs(0)", BUILDER, "ILayer.get_inputs"),
        ("inspector.get_engine_info()", BUILDER, "EngineInspector.get_engine_info"),
        ("trt.MemoryPoolType.SCRATCH", BUILDER, "MemoryPoolType.SCRATCH"),
        ("parser_error.node_nam()", BUILDER, "ParserError.node_nam"),
    ],
)
def test_a_member_that_a_version_lacks_is_found(text, names, found):
    assert any(line.endswith(f": {found}") for line in missing(ast.parse(text), names))


def parameters(function) -> int:
    """Return how many arguments a function can be given, without self."""
    return len([name for name in inspect.signature(function).parameters if name != "self"])


def fakes() -> Iterator[tuple[str, object, list[dict[str, str]]]]:
    """Yield (class, the fake of it, its members in each version)."""
    gpu = Gpu({})
    in_tensorrt = {"ICudaEngine": ICudaEngine, "IExecutionContext": IExecutionContext, "Runtime": gpu.tensorrt.Runtime,
                   "ILogger": gpu.tensorrt.ILogger, "": gpu.tensorrt}  # fmt: skip
    in_pycuda = {"Stream": Stream, "Event": Event, "ManagedAllocation": ManagedAllocation, "": gpu.driver,
                 "PagelockedHostAllocation": PagelockedHostAllocation, "Device": gpu.driver.Device,
                 "Context": gpu.driver.Context}  # fmt: skip
    in_builder = {"Builder": _Builder, "IBuilderConfig": _Config, "ITimingCache": _TimingCache, "OnnxParser": _Parser,
                  "": FakeTensorrt}  # fmt: skip
    every = ((TENSORRT, in_tensorrt), (BUILDER, in_builder), (PYCUDA, in_pycuda), (LIBCUDA, {"": LibCuda}))
    for names, classes in every:
        for name, fake in classes.items():
            yield name, fake, [surface[name] for surface in versions(names).values()]


OWN = {"put", "step", "begin", "end", "catch_up", "reach"}
"""How the fakes move their own work on."""


def test_the_fake_has_no_member_that_a_version_lacks_and_takes_no_more_arguments():
    compared = 0
    for name, fake, surfaces in fakes():
        members = {one for one in vars(fake) if not one.startswith("_")} - OWN
        for surface in surfaces:
            assert members - surface.keys() == set(), name
            for member in members:
                told, value = surface[member], vars(fake)[member]
                function = value.__func__ if isinstance(value, staticmethod) else value
                if told.startswith("(") and inspect.isfunction(function) and function.__name__ != "<lambda>":
                    most = max(len([one for one in part.strip(" ()").split(",") if one]) for part in told.split("|"))
                    assert parameters(function) <= most, (name, member, told)
                    compared += 1
    assert compared > 50


def test_the_file_is_small_and_holds_names_alone():
    path = Path(ROOT / "tests" / "data" / "tensorrt_api.json")
    assert path.stat().st_size < 100_000
    longest = max(len(text) for text in _texts(API))
    assert longest < 150


def _texts(node) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from _texts(value)
    else:
        yield node

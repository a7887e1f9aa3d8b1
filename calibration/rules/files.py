"""Graphs to check: single files, the graphs of a bundle, or those of a work folder."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from calibration.rules.view import external_tensors
from models.bundle import open_bundle
from models.errors import ConfigError, InputError

_FOR_CPU = re.compile(r"\.\w+-cpu-\w+(-any-batch)?\.onnx$")


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphFile:
    """A graph, and whether it is one that TensorRT will meet."""

    name: str
    is_for_trt: bool
    model: ModelProto


def read_graphs(paths: Iterable[Path]) -> Iterator[GraphFile]:
    """Yield the graphs that paths stand for; a file that is named is checked whatever it was made for.

    Raises:
        ConfigError: a path is neither a graph, a bundle nor a work folder with graphs.
        BundleError: a bundle is damaged.
        InputError: a file is not ONNX, or takes weights from outside of its folder.
    """
    for path in paths:
        if path.is_file():
            yield GraphFile(name=str(path), is_for_trt=True, model=read_graph(path))
        elif (path / "manifest.yaml").is_file():
            bundle = open_bundle(path)
            for entry in bundle.manifest.graphs:
                model = parse_graph(bundle.contents[entry.file], f"{path}/{entry.file}")
                yield GraphFile(name=f"{path}/{entry.file}", is_for_trt=entry.target in ("any", "trt"), model=model)
        else:
            yield from _work_folder(path)


def read_graph(path: Path) -> ModelProto:
    """Return a file's model with its weights, those in other files of its folder among them.

    Raises:
        InputError: the file is not ONNX, or takes weights from outside of its folder, or they are not there.
    """
    try:
        model = parse_graph(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name another file") from error
    outside = external_tensors(model)
    for tensor in outside:
        _check_location(path, tensor)
    if outside:
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise InputError(
                f"{path}: weights in other files cannot be read ({error}): copy those files too"
            ) from error
    return model


def parse_graph(data: bytes, where: str) -> ModelProto:
    """Return the model in a file's bytes; weights in other files stay there.

    Raises:
        InputError: the bytes are not ONNX.
    """
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise InputError(f"{where}: not an ONNX file ({error}): export it again") from error
    if not model.graph.node:
        raise InputError(f"{where}: expected an ONNX graph, found no nodes: export it again")
    return model


def _work_folder(path: Path) -> Iterator[GraphFile]:
    files = sorted((path / "onnx").glob("*.onnx"))
    if not files:
        raise ConfigError(
            f"{path}: expected a graph.onnx, a <name>-<version>.uavb bundle, or a work folder with graphs under onnx/"
        )
    for file in files:
        yield GraphFile(name=str(file), is_for_trt=not _FOR_CPU.search(file.name), model=read_graph(file))


def _check_location(path: Path, tensor: TensorProto) -> None:
    """Refuse weights outside of a graph's folder before anything is opened."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    file, folder = path.parent / location, path.parent.resolve()
    is_plain = location and not PureWindowsPath(location).is_absolute() and "\0" not in location
    if not is_plain or not file.resolve().is_relative_to(folder) or file.resolve() == folder:
        raise InputError(
            f"{path}: tensor {tensor.name!r} takes its values from {location!r}, outside of the graph's folder:"
            " save the model in one file"
        )

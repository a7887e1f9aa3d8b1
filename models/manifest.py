"""The manifest of a bundle: what the model is, which graphs there are, and what every file must be."""

import math
import re
from typing import Literal

import msgspec

from models.errors import BundleError, ConfigError
from models.schema import dump_yaml, parse_yaml
from models.spec import FUSION, WHOLE, ModelSpec

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 1 << 30
MAX_BUNDLE_BYTES = 1 << 31
"""Of all files together: a bundle is read into memory."""
MAX_FILES = 1000

Precision = Literal["fp32", "fp16", "mixed", "int8"]
"""What a graph computes in; mixed: INT8 but for the layers that suffer from it."""
Target = Literal["any", "cpu-x86", "cpu-arm", "trt"]
"""What a graph is made for: no quantized graph serves both a CPU and TensorRT well."""
TARGETS: tuple[Target, ...] = ("cpu-x86", "cpu-arm", "trt")
"""Those that quantized graphs are made for."""
Batch = Literal["one", "any"]

MANIFEST_FILE = "manifest.yaml"
CHECKSUM_FILE = "manifest.sha256"
SIGNATURE_FILE = "manifest.sig"
HEAD = (MANIFEST_FILE, CHECKSUM_FILE, SIGNATURE_FILE)
"""What a manifest cannot list: itself, and what is made from it."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_TITLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_GRAPH_FILE = re.compile(
    r"onnx/(?P<role>\w+)\.(?P<precision>fp32|fp16|mixed|int8)(-(?P<target>cpu-x86|cpu-arm|trt))?(?P<any>-any-batch)?\.onnx",
    re.ASCII,
)


class _Release(msgspec.Struct, frozen=True):
    """The one key that a manifest of any release has."""

    schema: int


class GraphEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ONNX graph: the branch of a modality, the fusion head, or all of them in one."""

    role: str
    """A modality's name, `fusion` or `whole`."""
    precision: Precision
    target: Target = "any"
    batch: Batch = "any"
    """one: examples one by one, as in flight; any: as many at once as the caller likes."""
    file: str

    def serves(self, role: str, precision: str, target: str) -> bool:
        """Say whether this is a graph of a role in a precision that runs on a target."""
        return self.role == role and self.precision == precision and self.target in (target, "any")


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file of the bundle must be."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the runtime needs to know about a model."""

    schema: int = SCHEMA_VERSION
    name: str
    version: int
    """Counts up with each release of `name`."""
    licence: str
    description: str
    reproduce: tuple[str, ...]
    """Commands that make this bundle again."""
    spec: ModelSpec
    temperature: float = 1.0
    """Divides the fused logits before they become probabilities, so that confidence is what comes true."""
    graphs: tuple[GraphEntry, ...]
    approved: dict[str, dict[str, Precision]] = {}
    """By target and role: the fastest precision whose gates passed; what is not named here flies in fp32."""
    metrics: dict[str, float]
    tools: dict[str, str]
    files: dict[str, FileEntry] = {}
    """Filled in by `write_bundle`; all there are but the manifest and what stands beside it."""

    def __post_init__(self) -> None:
        if not _TITLE.fullmatch(self.name):
            raise ValueError(f"name {self.name!r}: expected letters, digits, _ - . (at most 64: it names the folder)")
        if self.version < 0:
            raise ValueError(f"version is {self.version}: expected 0 or more")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}: expected a positive number")
        _check_files(self.files)
        _check_graphs(self.graphs, (*self.spec.modality_names, FUSION))
        for target, roles in self.approved.items():
            for role, precision in roles.items():
                if not any(graph.serves(role, precision, target) for graph in self.graphs):
                    raise ValueError(f"approved for {target}: {role} in {precision}, for which there is no graph")

    @property
    def title(self) -> str:
        """`name-version`, also the stem of the folder's name."""
        return f"{self.name}-{self.version}"


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Return the manifest; its release is judged first, because another release may have other keys.

    Raises:
        BundleError: of another schema, not a manifest, or one that contradicts itself; a line per problem.
    """
    try:
        schema = parse_yaml(text, _Release, where).schema
        if schema != SCHEMA_VERSION:
            raise BundleError(
                f"{where}: schema {schema}: this runtime reads {SCHEMA_VERSION}: install the release that wrote it,"
                " or export the bundle anew"
            )
        manifest = parse_yaml(text, Manifest, where)
    except ConfigError as error:
        raise BundleError(str(error)) from error
    missing = [graph.file for graph in manifest.graphs if graph.file not in manifest.files]
    if missing:
        raise BundleError(f"{where}: graphs without a file entry: {missing}: export the bundle anew")
    return manifest


def manifest_text(manifest: Manifest, files: dict[str, FileEntry]) -> bytes:
    """Return a manifest with its files as text that `parse_manifest` reads back equal."""
    return dump_yaml({**msgspec.structs.asdict(manifest), "files": files})


def graph_entry(file: str) -> GraphEntry:
    """Return the graph that a file's name stands for: `onnx/<role>.<precision>[-<target>][-any-batch].onnx`.

    Raises:
        BundleError: it is no such name.
    """
    named = _GRAPH_FILE.fullmatch(file)
    if named is None:
        raise BundleError(
            f"{file}: expected onnx/<role>.<fp32|fp16|mixed|int8>[-<cpu-x86|cpu-arm|trt>][-any-batch].onnx:"
            " rename it, or take it out of the work folder"
        )
    entry = {"role": named["role"], "precision": named["precision"], "target": named["target"] or "any"}
    return msgspec.convert({**entry, "batch": "any" if named["any"] else "one", "file": file}, GraphEntry)


def _check_files(files: dict[str, FileEntry]) -> None:
    """Raise ValueError unless all names stay within the folder and the sizes fit into memory."""
    for name, entry in files.items():
        if not _SAFE_NAME.fullmatch(name) or name in HEAD:
            raise ValueError(f"file name {name!r}: expected a plain relative path, none of {', '.join(HEAD)}")
        if not 0 <= entry.size_bytes <= MAX_FILE_BYTES:
            raise ValueError(f"{name}: {entry.size_bytes} bytes, at most {MAX_FILE_BYTES}")
    total = sum(entry.size_bytes for entry in files.values())
    if len(files) > MAX_FILES or total > MAX_BUNDLE_BYTES:
        raise ValueError(
            f"{len(files)} files of {total} bytes: expected at most {MAX_FILES}, of {MAX_BUNDLE_BYTES} together"
        )


def _check_graphs(graphs: tuple[GraphEntry, ...], roles: tuple[str, ...]) -> None:
    """Raise ValueError unless each role has an FP32 graph and no graph is there twice or of another role."""
    kinds = [(graph.role, graph.precision, graph.target, graph.batch) for graph in graphs]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"graphs: {len(kinds)} entries of {len(set(kinds))} kinds: expected each kind once")
    strangers = sorted({graph.role for graph in graphs} - {*roles, WHOLE})
    missing = [role for role in roles if not any(graph.serves(role, "fp32", "any") for graph in graphs)]
    if strangers or missing:
        raise ValueError(f"graph roles {strangers} are unknown, FP32 graphs for {missing} are missing")

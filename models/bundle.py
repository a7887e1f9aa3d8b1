"""The bundle: the one folder that crosses from training to flight, verified before anything in it is parsed.

<name>-<version>.uavb/
    manifest.yaml      what the model is, and the SHA-256 of every other file
    manifest.sha256    SHA-256 of manifest.yaml: damage is told apart from a bad manifest
    onnx/<role>.<precision>[-<target>][-any-batch].onnx
    golden/io.npz      inputs with FP32 outputs and an entropy fusion's numbers, for the self-test at start
"""

import hashlib
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from models.errors import BundleError, ConfigError
from models.schema import MAX_BYTES, dump_yaml, parse_yaml
from models.spec import FUSION as FUSION
from models.spec import WHOLE as WHOLE
from models.spec import ModelSpec

SCHEMA_VERSION = 1
MAX_FILE_BYTES = 1 << 30
GOLDEN = "golden/io.npz"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


Precision = Literal["fp32", "fp16", "mixed", "int8"]
"""What a graph computes in; mixed: INT8 but for the layers that suffer from it."""
Target = Literal["any", "cpu-x86", "cpu-arm", "trt"]
"""What a graph is made for: no quantized graph serves both a CPU and TensorRT well."""
Batch = Literal["one", "any"]


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


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file of the bundle must be."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the runtime needs to know about a model."""

    schema: int
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
    files: dict[str, FileEntry]

    def __post_init__(self) -> None:
        if not _SAFE_NAME.fullmatch(self.name) or "/" in self.name:
            raise ValueError(f"name {self.name!r}: expected letters, digits, _ - . (it names the folder)")
        if self.version < 0:
            raise ValueError(f"version is {self.version}: expected 0 or more")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}: expected a positive number")
        for name, entry in self.files.items():
            if not _SAFE_NAME.fullmatch(name):
                raise ValueError(f"file name {name!r}: expected a plain relative path")
            if not 0 <= entry.size_bytes <= MAX_FILE_BYTES:
                raise ValueError(f"{name}: {entry.size_bytes} bytes, at most {MAX_FILE_BYTES}")
        missing = [graph.file for graph in self.graphs if graph.file not in self.files]
        if missing:
            raise ValueError(f"graphs without a file entry: {missing}")
        _check_graphs(self.graphs, (*self.spec.modality_names, FUSION))
        for target, roles in self.approved.items():
            for role, precision in roles.items():
                if not any(_serves(graph, role, precision, target) for graph in self.graphs):
                    raise ValueError(f"approved for {target}: {role} in {precision}, for which there is no graph")

    @property
    def title(self) -> str:
        """`name-version`, also the stem of the folder's name."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A verified bundle, its files in memory: nothing on disk can change under the runtime."""

    path: Path
    manifest: Manifest
    sha256: str
    """Of the manifest, hence of everything."""
    contents: dict[str, bytes]

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return self.manifest.spec

    def graph(self, role: str, precision: Precision = "fp32", target: str = "any", batch: Batch = "one") -> bytes:
        """Return the ONNX bytes for a role; a graph for any batch also serves one, the closest fit is taken.

        Raises:
            BundleError: the bundle has none of this precision for this target, or none for any batch.
        """
        serving = [graph for graph in self.manifest.graphs if _serves(graph, role, precision, target)]
        fitting = [graph for graph in serving if batch in (graph.batch, "one")]
        if not fitting:
            there = sorted({f"{graph.precision} for {graph.target}" for graph in self.manifest.graphs})
            raise BundleError(
                f"{self.path}: no graph of {role} in {precision} for {target}, batch {batch} (there is"
                f" {', '.join(there)}): choose another precision, or make it with uav-calibrate quantize"
            )
        return self.contents[max(fitting, key=lambda graph: (graph.target == target, graph.batch == batch)).file]


def open_bundle(path: Path) -> Bundle:
    """Verify a bundle and read it into memory.

    Raises:
        BundleError: absent, damaged, incomplete, with files that the manifest does not list, or of another schema.
    """
    remedy = "copy the bundle again, or export it anew with uav-calibrate export"
    if not path.is_dir():
        raise BundleError(f"{path}: no such bundle folder: name a <name>-<version>.uavb folder")
    text = _read(path, "manifest.yaml", MAX_BYTES)
    expected = _read(path, "manifest.sha256", 200).decode("ascii", "replace")
    found = hashlib.sha256(text).hexdigest()
    if expected != f"{found}\n":
        raise BundleError(f"{path}/manifest.yaml: expected SHA-256 {expected[:64]!r}, found {found}: {remedy}")
    manifest = _parse_manifest(text, f"{path}/manifest.yaml")
    present = {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir() or file.is_symlink()}
    extra = sorted(present - set(manifest.files) - {"manifest.yaml", "manifest.sha256"})
    if extra:
        raise BundleError(f"{path}: files that the manifest does not list: {', '.join(extra[:5])}: {remedy}")
    contents = {}
    for name, entry in manifest.files.items():
        data = _read(path, name, entry.size_bytes)
        digest = hashlib.sha256(data).hexdigest()
        if len(data) != entry.size_bytes or digest != entry.sha256:
            raise BundleError(
                f"{path}/{name}: expected {entry.size_bytes} bytes with SHA-256 {entry.sha256[:12]}…,"
                f" found {len(data)} bytes with {digest[:12]}…: {remedy}"
            )
        contents[name] = data
    return Bundle(path=path, manifest=manifest, sha256=found, contents=contents)


def shipped_bundle() -> Path:
    """Return the path of the demo bundle that comes with this package."""
    return Path(__file__).parent / "bundles" / "demo-1.uavb"


def write_bundle(folder: Path, manifest: Manifest, contents: dict[str, bytes]) -> Path:
    """Write `<folder>/<name>-<version>.uavb` and return its path; `manifest.files` is filled in here.

    The bundle appears whole or not at all: it is written beside its place and renamed. An existing one is replaced.

    Raises:
        BundleError: the manifest is one that `open_bundle` would refuse; nothing is written.
    """
    files = {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for name, data in sorted(contents.items())
    }
    text = dump_yaml({**msgspec.structs.asdict(manifest), "files": files})
    _parse_manifest(text, f"{folder}/{manifest.title}.uavb/manifest.yaml")
    target = folder / f"{manifest.title}.uavb"
    partial = folder / f".{manifest.title}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for name, data in contents.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(data)
    (partial / "manifest.yaml").write_bytes(text)
    (partial / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest() + "\n")
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    return target


def _serves(graph: GraphEntry, role: str, precision: str, target: str) -> bool:
    return graph.role == role and graph.precision == precision and graph.target in (target, "any")


def _check_graphs(graphs: tuple[GraphEntry, ...], roles: tuple[str, ...]) -> None:
    """Raise ValueError unless each role has an FP32 graph and no graph is there twice or of another role."""
    kinds = [(graph.role, graph.precision, graph.target, graph.batch) for graph in graphs]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"graphs: {len(kinds)} entries of {len(set(kinds))} kinds: expected each kind once")
    strangers = sorted({graph.role for graph in graphs} - {*roles, WHOLE})
    missing = [role for role in roles if not any(_serves(graph, role, "fp32", "any") for graph in graphs)]
    if strangers or missing:
        raise ValueError(f"graph roles {strangers} are unknown, FP32 graphs for {missing} are missing")


def _parse_manifest(text: bytes, where: str) -> Manifest:
    """Return the manifest; its release is judged first, because another release may have other keys."""
    try:
        schema = parse_yaml(text, _Release, where).schema
        if schema != SCHEMA_VERSION:
            raise BundleError(
                f"{where}: schema {schema}: this runtime reads {SCHEMA_VERSION}: install the release that wrote it,"
                " or export the bundle anew"
            )
        return parse_yaml(text, Manifest, where)
    except ConfigError as error:
        raise BundleError(str(error)) from error


def _read(folder: Path, name: str, limit: int) -> bytes:
    """Return a file's bytes, at most `limit` + 1 of them; symbolic links are refused."""
    file = folder / name
    if any(part.is_symlink() for part in (file, *file.parents) if folder in part.parents):
        raise BundleError(f"{file}: a symbolic link, which a bundle may not hold: copy the file itself")
    if file.exists() and not file.is_file():
        raise BundleError(f"{file}: not a regular file: copy the bundle again")
    try:
        with file.open("rb") as stream:
            return stream.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}): copy the bundle again") from error

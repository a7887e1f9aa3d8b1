"""The bundle: the one folder that crosses from training to flight, verified before anything in it is parsed.

<name>-<version>.uavb/
    manifest.yaml      what the model is, and the SHA-256 of every other file
    manifest.sha256    SHA-256 of manifest.yaml: damage is told apart from a bad manifest
    manifest.sig       where it is signed: see models/signature.py
    onnx/<role>.<precision>[-<target>][-any-batch].onnx
    golden/io.npz      inputs with FP32 outputs and an entropy fusion's numbers, for the self-test at start
    calibration/ranges.npz, reports/    where it was quantized: from which numbers, and how well

The same in one file for transport: models/archive.py.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from models.archive import SUFFIX, ArchiveReader, open_regular, write_archive
from models.disk import replace_file, replace_folder
from models.errors import BundleError
from models.manifest import CHECKSUM_FILE, HEAD, MANIFEST_FILE, SIGNATURE_FILE, FileEntry, manifest_text, parse_manifest
from models.manifest import SCHEMA_VERSION as SCHEMA_VERSION
from models.manifest import Batch as Batch
from models.manifest import GraphEntry as GraphEntry
from models.manifest import Manifest as Manifest
from models.manifest import Precision as Precision
from models.manifest import Target as Target
from models.schema import MAX_BYTES
from models.signature import MAX_BYTES as MAX_SIGNATURE_BYTES
from models.signature import Signature, Trust, check_signature, parse_signature
from models.spec import FUSION as FUSION
from models.spec import WHOLE as WHOLE
from models.spec import ModelSpec

GOLDEN = "golden/io.npz"
_HEAD_BYTES = {MANIFEST_FILE: MAX_BYTES, CHECKSUM_FILE: 200, SIGNATURE_FILE: MAX_SIGNATURE_BYTES}
_REMEDY = "copy the bundle again, or export it anew with uav-calibrate export"
_NO_TRUST = Trust()


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A verified bundle, its files in memory: nothing on disk can change under the runtime."""

    path: Path
    manifest: Manifest
    sha256: str
    """Of the manifest, hence of everything."""
    contents: dict[str, bytes]
    head: dict[str, bytes] = field(default_factory=dict)
    """The manifest and what stands beside it, as they were read."""
    signature: Signature | None = None
    is_trusted: bool = False
    """Whether the signature was checked with a trusted key."""

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        return self.manifest.spec

    def graph(self, role: str, precision: Precision = "fp32", target: str = "any", batch: Batch = "one") -> bytes:
        """Return the ONNX bytes for a role; a graph for any batch also serves one, the closest fit is taken.

        Raises:
            BundleError: the bundle has none of this precision for this target, or none for any batch.
        """
        serving = [graph for graph in self.manifest.graphs if graph.serves(role, precision, target)]
        fitting = [graph for graph in serving if batch in (graph.batch, "one")]
        if not fitting:
            there = sorted({f"{graph.precision} for {graph.target}" for graph in self.manifest.graphs})
            raise BundleError(
                f"{self.path}: no graph of {role} in {precision} for {target}, batch {batch} (there is"
                f" {', '.join(there)}): choose another precision, or make it with uav-calibrate quantize"
            )
        return self.contents[max(fitting, key=lambda graph: (graph.target == target, graph.batch == batch)).file]


def open_bundle(path: Path, trust: Trust = _NO_TRUST) -> Bundle:
    """Verify a bundle, a folder or an archive, and read it into memory; a link is followed once, at the start.

    Raises:
        BundleError: absent, damaged, incomplete, with files that the manifest does not list, or of another schema; or
            not signed by whom `trust` names.
    """
    home = Path(os.path.realpath(path)) if path.is_symlink() else path
    if home.is_dir():
        return _verify(_Folder(home), trust)
    if not home.exists():
        raise BundleError(f"{path}: no such bundle folder: name a <name>-<version>.uavb folder")
    try:
        with open_regular(home) as stream:
            return _verify(_Archive(home, stream), trust)
    except OSError as error:
        raise BundleError(f"{home}: cannot be read ({error.strerror}): copy the bundle again") from error


def shipped_bundle() -> Path:
    """Return the path of the demo bundle that comes with this package."""
    return Path(__file__).parent / "bundles" / "demo-1.uavb"


def write_bundle(folder: Path, manifest: Manifest, contents: dict[str, bytes]) -> Path:
    """Write `<folder>/<name>-<version>.uavb` and return its path; `manifest.files` is filled in here.

    The bundle appears whole or not at all: it is written beside its place and renamed. An existing one is replaced.

    Raises:
        BundleError: the manifest is one that `open_bundle` would refuse; nothing is written.
    """
    target = folder / f"{manifest.title}.uavb"
    files = {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for name, data in sorted(contents.items())
    }
    text = manifest_text(manifest, files)
    parse_manifest(text, f"{target}/{MANIFEST_FILE}")
    replace_folder(target, {**contents, MANIFEST_FILE: text, CHECKSUM_FILE: _checksum(text)})
    return target


def pack_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle into `folder` as one file for transport, in place of one that may exist, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{bundle.manifest.title}{SUFFIX}"
    write_archive(target, f"{bundle.manifest.title}.uavb", {**bundle.head, **bundle.contents})
    return target


def add_signature(bundle: Bundle, text: bytes) -> None:
    """Put a signature, as `models.signature.sign` returns it, into a bundle's folder or archive."""
    parse_signature(text, f"{bundle.path}/{SIGNATURE_FILE}")
    if bundle.path.is_dir():
        replace_file(bundle.path / SIGNATURE_FILE, [text])
    else:
        contents = {**bundle.head, SIGNATURE_FILE: text, **bundle.contents}
        write_archive(bundle.path, f"{bundle.manifest.title}.uavb", contents)


class _Folder:
    """Files as they lie in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def head(self) -> dict[str, bytes]:
        names = [name for name in HEAD if name != SIGNATURE_FILE or os.path.lexists(self.path / name)]
        return {name: self._read(name, _HEAD_BYTES[name]) for name in names}

    def files(self, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
        """Yield the files that the manifest lists, at most a byte more of each than it says."""
        found = (file for file in self.path.rglob("*") if not file.is_dir() or file.is_symlink())
        extra = sorted({str(file.relative_to(self.path)) for file in found} - set(manifest.files) - set(HEAD))
        if extra:
            raise BundleError(f"{self.path}: files that the manifest does not list: {', '.join(extra[:5])}: {_REMEDY}")
        for name, entry in manifest.files.items():
            yield name, self._read(name, entry.size_bytes)

    def _read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes, at most `limit` + 1 of them; symbolic links are refused."""
        file = self.path / name
        if any(part.is_symlink() for part in (file, *file.parents) if self.path in part.parents):
            raise BundleError(f"{file}: a symbolic link, which a bundle may not hold: copy the file itself")
        try:
            with open_regular(file, os.O_NOFOLLOW) as stream:
                return stream.read(min(os.fstat(stream.fileno()).st_size, limit + 1))
        except OSError as error:
            raise BundleError(f"{file}: cannot be read ({error.strerror}): copy the bundle again") from error


class _Archive:
    """Files as they come out of an archive, each judged before the next is read."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self._reader = ArchiveReader(stream, str(path))
        self._next = self._reader.header()

    def head(self) -> dict[str, bytes]:
        found = {}
        while self._next is not None and self._next[0] in HEAD:
            name, size_bytes = self._next
            if size_bytes > _HEAD_BYTES[name]:
                raise BundleError(f"{self.path}: {name} of {size_bytes} bytes, at most {_HEAD_BYTES[name]}: {_REMEDY}")
            found[name] = self._reader.body(size_bytes)
            self._next = self._reader.header()
        missing = sorted({MANIFEST_FILE, CHECKSUM_FILE} - set(found))
        if missing or list(found) != [name for name in HEAD if name in found]:
            raise BundleError(f"{self.path}: an archive that does not begin with {', '.join(HEAD[:2])}: {_REMEDY}")
        return found

    def files(self, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
        """Yield the files that the manifest lists, in its order; another size than it says is refused unread."""
        if self._reader.folder != f"{manifest.title}.uavb":
            raise BundleError(f"{self.path}: holds {self._reader.folder}, but its manifest is {manifest.title}'s")
        for name, entry in manifest.files.items():
            if self._next != (name, entry.size_bytes):
                raise BundleError(
                    f"{self.path}: expected {name} of {entry.size_bytes} bytes next,"
                    f" found {self._next or 'the end'}: {_REMEDY}"
                )
            yield name, self._reader.body(entry.size_bytes)
            self._next = self._reader.header()
        if self._next is not None:
            raise BundleError(f"{self.path}: files that the manifest does not list: {self._next[0]}: {_REMEDY}")


def _verify(source: _Folder | _Archive, trust: Trust) -> Bundle:
    """Read a bundle in the order of trust: damage, then who signed it, then what it says, then all it lists."""
    where = f"{source.path}/{MANIFEST_FILE}"
    head = source.head()
    text = head[MANIFEST_FILE]
    _check_damage(text, head[CHECKSUM_FILE], where)
    signature = None
    if SIGNATURE_FILE in head:
        signature = parse_signature(head[SIGNATURE_FILE], f"{source.path}/{SIGNATURE_FILE}")
    is_trusted = check_signature(text, signature, trust, str(source.path))
    manifest = parse_manifest(text, where)
    return Bundle(
        path=source.path,
        manifest=manifest,
        sha256=hashlib.sha256(text).hexdigest(),
        contents=_read_files(source, manifest),
        head=head,
        signature=signature,
        is_trusted=is_trusted,
    )


def _check_damage(manifest: bytes, checksum: bytes, where: str) -> None:
    expected = _checksum(manifest)
    if checksum != expected:
        found, read = (text[:64].decode("ascii", "replace") for text in (expected, checksum))
        raise BundleError(f"{where}: expected SHA-256 {read!r}, found {found}: {_REMEDY}")


def _read_files(source: _Folder | _Archive, manifest: Manifest) -> dict[str, bytes]:
    """Return all files that a manifest lists, each as it says."""
    contents = {}
    for name, data in source.files(manifest):
        entry = manifest.files[name]
        digest = hashlib.sha256(data).hexdigest()
        if len(data) != entry.size_bytes or digest != entry.sha256:
            raise BundleError(
                f"{source.path}/{name}: expected {entry.size_bytes} bytes with SHA-256 {entry.sha256[:12]}…,"
                f" found {len(data)} bytes with {digest[:12]}…: {_REMEDY}"
            )
        contents[name] = data
    return contents


def _checksum(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}\n".encode()

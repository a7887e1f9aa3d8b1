"""A base bundle and a work folder become a release: its graphs in all precisions, ranges, reports, and what may fly."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from calibration.work import RANGES, SENSITIVITY, SENSITIVITY_PAGE, VERDICT, VERDICT_PAGE, noted_steps
from models.bundle import Bundle, GraphEntry, Manifest
from models.errors import BundleError
from models.manifest import MAX_FILE_BYTES, Precision, graph_entry

_GOLDEN = "golden/"
_OTHERS = {RANGES: f"calibration/{RANGES}"} | {
    name: f"reports/{name}" for name in (SENSITIVITY, SENSITIVITY_PAGE, VERDICT, VERDICT_PAGE)
}
"""What else a work folder may hold for a bundle, with its place there."""


class _Verdict(msgspec.Struct, frozen=True):
    """What of verify.json a bundle acts upon."""

    approved: dict[str, dict[str, Precision]]
    graphs: dict[str, str]
    """SHA-256 of every graph that was judged, and of those it was compared with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A manifest with the files it speaks of, ready for `models.bundle.write_bundle`."""

    manifest: Manifest
    contents: dict[str, bytes]


def assemble(base: Bundle, work: Path, version: int, command: str) -> Release:
    """Return the release that a work folder makes of a base bundle.

    FP32 graphs and golden examples are the base's: everything else was judged by them. Its other graphs are left
    behind: the work folder's verdict does not speak of them.

    Args:
        base: verified.
        work: holds `onnx/`, named as in the bundle, and whatever reports there are.
        version: of the release.
        command: what the user typed, for who wants to do it again.

    Raises:
        BundleError: a file of `onnx/` is no graph's by its name, or of another FP32 graph than the base's; there are
            none; or the verdict is not readable, or on other graphs.
    """
    kept = [graph for graph in base.manifest.graphs if graph.precision == "fp32"]
    files = {graph.file for graph in kept}
    contents = {name: data for name, data in base.contents.items() if name in files or name.startswith(_GOLDEN)}
    made = work_graphs(work, contents)
    contents |= {graph.file: data for graph, data in made}
    for source, place in _OTHERS.items():
        if (work / source).is_file():
            contents[place] = _read(work / source)
    verdict = contents.get(_OTHERS[VERDICT])
    try:
        manifest = msgspec.structs.replace(
            base.manifest,
            version=version,
            reproduce=(*base.manifest.reproduce, *noted_steps(work), command),
            graphs=(*kept, *(graph for graph, _ in made)),
            approved={},
            files={},
        )
        if verdict is not None:
            approved = _approved(verdict, work / VERDICT, contents)
            manifest = msgspec.structs.replace(manifest, approved=approved)
    except ValueError as error:
        raise BundleError(f"{work}: makes no bundle of {base.manifest.title}: {error}") from error
    return Release(manifest=manifest, contents=contents)


def work_graphs(work: Path, base: dict[str, bytes]) -> list[tuple[GraphEntry, bytes]]:
    """Return the graphs of `onnx/` that the base has not."""
    folder = work / "onnx"
    files = sorted(file for file in folder.iterdir() if file.name[0] != ".") if folder.is_dir() else []
    if not files:
        raise BundleError(f"{folder}: no graphs: make them with uav-calibrate quantize --work {work}")
    made = []
    for file in files:
        graph, data = graph_entry(f"onnx/{file.name}"), _read(file)
        if graph.file not in base:
            made.append((graph, data))
        elif data != base[graph.file]:
            raise BundleError(f"{file}: differs from the base bundle's, which everything was judged by: take it out")
    return made


def _approved(verdict: bytes, where: Path, contents: Mapping[str, bytes]) -> dict[str, dict[str, Precision]]:
    """Return what a verdict approves; it has to be on these very graphs, FP32 ones too."""
    try:
        told = msgspec.json.decode(verdict, type=_Verdict)
    except msgspec.MsgspecError as error:
        raise BundleError(f"{where}: no verdict to read ({error}): make it anew with uav-calibrate verify") from error
    found = hashes(contents)
    others = sorted(file for file in found.keys() | told.graphs.keys() if found.get(file) != told.graphs.get(file))
    if others:
        raise BundleError(
            f"{where}: a verdict on other graphs than these ({others[0]} and {len(others) - 1} more differ):"
            " run uav-calibrate verify again, with this bundle and work folder"
        )
    return told.approved


def hashes(contents: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each graph among files."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items()) if name.endswith(".onnx")}


def _read(file: Path) -> bytes:
    if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise BundleError(f"{file}: expected a plain file of at most {MAX_FILE_BYTES} bytes: take it out")
    return file.read_bytes()

"""A base bundle and a work folder become a release: its graphs in all precisions, ranges, reports, and what may fly."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from calibration.work import RANGES, SENSITIVITY
from models.bundle import Bundle, GraphEntry, Manifest
from models.errors import BundleError
from models.manifest import MAX_FILE_BYTES, Precision, graph_entry

VERDICT = "verify.json"
"""Report that says which precisions passed their gates."""
_GOLDEN = "golden/"
_OTHERS = {RANGES: f"calibration/{RANGES}"} | {
    name: f"reports/{name}" for name in (SENSITIVITY, "sensitivity.html", VERDICT, "verify.html")
}
"""What else a work folder may hold for a bundle, with its place there."""


class _Verdict(msgspec.Struct, frozen=True):
    """The one key of verify.json that a bundle acts upon."""

    approved: dict[str, dict[str, Precision]]


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
            none; or the verdict is not readable, or older than the graphs.
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
            reproduce=(*base.manifest.reproduce, command),
            graphs=(*kept, *(graph for graph, _ in made)),
            approved={} if verdict is None else _approved(verdict, work / VERDICT),
            files={},
        )
    except ValueError as error:
        raise BundleError(f"{work}: makes no bundle of {base.manifest.title}: {error}") from error
    if verdict is not None:
        _refuse_newer(work, [graph.file for graph, _ in made])
    return Release(manifest=manifest, contents=contents)


def work_graphs(work: Path, base: dict[str, bytes]) -> list[tuple[GraphEntry, bytes]]:
    """Return the graphs of `onnx/` that the base has not."""
    folder = work / "onnx"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
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


def _approved(verdict: bytes, where: Path) -> dict[str, dict[str, Precision]]:
    try:
        return msgspec.json.decode(verdict, type=_Verdict).approved
    except msgspec.MsgspecError as error:
        raise BundleError(f"{where}: no verdict to read ({error}): make it anew with uav-calibrate verify") from error


def _refuse_newer(work: Path, files: list[str]) -> None:
    """Raise BundleError where a graph was made after the verdict, which then speaks of another one."""
    judged_ns = (work / VERDICT).stat().st_mtime_ns
    newer = [file for file in files if (work / file).stat().st_mtime_ns > judged_ns]
    if newer:
        raise BundleError(
            f"{work / VERDICT}: older than {', '.join(newer)}, which it cannot have judged:"
            " run uav-calibrate verify again"
        )


def _read(file: Path) -> bytes:
    if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_FILE_BYTES:
        raise BundleError(f"{file}: expected a plain file of at most {MAX_FILE_BYTES} bytes: take it out")
    return file.read_bytes()

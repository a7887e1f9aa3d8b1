"""When each image of a folder was taken: by its name, by its EXIF, or by a table."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from edge.recording.imports.exif import MAX_HEAD_BYTES, exif_utc
from edge.recording.imports.table import TIME_COLUMNS, read_table
from edge.recording.imports.utc import parse_utc, utc_in_name
from models.errors import RecordingError

NAMES, EXIF = "names", "exif"
_FILE_COLUMNS = ("file", "filename", "image", "name")


def image_times(paths: Sequence[Path], by: str) -> dict[Path, int]:
    """Return when images were taken, in ns since 1970, for those of which it is told.

    Args:
        paths: the images.
        by: NAMES, EXIF, or the path of a CSV file that has a column `file` and a column `time`.
    Raises:
        RecordingError: an image or the table cannot be read, or it is told of none.
    """
    if by == NAMES:
        told = {path: utc_in_name(path.stem) for path in paths}
        wish = "names such as 20260131_142530_250.jpg or 1769869530.250.jpg"
    elif by == EXIF:
        told = {path: exif_utc(_head(path)) for path in paths}
        wish = "JPEG files with DateTimeOriginal"
    else:
        table = _read_times(Path(by))
        told = {path: table.get(path.name, table.get(path.stem)) for path in paths}
        wish = f"rows of {by} with the names of these files"
    times = {path: time_ns for path, time_ns in told.items() if time_ns is not None}
    if not times:
        raise RecordingError(f"{paths[0].parent}: no time of any of {len(paths)} images: expected {wish}")
    return times


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_HEAD_BYTES)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error


def _read_times(path: Path) -> dict[str, int]:
    """Return the times of a table by the files' names."""
    table = read_table(path, f"{NAMES}, {EXIF}, or a CSV file")
    file_column, time_column = table.column(_FILE_COLUMNS), table.column(TIME_COLUMNS)
    if file_column is None or time_column is None:
        found = ", ".join(table.columns)[:200]
        raise RecordingError(f"{path}: expected a column file and a column time, found {found!r}")
    times: dict[str, int] = {}
    for line, row in table.rows:
        text = table.cell(row, time_column)
        time_ns = parse_utc(text)
        if time_ns is None:
            raise RecordingError(
                f"{path}: line {line}: {text[:40]!r} is no time: expected such as 2026-01-31T14:25:30.25Z"
            )
        times[PurePath(table.cell(row, file_column)).name] = time_ns
    return times

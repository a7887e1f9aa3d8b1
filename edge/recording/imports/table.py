"""Tables of text (CSV) with a heading, read whole within a limit."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import RecordingError

MAX_TABLE_BYTES = 64 << 20
TIME_COLUMNS = ("time", "utc", "timestamp", "datetime", "exif_time")


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table's cells."""

    path: Path
    columns: dict[str, int]
    """Position by name in lower case."""
    rows: list[tuple[int, list[str]]]
    """(line of the file, cells)"""

    def column(self, names: Sequence[str]) -> int | None:
        """Return the position of the first of these columns that the table has."""
        return next((self.columns[name] for name in names if name in self.columns), None)

    def cell(self, row: list[str], position: int | None) -> str:
        """Return a cell's text; empty where the row or the column is not there."""
        return row[position].strip() if position is not None and position < len(row) else ""


def read_table(path: Path, hint: str) -> Table:
    """Read a table.

    Args:
        path: the file.
        hint: what was expected, for errors.
    Raises:
        RecordingError: cannot be read, too large, or not a table.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise RecordingError(f"{path}: more than {MAX_TABLE_BYTES} bytes: expected {hint}")
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            heading = next(reader, [])
            rows = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror}): expected {hint}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{path}: not a CSV file ({error}): save the table as CSV in UTF-8") from error
    columns: dict[str, int] = {}
    for n, name in enumerate(heading):
        columns.setdefault(name.strip().lower(), n)
    return Table(path=path, columns=columns, rows=rows)

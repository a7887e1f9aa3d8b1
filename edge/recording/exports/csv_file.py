"""A table as CSV: a line that does not fit on the disk is not begun."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from edge.recording.disk import WholePieces


class CsvFile:
    """One table; use as a context."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file = WholePieces(path)
        self.add(columns)

    def add(self, values: Sequence[Any]) -> None:
        """Add a line; OSError where it does not fit."""
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._file.write(line.getvalue().encode())

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def __enter__(self) -> "CsvFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""A table as Parquet, by pyarrow (extra: parquet). Its index is at its end: an unfinished one cannot be read."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

BATCH_ROWS = 4096


class ParquetFile:
    """One table; use as a context."""

    def __init__(self, path: Path, columns: dict[str, type]) -> None:
        """Begin the file; columns of other types than bool, int and float are text."""
        import pyarrow
        import pyarrow.parquet

        types = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
        self._arrow = pyarrow
        self._path = path
        self._schema = pyarrow.schema([(name, types.get(kind, pyarrow.string())) for name, kind in columns.items()])
        self._kinds = tuple(columns.values())
        self._rows: list[Sequence[Any]] = []
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)

    def add(self, values: Sequence[Any]) -> None:
        """Add a row; OSError where it does not fit."""
        self._rows.append(values)
        if len(self._rows) >= BATCH_ROWS:
            self._write()

    def _write(self) -> None:
        arrays = [
            self._arrow.array([_as(kind, row[place]) for row in self._rows], type=field.type)
            for place, (kind, field) in enumerate(zip(self._kinds, self._schema, strict=True))
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []

    def __enter__(self) -> "ParquetFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_whole = False
        try:
            if error is None:
                self._write()
                self._writer.close()
                is_whole = True
        finally:
            if not is_whole:
                with contextlib.suppress(OSError, self._arrow.ArrowException):
                    self._writer.close()
                self._path.unlink(missing_ok=True)


def _as(kind: type, value: Any) -> Any:
    return value if value is None or kind in (bool, int, float) else str(value)

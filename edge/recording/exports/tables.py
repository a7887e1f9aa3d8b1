"""Classifications, poses, statuses and truths as tables: a line a message, a column for every value in it."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from edge.recording.exports.csv_file import CsvFile
from edge.recording.exports.task import Task
from edge.recording.reader import Event
from edge.transport.messages import Trace

log = logging.getLogger(__name__)

MAX_COLUMNS = 4096
"""Names of values come from the file, and each takes memory."""
Value = bool | int | float | str | None


def write_table(task: Task) -> None:
    """Write STREAM.csv or STREAM.parquet, `/` in its name as `-`; columns are named by the path to a value.

    Raises:
        ModuleNotFoundError: Parquet is wanted, and pyarrow not installed.
    """
    columns = _columns(task)
    name = task.stream.replace("/", "-")
    if task.table_format == "parquet":
        from edge.recording.exports.parquet_file import ParquetFile

        with ParquetFile(task.folder / f"{name}.parquet", columns) as table:
            _fill(task, table, columns)
    else:
        with CsvFile(task.folder / f"{name}.csv", tuple(columns)) as lines:
            _fill(task, lines, columns)


def _fill(task: Task, table: Any, columns: dict[str, type]) -> None:
    for row in _rows(task, is_noted=True):
        table.add(tuple(row.get(column) for column in columns))
        task.note(True)


def _columns(task: Task) -> dict[str, type]:
    """Return every column that any message fills, with the type of its values, in the order of appearance."""
    columns: dict[str, type] = {}
    for row in _rows(task, is_noted=False):
        for name, value in row.items():
            if name not in columns and len(columns) == MAX_COLUMNS:
                log.warning("%s: more than %d different values: the rest has no column", task.stream, MAX_COLUMNS)
                return columns
            known = columns.setdefault(name, type(value))
            if known is not type(value):
                columns[name] = _wider(known, type(value))
    return columns


def _wider(one: type, other: type) -> type:
    kinds = {one, other} - {type(None)}
    if len(kinds) == 1:
        return kinds.pop()
    return float if kinds == {int, float} else str


def _rows(task: Task, *, is_noted: bool) -> Iterator[dict[str, Value]]:
    for event in task.events(is_noted=is_noted):
        head: dict[str, Value] = {"received_ns": event.log_ns, "utc": task.utc(event.log_ns)}
        for content in _contents(event):
            yield {**head, **dict(_values("", content))}


def _contents(event: Event) -> Iterable[Any]:
    """Return what becomes a line each: a message, but of a trace every inference."""
    if isinstance(event.message, Trace):
        return map(msgspec.to_builtins, event.message.inferences)
    return (_content(event),)


def _content(event: Event) -> Any:
    return msgspec.to_builtins(event.message) if event.message is not None else {"frame": event.payload.hex()}


def _values(path: str, content: Any) -> Iterator[tuple[str, Value]]:
    """Yield name and value of everything in a message; what is in a list is named by its `name`, or its place."""
    if isinstance(content, dict):
        for key, inner in content.items():
            yield from _values(f"{path}.{key}" if path else str(key), inner)
    elif isinstance(content, list | tuple):
        for place, inner in enumerate(content):
            key = inner.pop("name", place) if isinstance(inner, dict) else place
            yield from _values(f"{path}.{key}", inner)
    else:
        yield path, content

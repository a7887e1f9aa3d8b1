"""Which flights are meant by what was typed."""

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """A recording on disk."""

    name: str
    """The file's, or, where several have the same, the whole path."""
    path: Path


def find_flights(patterns: Sequence[str]) -> tuple[Flight, ...]:
    """Return the flights that files and patterns such as `flights/*.mcap` name, each once, in the order of typing.

    Raises:
        ConfigError: a file is not there, or a pattern matches nothing.
    """
    paths = {path.resolve(): path for pattern in patterns for path in _matching(pattern)}
    counts = Counter(path.name for path in paths.values())
    return tuple(Flight(name=path.name if counts[path.name] == 1 else str(path), path=path) for path in paths.values())


def _matching(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_file():
        return [path]
    found = [Path(one) for one in sorted(glob.glob(pattern, recursive=True)) if Path(one).is_file()]  # noqa: PTH207
    if not found:
        what = "this pattern matches no file" if glob.has_magic(pattern) else "no such file"
        raise ConfigError(f"{pattern}: {what}: expected recorded flights, such as flights/*.mcap")
    return found

"""Which flights are meant by what was typed."""

import glob
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.errors import ConfigError

_NOT_TEXT = re.compile("[\ud800-\udfff]")
"""What Python makes of a byte of a file name that is not UTF-8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """A recording on disk."""

    name: str
    """The file's, or, where several have the same, the whole path; no two flights have the same one."""
    path: Path


def find_flights(patterns: Sequence[str]) -> tuple[Flight, ...]:
    """Return the flights that files and patterns such as `flights/*.mcap` name, each once, in the order of typing.

    Raises:
        ConfigError: a file is not there, or a pattern matches nothing.
    """
    paths = list({path.resolve(): path for pattern in patterns for path in _matching(pattern)}.values())
    names = _set_apart([shown(path.name) for path in paths], [shown(str(path)) for path in paths])
    numbered = _set_apart(names, [f"{name} ({n})" for n, name in enumerate(names, 1)])
    return tuple(Flight(name=name, path=path) for name, path in zip(numbered, paths, strict=True))


def shown(text: str) -> str:
    """Return text of which every character can be printed, kept and written: a file name may be no text at all."""
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def _set_apart(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """Return names, the longer ones in place of those that occur more than once."""
    counts = Counter(names)
    return [name if counts[name] == 1 else long for name, long in zip(names, longer, strict=True)]


def _matching(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_file():
        return [path]
    found = [Path(one) for one in sorted(glob.glob(pattern, recursive=True)) if Path(one).is_file()]  # noqa: PTH207
    if not found:
        what = "this pattern matches no file" if glob.has_magic(pattern) else "no such file"
        raise ConfigError(f"{pattern}: {what}: expected recorded flights, such as flights/*.mcap")
    return found

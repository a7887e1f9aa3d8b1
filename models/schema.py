"""Strict YAML: text -> frozen `msgspec.Struct`, every problem at once, each with its file and line.

YAML 1.1 turns `no` into False, `012` into 10 and `1:30` into 90, keeps the last of two equal keys, and expands
aliases without bound. None of that reaches a configuration here.
"""

import difflib
import math
import operator
import re
import reprlib
import stat
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from models.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

T = TypeVar("T")
KeyPath = tuple[str, ...]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TRAPS = (
    (re.compile(r"[-+]?0[0-9_]+"), "YAML reads a leading zero as octal: write it without, or in quotes"),
    (re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"), "YAML reads this as base 60: put it in quotes"),
    (re.compile(r"(?i)yes|no|on|off"), "YAML reads this as true or false: write that, or put it in quotes"),
)
_TEXT = "tag:yaml.org,2002:str"
_DATE = "tag:yaml.org,2002:timestamp"
_UNREADABLE = object()
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def load_yaml(path: Path, into: type[T]) -> T:
    """Read a YAML file into `into`.

    Raises:
        ConfigError: the file is absent, too large, not YAML, or does not fit; the message has a line per problem.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would keep us waiting, a device never end
            raise ConfigError(f"{path}: cannot be read (not a regular file): name an existing YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): name an existing YAML file") from error
    return parse_yaml(data, into, str(path))


def parse_yaml(data: bytes, into: type[T], where: str) -> T:
    """Parse YAML bytes into `into`; `where` names the source in messages. Raises as `load_yaml`."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{where}: too large: at most {MAX_BYTES} bytes are accepted")
    document = _Document(where)
    try:
        text = data.decode()
        document.refuse_unbounded(text)
        node = yaml.compose(text, Loader=_LOADER)
        value = document.plain(node, ()) if node is not None else {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: not UTF-8 text (byte {error.start})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{where}:{line}: not YAML: {problem}") from error
    document.fit(into, value, ())
    if document.problems:
        raise ConfigError("\n".join(text for _, text in sorted(document.problems, key=operator.itemgetter(0))))
    return msgspec.convert(value, into)


def dump_yaml(value: object) -> bytes:
    """Serialize a struct so that `parse_yaml` reads it back equal; keys keep their order."""
    return yaml.safe_dump(msgspec.to_builtins(value), sort_keys=False, width=110).encode()


class _Document:
    """One YAML text on its way into a struct: where each key stands, and what is wrong with it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[tuple[int, str]] = []

    def complain(self, path: KeyPath, text: str, line: int | None = None) -> None:
        line = line or next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), 1)
        name = f"{'.'.join(path)}: " if path else ""
        self.problems.append((line, f"{self.where}:{line}: {name}{text}"))

    def refuse_unbounded(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{self.where}:{line}: aliases (*{event.anchor}) are not accepted: repeat the value")
            if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
                raise ConfigError(f"{self.where}:{line}: tags ({event.tag}) are not accepted: write the plain value")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise ConfigError(f"{self.where}:{line}: nested deeper than {MAX_DEPTH} levels")

    def plain(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key_node, value_node in node.value:
                line = key_node.start_mark.line + 1
                if not isinstance(key_node, yaml.ScalarNode):
                    self.complain(path, "a key is not plain text", line)
                    continue
                key = str(key_node.value)
                if key in mapping:
                    self.complain((*path, key), "given twice: keep one", line)
                mapping[key] = self.plain(value_node, (*path, key))
                here = (*path, key)
                self.lines[here] = line
            return mapping
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(child, (*path, str(n))) for n, child in enumerate(node.value)]
        return self.scalar(node, path)

    def scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        if node.tag in (_TEXT, _DATE):
            return node.value
        shown = _SHORT.repr(node.value)
        for pattern, advice in _TRAPS:
            if pattern.fullmatch(node.value):
                self.complain(path, f"{shown}: {advice}")
                return _UNREADABLE
        try:
            value = yaml.constructor.SafeConstructor().construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.complain(path, f"{shown} cannot be read: {getattr(error, 'problem', None) or error}")
            return _UNREADABLE
        if isinstance(value, float) and not math.isfinite(value):
            self.complain(path, f"expected a finite number, got {node.value}")
            return _UNREADABLE
        return value

    def fit(self, into: Any, value: Any, path: KeyPath) -> bool:
        """Say whether `value` converts to `into`, noting every problem instead of stopping at the first."""
        struct = _struct_for(into, value)
        fits = value is not _UNREADABLE
        if struct is not None:
            fits = fits and self.fit_struct(struct, value, path)
        elif isinstance(value, dict) and (tags := _tags(into)):
            self.complain_kind(tags, value, path)
            fits = False
        else:
            children = [self.fit(element, child, (*path, key)) for element, child, key in _children(into, value)]
            fits = fits and all(children)
        return fits and self.convert(into, value, path)

    def fit_struct(self, struct: type[msgspec.Struct], value: Any, path: KeyPath) -> bool:
        if not isinstance(value, dict):
            self.complain(path, f"expected keys of {struct.__name__}, got {_SHORT.repr(value)}")
            return False
        before = len(self.problems)
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        config = struct.__struct_config__
        for key in value:
            if key not in fields and key != config.tag_field and config.forbid_unknown_fields:
                close = difflib.get_close_matches(key, fields, n=1)
                hint = f": did you mean {close[0]}?" if close else f": known are {', '.join(fields)}"
                self.complain((*path, key), f"unknown key{hint}")
        for name, field in fields.items():
            if field.required and name not in value:
                self.complain(path, f"{name} is missing")
        fits = [self.fit(fields[name].type, child, (*path, name)) for name, child in value.items() if name in fields]
        return all(fits) and len(self.problems) == before

    def complain_kind(self, tags: dict[str, list[str]], value: dict[str, Any], path: KeyPath) -> None:
        ((field, known),) = tags.items()
        found = f"got {_SHORT.repr(value[field])}" if field in value else "but it is missing"
        self.complain((*path, field), f"expected one of {', '.join(known)}, {found}")

    def convert(self, into: Any, value: Any, path: KeyPath) -> bool:
        try:
            msgspec.convert(value, into)
        except msgspec.ValidationError as error:
            text = re.sub(r" - at `\$.*`$", "", str(error)).replace("`", "")
            text = text[:1].lower() + text[1:]
            if isinstance(value, str | int | float) and text.startswith("expected") and ", got" in text:
                text = f"{text.split(', got')[0]}, got {_SHORT.repr(value)}"
            self.complain(path, text)
            return False
        return True


def _members(into: Any) -> tuple[Any, ...]:
    if typing.get_origin(into) in (typing.Union, types.UnionType):
        return typing.get_args(into)
    return (into,)


def _struct_for(into: Any, value: Any) -> type[msgspec.Struct] | None:
    """Return the struct that `value` is meant to be, or None where another type is expected."""
    structs = [m for m in _members(into) if isinstance(m, type) and issubclass(m, msgspec.Struct)]
    plain = set(_members(into)) - {*structs, type(None)}
    if len(structs) == 1 and not (value is None and len(_members(into)) > 1):
        return structs[0] if isinstance(value, dict) or not plain else None
    for struct in structs:
        config = struct.__struct_config__
        if isinstance(value, dict) and config.tag_field and value.get(config.tag_field) == config.tag:
            return struct
    return None


def _tags(into: Any) -> dict[str, list[str]]:
    """Return the tag field of a union of structs with the tags that it may hold; empty where there is no choice."""
    tags: dict[str, list[str]] = {}
    for member in _members(into):
        config = getattr(member, "__struct_config__", None)
        if config is not None and config.tag_field:
            tags.setdefault(config.tag_field, []).append(str(config.tag))
    return tags if sum(map(len, tags.values())) > 1 else {}


def _children(into: Any, value: Any) -> Iterator[tuple[Any, Any, str]]:
    """Yield what a list or a mapping of `into` holds: the type it is meant to be, the value, its key."""
    for member in _members(into):
        origin, arguments = typing.get_origin(member), typing.get_args(member)
        if isinstance(value, list) and origin in (list, tuple):
            yield from ((arguments[0], child, str(n)) for n, child in enumerate(value))
        elif isinstance(value, dict) and origin is dict:
            yield from ((arguments[1], child, key) for key, child in value.items())

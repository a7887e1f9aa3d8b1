"""Strict YAML: text -> frozen `msgspec.Struct`, every problem at once, each with its file and line.

YAML 1.1 turns `no` into False, `012` into 10 and `1:30` into 90, keeps the last of two equal keys, and expands
aliases without bound. None of that reaches a configuration here.
"""

import difflib
import re
import types
import typing
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
)


def load_yaml(path: Path, into: type[T]) -> T:
    """Read a YAML file into `into`.

    Raises:
        ConfigError: the file is absent, too large, not YAML, or does not fit; the message has a line per problem.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): name an existing YAML file") from error
    return parse_yaml(data, into, str(path))


def parse_yaml(data: bytes, into: type[T], where: str) -> T:
    """Parse YAML bytes into `into`; `where` names the source in messages. Raises as `load_yaml`."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{where}: {len(data)} bytes, at most {MAX_BYTES} are accepted")
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
        raise ConfigError(f"{where}:{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    result = document.fit(into, value, ())
    if document.problems:
        raise ConfigError("\n".join(document.problems))
    return typing.cast(T, result)


def dump_yaml(value: object) -> bytes:
    """Serialize a struct so that `parse_yaml` reads it back equal; keys keep their order."""
    return yaml.safe_dump(msgspec.to_builtins(value), sort_keys=False, width=110).encode()


class _Document:
    """One YAML text on its way into a struct: where each key stands, and what is wrong with it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[str] = []

    def complain(self, path: KeyPath, text: str, line: int | None = None) -> None:
        line = line or next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), 1)
        name = f"{'.'.join(path)}: " if path else ""
        self.problems.append(f"{self.where}:{line}: {name}{text}")

    def refuse_unbounded(self, text: str) -> None:
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{self.where}:{line}: aliases (*{event.anchor}) are not accepted: repeat the value")
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
                key = str(key_node.value)
                line = key_node.start_mark.line + 1
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
        if getattr(node, "style", None) is None:
            for pattern, advice in _TRAPS:
                if pattern.fullmatch(node.value):
                    self.complain(path, f"{node.value}: {advice}")
                    return node.value
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value
        constructor = yaml.constructor.SafeConstructor()
        try:
            return constructor.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.complain(path, f"{node.value!r} cannot be read: {error}")
            return node.value

    def fit(self, into: Any, value: Any, path: KeyPath) -> Any:
        """Convert `value`, noting every problem instead of stopping at the first."""
        before = len(self.problems)
        struct = _struct_for(into, value)
        if struct is not None:
            self.fit_struct(struct, value, path)
        elif isinstance(value, list) and (element := _element_type(into)) is not None:
            for n, child in enumerate(value):
                self.fit(element, child, (*path, str(n)))
        elif isinstance(value, dict) and typing.get_origin(into) is dict:
            for key, child in value.items():
                self.fit(typing.get_args(into)[1], child, (*path, key))
        if len(self.problems) > before:
            return None
        try:
            return msgspec.convert(value, into)
        except msgspec.ValidationError as error:
            text = re.sub(r" - at `\$.*`$", "", str(error)).replace("`", "")
            text = text[:1].lower() + text[1:]
            if isinstance(value, str | int | float) and text.startswith("expected") and ", got" in text:
                text = f"{text.split(', got')[0]}, got {value!r}"
            self.complain(path, text)
            return None

    def fit_struct(self, struct: type[msgspec.Struct], value: Any, path: KeyPath) -> None:
        if not isinstance(value, dict):
            self.complain(path, f"expected keys of {struct.__name__}, got {value!r}")
            return
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        tag = struct.__struct_config__.tag_field
        for key in value:
            if key not in fields and key != tag:
                close = difflib.get_close_matches(key, fields, n=1)
                hint = f": did you mean {close[0]}?" if close else f": known are {', '.join(fields)}"
                self.complain((*path, key), f"unknown key{hint}")
        for name, field in fields.items():
            if name in value:
                self.fit(field.type, value[name], (*path, name))
            elif field.required:
                self.complain(path, f"{name} is missing")


def _members(into: Any) -> tuple[Any, ...]:
    if typing.get_origin(into) in (typing.Union, types.UnionType):
        return typing.get_args(into)
    return (into,)


def _struct_for(into: Any, value: Any) -> type[msgspec.Struct] | None:
    """Return the struct that `value` is meant to be, or None where another type is expected."""
    structs = [m for m in _members(into) if isinstance(m, type) and issubclass(m, msgspec.Struct)]
    if len(structs) == 1 and not (value is None and len(_members(into)) > 1):
        return structs[0]
    for struct in structs:
        config = struct.__struct_config__
        if isinstance(value, dict) and config.tag_field and value.get(config.tag_field) == config.tag:
            return struct
    return None


def _element_type(into: Any) -> Any:
    for member in _members(into):
        if typing.get_origin(member) in (list, tuple):
            return typing.get_args(member)[0]
    return None

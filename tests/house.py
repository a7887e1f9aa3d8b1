"""The project's own source, parsed, for the tests that hold it to the rules of the house."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("models", "edge", "trainer", "calibration")
GENERATED = {"edge/mavlink/wire/dialect.py"}


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Return every Python file of ours by its path from the root: packages, tests, and scripts under launch/."""
    files = [file for folder in (*PACKAGES, "tests") for file in sorted((ROOT / folder).rglob("*.py"))]
    files += [file for file in sorted((ROOT / "launch").rglob("*")) if _is_python(file)]
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text(), str(file)) for file in files}


def package_sources() -> dict[str, ast.Module]:
    """Return the written files of the packages: without tests, scripts and what is generated."""
    return {path: tree for path, tree in sources().items() if path.startswith(PACKAGES) and path not in GENERATED}


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield each imported module with its line; `from a import b` gives both a and a.b, as b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module, node.lineno
            yield from ((f"{module}.{name.name}", node.lineno) for name in node.names)


def is_within(module: str, parent: str) -> bool:
    """Say whether a dotted name is `parent` or lies in it."""
    return module == parent or module.startswith(f"{parent}.")


def _is_python(file: Path) -> bool:
    return file.is_file() and (file.suffix == ".py" or file.read_bytes()[:40].startswith(b"#!/usr/bin/env python"))

"""What differs between two bundles: fields of the manifest, graphs, files, metrics."""

from typing import Any

import msgspec

from models.bundle import Bundle

_OWN_SECTION = ("files", "metrics")


def differences(first: Bundle, second: Bundle) -> dict[str, Any]:
    """Return `fields` {path: [first, second]}, `files` {name: changed|added|removed} and `metrics`, as `fields`.

    A value that a bundle lacks is None. Signatures are not compared: they say who made a bundle, not what it is.
    """
    flat = [_flat(_fields(one), ()) for one in (first, second)]
    metrics = [one.manifest.metrics for one in (first, second)]
    return {"fields": _unequal(*flat), "files": _changed_files(first, second), "metrics": _unequal(*metrics)}


def _fields(bundle: Bundle) -> dict[str, Any]:
    """Return the manifest's fields; graphs by their files, as their order says nothing."""
    fields: dict[str, Any] = msgspec.to_builtins(bundle.manifest)
    fields["graphs"] = {graph.pop("file"): graph for graph in fields["graphs"]}
    return {name: value for name, value in fields.items() if name not in _OWN_SECTION}


def _flat(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """Return leaves by dotted path; lists, whose order matters, are leaves."""
    if not isinstance(value, dict):
        return {".".join(path): value}
    return {name: leaf for key, child in value.items() for name, leaf in _flat(child, (*path, key)).items()}


def _unequal(first: dict[str, Any], second: dict[str, Any]) -> dict[str, list[Any]]:
    names = [*first, *(name for name in second if name not in first)]
    return {name: [first.get(name), second.get(name)] for name in names if first.get(name) != second.get(name)}


def _changed_files(first: Bundle, second: Bundle) -> dict[str, str]:
    before, after = first.manifest.files, second.manifest.files
    return {
        name: "removed" if name not in after else "added" if name not in before else "changed"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }

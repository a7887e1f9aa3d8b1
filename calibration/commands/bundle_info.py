"""`uav-calibrate bundle info`: what a bundle holds."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.commands.bundle_trust import add_trust_arguments, signature_as_json, signature_text, trust_of
from models.command_line import print_json

if TYPE_CHECKING:
    from models.bundle import Bundle


def configure(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a .uavb folder, a .uavb.tar, or a store's current")
    add_trust_arguments(parser)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")


def run(args: argparse.Namespace) -> int:
    """Verify and show."""
    from models.bundle import open_bundle

    bundle = open_bundle(args.bundle, trust_of(args))
    _print_text(bundle)
    if args.json:
        print_json(_as_json(bundle))
    return 0


def _print_text(bundle: "Bundle") -> None:
    from rich.console import Console
    from rich.table import Table

    manifest = bundle.manifest
    graphs = Table(title="graphs", title_justify="left")
    for heading in ("role", "precision", "target", "batch", "file"):
        graphs.add_column(heading)
    graphs.add_column("bytes", justify="right")
    for graph in manifest.graphs:
        size = f"{manifest.files[graph.file].size_bytes:_}"
        graphs.add_row(graph.role, graph.precision, graph.target, graph.batch, graph.file, size)
    console = Console()
    for line in _lines(bundle):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(graphs)
    for name, value in manifest.metrics.items():
        console.print(f"{name}: {value:.6g}", markup=False, highlight=False, soft_wrap=True)


def _lines(bundle: "Bundle") -> list[str]:
    manifest = bundle.manifest
    approved = [
        f"{target}: {', '.join(f'{role} {precision}' for role, precision in roles.items())}"
        for target, roles in manifest.approved.items()
    ]
    others = sorted(set(manifest.files) - {graph.file for graph in manifest.graphs})
    modalities = (
        f"{one.name} {'x'.join(map(str, one.recipe.input_shape))} ({type(one.recipe).__struct_config__.tag})"
        for one in manifest.spec.modalities
    )
    return [
        f"{manifest.title}: {manifest.description} ({manifest.licence})",
        f"manifest: SHA-256 {bundle.sha256}, {signature_text(bundle)}",
        f"classes: {', '.join(manifest.spec.classes)}",
        f"modalities: {', '.join(modalities)}; fusion: {manifest.spec.fusion.method}",
        f"approved: {'; '.join(approved) or 'nothing: it flies in fp32'}",
        f"other files: {', '.join(others) or 'none'}",
    ]


def _as_json(bundle: "Bundle") -> dict[str, Any]:
    import msgspec

    manifest = bundle.manifest
    facts: dict[str, Any] = msgspec.to_builtins(manifest)
    for graph in facts["graphs"]:
        graph["size_bytes"] = manifest.files[graph["file"]].size_bytes
    return {"bundle": str(bundle.path), "sha256": bundle.sha256, "signature": signature_as_json(bundle), **facts}

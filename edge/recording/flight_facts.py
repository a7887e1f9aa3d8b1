"""What a recording says about its flight, so that it can be understood without the machine that flew it."""

import importlib.metadata
import json
import logging
import platform
from pathlib import Path

import msgspec

from edge.config import FlightConfig
from edge.recording.flight_files import Attachment, Contents
from edge.transport.messages import NOTHING_INJECTED, Injected
from models.bundle import open_bundle
from models.errors import BundleError
from models.manifest import MANIFEST_FILE

log = logging.getLogger(__name__)

_PACKAGES = ("uav-fusion-edge", "numpy", "pyzmq", "msgspec", "mcap", "pymavlink", "onnxruntime")


FAULTS_FILE = "faults.json"
"""Attachment with the faults that were injected."""
INJECTED = "injected_faults"
"""Of the metadata: their names."""


def about_flight(config: FlightConfig, path: Path, injected: Injected = NOTHING_INJECTED) -> Contents:
    """Return the deployment, the bundle's manifest with its hash, and versions; without a bundle all but that.

    Args:
        config: the deployment.
        path: its file.
        injected: faults that befall it on purpose.
    """
    metadata = {"bundle": Path(config.bundle).name}
    attachments = [
        Attachment(name="flight.yaml", media_type="application/yaml", data=path.read_bytes()),
        Attachment(name="versions.json", media_type="application/json", data=_versions()),
    ]
    if injected.faults:
        metadata[INJECTED] = " ".join(injected.faults)
        data = msgspec.json.encode(injected)
        attachments.append(Attachment(name=FAULTS_FILE, media_type="application/json", data=data))
    try:
        bundle = open_bundle(Path(config.bundle))
    except BundleError as error:
        log.warning("the recording will not say which model flew: %s", error)
    else:
        metadata |= {"model": bundle.manifest.title, "bundle_sha256": bundle.sha256}
        manifest = bundle.head[MANIFEST_FILE]
        attachments.append(Attachment(name=MANIFEST_FILE, media_type="application/yaml", data=manifest))
    return Contents(metadata=metadata, attachments=tuple(attachments))


def _versions() -> bytes:
    """Return the versions of what records, as JSON."""
    found = {"python": platform.python_version(), "system": platform.platform(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # as where the code runs from a checkout
            found[package] = "not installed"
    return json.dumps(found).encode()

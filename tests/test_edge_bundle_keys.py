import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.bundle import add_signature, open_bundle, shipped_bundle
from models.errors import BundleError
from models.manifest import MANIFEST_FILE
from models.signature import make_keys, read_private_key, sign
from models.store import install

FLIGHT = """
bundle: store/current
bundle_keys: [ours.pub]
results: ipc://{folder}/results
streams:
  radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: 100}}
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    """A deployment that demands a signature, and `model.uavb` beside it, which has none."""
    make_keys(tmp_path / "ours", tmp_path / "ours.pub")
    make_keys(tmp_path / "theirs", tmp_path / "theirs.pub")
    shutil.copytree(shipped_bundle(), tmp_path / "model.uavb")
    (tmp_path / "flight.yaml").write_text(FLIGHT.format(folder=tmp_path))
    return tmp_path


def put(folder: Path, key: str) -> None:
    """Sign the model, if a key is named, and install it."""
    bundle = open_bundle(folder / "model.uavb")
    if key:
        add_signature(bundle, sign(bundle.head[MANIFEST_FILE], read_private_key(folder / key)))
    install(folder / "store", open_bundle(folder / "model.uavb"), lambda _: None)


def fly(root: Path, folder: Path, seconds: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "run", "--config", str(folder / "flight.yaml"), "--seconds", str(seconds)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("key", "message"), [("", "not signed, and a signature is required"), ("theirs", "trusted are")]
)
def test_a_flight_that_demands_a_signature_refuses_a_bundle_without_it(
    root: Path, deployment: Path, key: str, message: str
) -> None:
    put(deployment, key)
    code, said = fly(root, deployment, 60)  # ends at the refusal
    assert code == BundleError.exit_code
    assert message in said


def test_a_flight_takes_a_bundle_that_is_signed_by_a_key_it_names(root: Path, deployment: Path) -> None:
    put(deployment, "ours")
    code, said = fly(root, deployment, 2)
    assert code == 0, said
    assert "signed" not in said

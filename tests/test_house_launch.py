"""What launch/ holds does what its first lines say."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from house import ROOT

from edge.config import FlightConfig, check_modalities, load_flight
from models.bundle import open_bundle
from models.schema import parse_yaml

SCRIPTS = sorted(
    file
    for file in (ROOT / "launch").rglob("*")
    if file.is_file() and file.read_bytes().startswith(b"#!/usr/bin/env bash")
)


@pytest.mark.parametrize("name", ["flight.yaml", "flight-two-cameras.yaml"])
def test_a_deployment_for_a_laptop_fits_the_shipped_model(root: Path, name: str) -> None:
    config = load_flight(root / "launch" / name)
    spec = open_bundle(Path(config.bundle)).spec
    check_modalities(config.streams, config.pipeline, spec.modality_names)
    assert {source.stream for source in config.sources} == set(config.streams)
    assert {stream.modality for stream in config.streams.values()} == set(spec.modality_names)


def test_what_the_deployment_suggests_in_comments_is_valid_too(root: Path) -> None:
    text = (root / "launch" / "flight.yaml").read_text()
    sources = re.findall(r"^#   - (\{kind: .*?\})", text, re.MULTILINE)
    assert len(sources) == 4
    text = text.replace("# recording:\n#   directory:", "recording:\n  directory:")
    for source in sources:
        other = re.sub(r"(?m)^sources:\n(  - .*\n)+", f"sources: [{source}]\n", text)
        assert parse_yaml(other.encode(), FlightConfig, "flight.yaml").recording is not None


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing_in_any_script() -> None:
    files = [*SCRIPTS, ROOT / "launch" / "environment.sh"]
    assert subprocess.run(["shellcheck", "--external-sources", *files], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_a_script_is_executable_and_stops_at_its_first_error(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


def test_the_build_machine_runs_the_test_command_and_nothing_else(root: Path) -> None:
    lines = (root / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'exec "$(dirname "${BASH_SOURCE[0]}")/../launch/test"']


@pytest.mark.parametrize("seen", ["no venv", "broken off", "another place"])
def test_an_environment_that_is_not_whole_is_not_trusted(root: Path, tmp_path: Path, seen: str) -> None:
    venv = tmp_path / ".venv"
    done = subprocess.run(["bash", "-c", SCRIPT, "bash", root / "launch" / "environment.sh", venv, seen], check=False)
    assert done.returncode == 0


SCRIPT = """
set -euo pipefail
source "$1"
venv=$2
if [ "$3" != "no venv" ]; then
  mkdir -p "$venv/bin"
  ln -s "$(command -v python3)" "$venv/bin/python"
  echo "$venv $(venv_version)" >"$venv/made-for"
  is_whole || { echo "a whole one is not taken for whole"; exit 1; }
fi
case $3 in
  "broken off") touch "$venv/unfinished" ;;
  "another place") mv "$venv" "$venv-moved"; venv="$venv-moved" ;;
esac
! is_whole
"""

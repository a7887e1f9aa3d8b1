"""launch/aarch64-test: before it makes a machine it says what this one lacks."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from house import ROOT

SCRIPT = ROOT / "launch" / "aarch64-test"
FOUND = {"uname": "echo x86_64", "id": "echo 0"}
"""Commands that the script finds, and what they do, on a machine of root's that lacks every tool."""
TOOLS = dict.fromkeys(("debootstrap", "qemu-aarch64-static", "unshare", "git"), "true")


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ({"uname": "echo aarch64"}, "this machine is aarch64 itself: run launch/test"),
        ({"id": "echo 1000"}, "needs root, for chroot and mount"),
        ({}, "debootstrap is missing: apt install debootstrap qemu-user-static"),
        ({"debootstrap": "true"}, "qemu-aarch64-static is missing: apt install debootstrap qemu-user-static"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path, commands: dict[str, str], said: str) -> None:
    done = run(tmp_path, {**FOUND, **commands})
    assert done.returncode == 4
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "bin"]


def test_with_everything_there_it_goes_on_with_mounts_and_processes_of_its_own(tmp_path: Path) -> None:
    done = run(tmp_path, {**FOUND, **TOOLS, "unshare": 'echo "$@"'})
    assert done.returncode == 0
    assert "--mount --pid" in done.stdout
    assert done.stdout.split()[-2:] == [str(tmp_path / "machine"), "inside"]


def run(folder: Path, commands: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the script where these commands alone are found."""
    (folder / "bin").mkdir()
    for name, line in commands.items():
        file = folder / "bin" / name
        file.write_text(f"#!/bin/sh\n{line}\n")
        file.chmod(0o755)
    for name in ("dirname", "mkdir"):
        (folder / "bin" / name).symlink_to(shutil.which(name) or name)
    environment = {**os.environ, "PATH": str(folder / "bin")}
    command = [shutil.which("bash") or "bash", SCRIPT, folder / "machine"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

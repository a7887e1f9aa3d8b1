"""Our messages for other programs: the XML that defines them, and what pymavlink's generator makes of it."""

import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from models.errors import ConfigError

XML = "xml"
INCLUDE = "<include>common.xml</include>"
GENERATORS = {
    "c": "C",
    "cpp": "C++11",
    "csharp": "CS",
    "java": "Java",
    "javascript": "JavaScript",
    "lua": "Lua",
    "python": "Python3",
    "swift": "Swift",
    "wireshark": "WLua",
}
"""What the command line calls a language, and what the generator does."""


def definitions_xml(*, has_include: bool = True) -> str:
    """Return the XML of our messages.

    Args:
        has_include: whether it says that it builds upon common.xml, which must then lie beside it.
    """
    text = resources.files("edge.mavlink.wire").joinpath("fusion.xml").read_text(encoding="utf-8")
    return text if has_include else "\n".join(line for line in text.splitlines() if line.strip() != INCLUDE) + "\n"


def generated(language: str) -> dict[Path, bytes]:
    """Return the files that define our messages in a language, without those of common.xml.

    Args:
        language: of GENERATORS.

    Raises:
        ConfigError: pymavlink's generator, which is a program of its own, does not do it.
    """
    with tempfile.TemporaryDirectory() as name:
        source, made = Path(name) / "fusion.xml", Path(name) / "modules"  # the one for Lua demands that name
        source.write_text(definitions_xml(has_include=False), encoding="utf-8")
        made.mkdir()
        command = [
            sys.executable, "-m", "pymavlink.tools.mavgen", "--lang", GENERATORS[language], "--wire-protocol", "2.0",
            "--output", str(made / "fusion"), str(source),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        files = {path.relative_to(made): path.read_bytes() for path in sorted(made.rglob("*")) if path.is_file()}
    if done.returncode or not files:
        why = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ConfigError(
            f"pymavlink's generator made nothing ({''.join(why)}): pip install --force-reinstall pymavlink"
        )
    return files

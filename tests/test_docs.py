"""The documentation says what the code does: its commands parse, its paths exist, its tables match."""

import argparse
import importlib
import os
import re
import shlex
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import ROOT

from calibration import cli as calibrate_cli
from edge import cli as edge_cli
from edge.pipeline import scheduler
from edge.transport import wire
from models import errors
from trainer import cli as train_cli

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
DEPLOYMENTS = sorted((ROOT / "launch").glob("*.yaml"))
TABLES = {"uav-edge": edge_cli.COMMANDS, "uav-train": train_cli.COMMANDS, "uav-calibrate": calibrate_cli.COMMANDS}
RUNS = {"launch/demo": ("uav-edge", "demo"), "launch/composite-flight": ("uav-train", "composite-flight")}
COMMAND = re.compile(r"(?:uav-(?:edge|train|calibrate) |launch/(?:demo|test|composite-flight)\b)[^`\n|;&>#'\")]*")
OUR_PATH = re.compile(r"(?:models|edge|trainer|calibration|tests|launch|docs|\.ci)/[\w./-]*\w")


def fenced(text: str) -> Iterator[str]:
    """Yield the lines of shell blocks, continuations joined."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


def inline(text: str) -> list[str]:
    """Return the code spans outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def parser_of(program: str, command: str) -> argparse.ArgumentParser:
    """Return a subcommand's parser."""
    parser = argparse.ArgumentParser(prog=f"{program} {command}", exit_on_error=False)
    importlib.import_module(TABLES[program][command][0]).configure(parser)
    return parser


def words_of(line: str) -> tuple[str, str, list[str]]:
    """Return program, command and arguments of a command line, for a script those of the command that it runs."""
    program, *rest = shlex.split(line)
    if program in RUNS:
        return *RUNS[program], rest
    return (program, "", rest) if program.startswith("launch/") else (program, rest[0], rest[1:])


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options that a parser knows."""
    return {option for action in parser._actions for option in action.option_strings}


def subcommands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of a command's own commands; none where it has none."""
    kinds = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(kinds, {}))


def faults(line: str, *, is_whole: bool) -> list[str]:
    """Return what is wrong with a command line; one that is not whole may lack what is required."""
    script = line.split()[0]
    if script.startswith("launch/") and not os.access(ROOT / script, os.X_OK):
        return [f"{line}: no such script"]
    program, command, arguments = words_of(line)
    if not command:
        return []
    if command not in TABLES[program]:
        return [f"{line}: no such command"]
    parser = parser_of(program, command)
    if is_whole:
        try:
            unknown = parser.parse_known_args(arguments)[1]
        except (argparse.ArgumentError, SystemExit) as error:
            return [f"{line}: {error}"]
        return [f"{line}: unknown {word}" for word in unknown]
    options, commands = options_of(parser), subcommands_of(parser)
    if commands and arguments and arguments[0] not in commands:
        return [f"{line}: no such command"]
    options |= options_of(commands[arguments[0]]) if commands and arguments else set()
    return [f"{line}: unknown {word}" for word in arguments if word.startswith("--") and word not in options]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_a_block_can_be_typed_as_it_stands(document: Path) -> None:
    lines = [match.group() for line in fenced(document.read_text()) for match in COMMAND.finditer(line)]
    assert [fault for line in lines for fault in faults(line, is_whole=True)] == []


@pytest.mark.parametrize("document", [*DOCUMENTS, *DEPLOYMENTS], ids=lambda path: path.name)
def test_every_command_that_is_mentioned_exists_with_its_options(document: Path) -> None:
    text = document.read_text()
    spans = inline(text) if document.suffix == ".md" else text.splitlines()
    lines = [match.group() for span in spans for match in COMMAND.finditer(span)]
    assert [fault for line in lines for fault in faults(line, is_whole=False)] == []


@pytest.mark.parametrize(
    ("line", "is_whole"),
    [
        ("uav-edge fly", False),
        ("uav-edge replay --exacct", False),
        ("uav-calibrate bundle unpack", False),
        ("uav-calibrate bundle install --stoer", False),
        ("uav-edge replay flight.mcap", True),
        ("launch/demo --secs 3", True),
        ("launch/absent", True),
    ],
)
def test_a_wrong_command_is_found(line: str, is_whole: bool) -> None:
    assert faults(line, is_whole=is_whole)


def test_the_documents_show_commands_at_all() -> None:
    shown = {
        words_of(match.group())[:2]
        for line in fenced((ROOT / "README.md").read_text())
        for match in COMMAND.finditer(line)
    }
    assert {("uav-edge", "demo"), ("uav-edge", "run"), ("uav-edge", "replay"), ("uav-train", "fit")} <= shown


def test_every_command_is_documented() -> None:
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    assert [
        f"{program} {name}" for program, table in TABLES.items() for name in table if f"{program} {name}" not in text
    ] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    named = [span for span in inline(text) if OUR_PATH.fullmatch(span)]
    named += re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    homes = (ROOT, document.parent)
    assert [path for path in named if not any((home / path).exists() for home in homes)] == []


def table(document: str, first_heading: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this heading."""
    lines = (ROOT / document).read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def test_the_table_of_the_header_is_the_header() -> None:
    codes = re.findall(r"\d*[a-zA-Z]", wire._HEADER.format.lstrip("<"))
    offsets = [struct.calcsize("<" + "".join(codes[:n])) for n in range(len(codes))]
    expected = list(zip(map(str, offsets), wire.Header._fields, strict=True))
    assert [(row[0], row[1]) for row in table("docs/architecture.md", "offset")] == expected
    sizes = {"4s": "4 bytes", "B": "uint8", "H": "uint16", "I": "uint32", "q": "int64", "f": "float32", "d": "float64"}
    assert [row[2] for row in table("docs/architecture.md", "offset")] == [sizes[code] for code in codes]


def test_every_exit_code_is_documented() -> None:
    ours = {str(kind.exit_code) for kind in vars(errors).values() if isinstance(kind, type)}
    assert ours <= {row[0] for row in table("README.md", "exit code")}


def test_every_reason_of_a_refusal_is_documented_with_its_remedy() -> None:
    reasons = {reason.value for reason in wire.Reason}
    states = {
        scheduler.STARTING,
        scheduler.SILENT,
        scheduler.STALE,
        scheduler.SKEWED,
        scheduler.SHED,
        scheduler.NO_STREAM,
    }
    rows = table("docs/troubleshooting.md", "reason")
    assert {row[0] for row in rows} == reasons | states
    assert all(len(row) == 3 and all(row) for row in rows)


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = re.findall(r"^## (\d+)\. ", (ROOT / "docs" / "decisions.md").read_text(), re.MULTILINE)
    assert numbers == [str(n + 1) for n in range(len(numbers))]
    assert numbers

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.cli import main
from models import errors
from models.command_line import check_writable, positive_seconds, run_command_line

PROGRAM = """
import sys
from models.command_line import run_command_line
sys.exit(run_command_line("prog", "For tests.", {"one": ("one", "the first"), "two": ("absent_module", "the second")}))
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, root: Path) -> Run:
    """Run a program whose command `one` has the given body, in a process of its own."""

    def run_body(body: str, *argv: str) -> "subprocess.CompletedProcess[str]":
        source = "def configure(parser):\n    parser.add_argument('--count', type=int)\n\n\ndef run(args):\n"
        (tmp_path / "one.py").write_text(source + textwrap.indent(body, "    "))
        path = os.pathsep.join([str(tmp_path), str(root)])
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *argv],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": path},
        )

    return run_body


def test_a_command_returns_its_exit_code_and_gets_its_options(run: Run) -> None:
    assert run("return args.count", "one", "--count", "1").returncode == 1
    assert run("return args.count", "one", "--count", "0").returncode == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConfigError", 2),
        ("BundleError", 3),
        ("DeviceError", 4),
        ("LinkError", 5),
        ("RecordingError", 6),
        ("InputError", 7),
    ],
)
def test_each_error_of_ours_ends_with_its_code_and_one_line_a_problem(run: Run, name: str, code: int) -> None:
    done = run(f"from models.errors import {name}\nraise {name}('first\\nsecond')", "one")
    assert done.returncode == code
    assert done.stderr == "prog: first\nprog: second\n"


def test_every_error_of_ours_has_an_exit_code_of_its_own() -> None:
    kinds = errors.OnboardError.__subclasses__()
    assert sorted(kind.exit_code for kind in kinds) == list(range(2, 2 + len(kinds)))


def test_debug_shows_the_traceback(run: Run) -> None:
    done = run("from models.errors import LinkError\nraise LinkError('x')", "--debug", "one")
    assert "Traceback" in done.stderr


def test_an_error_that_is_not_ours_is_not_hidden(run: Run) -> None:
    done = run("return 1 / 0", "one")
    assert "ZeroDivisionError" in done.stderr
    assert done.returncode == 1


def test_an_interrupt_ends_with_130_and_no_traceback(run: Run) -> None:
    done = run("raise KeyboardInterrupt", "one")
    assert (done.returncode, done.stderr) == (130, "")


def test_sigterm_unwinds_so_that_temporary_folders_go(tmp_path: Path, root: Path, run: Run) -> None:
    body = "import signal, tempfile\nwith tempfile.TemporaryDirectory() as folder:\n"
    run(body + "    print(folder, flush=True)\n    while True:\n        signal.pause()", "--help")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "one"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        process.terminate()
        _, stderr = process.communicate()
    assert (process.returncode, stderr) == (143, "")
    assert not folder.exists()


def test_a_missing_package_is_named_with_the_extra_that_brings_it(run: Run) -> None:
    done = run("import sys\nsys.modules['torch'] = None\nimport torch.nn", "one")
    assert done.returncode == 4
    assert done.stderr == "prog: torch is not installed: pip install 'uav-fusion-edge[train]'\n"


def test_a_missing_module_of_no_extra_is_not_hidden(run: Run) -> None:
    done = run("import no_such_module", "one")
    assert "Traceback" in done.stderr


def test_a_file_that_cannot_be_written_ends_in_one_line(run: Run, tmp_path: Path) -> None:
    done = run(f"open({str(tmp_path / 'absent' / 'out')!r}, 'w')", "one")
    assert done.returncode == errors.RecordingError.exit_code
    assert done.stderr.splitlines() == [
        f"prog: {tmp_path}/absent/out: No such file or directory: name another path, or make room"
    ]


@pytest.mark.parametrize("argv", [[], ["three"], ["one", "--cuont", "1"], ["one", "--count", "x"]])
def test_a_wrong_command_line_ends_with_2_and_usage(run: Run, argv: list[str]) -> None:
    done = run("return 0", *argv)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: prog")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
@pytest.mark.parametrize("command", [["run", "--config", "flight.yaml"], ["demo"]])
def test_a_length_of_time_that_is_none_is_refused(
    command: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--seconds", text])
    assert caught.value.code == 2
    assert f"argument --seconds: {text!r}: expected a number of seconds above 0" in capsys.readouterr().err


def test_a_length_of_time_is_read() -> None:
    assert positive_seconds("0.5") == 0.5


def test_only_the_chosen_command_is_imported(run: Run) -> None:
    assert run("return 0", "one").returncode == 0
    helped = run("return 0", "--help")
    assert helped.returncode == 0
    assert "the second" in helped.stdout
    assert "exit codes: 0 done, 1 a check failed, 2" in helped.stdout


def test_json_is_the_last_line_even_after_unflushed_output(run: Run) -> None:
    body = "from models.command_line import print_json\nprint('text', end='\\n')\nprint_json({'a': [1]})\nreturn 0"
    assert json.loads(run(body, "one").stdout.splitlines()[-1]) == {"a": [1]}


SUMMARY = """from edge.operations.summary_text import print_summary
print_summary({'results': 1, 'accounting': {}, 'restarts': 0})
return 0"""


@pytest.mark.parametrize("body", ["for n in range(100_000):\n    print(n)\nreturn 0", "print(1)\nreturn 0", SUMMARY])
def test_a_reader_that_leaves_early_causes_no_traceback(tmp_path: Path, root: Path, run: Run, body: str) -> None:
    run(body, "--help")  # only writes the command's module
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "one"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("body", ["print(1)\nreturn 0", SUMMARY])
def test_output_to_a_full_disk_ends_in_one_line(tmp_path: Path, root: Path, run: Run, body: str) -> None:
    run(body, "--help")  # only writes the command's module
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "one"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
        )
    assert done.returncode == errors.RecordingError.exit_code
    assert done.stderr == "prog: No space left on device: name another path, or make room\n"


def test_checking_outputs_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    check_writable(tmp_path / "old", tmp_path / "new", None)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "kept")]
    with pytest.raises(FileNotFoundError):
        check_writable(tmp_path / "absent" / "new")
    with pytest.raises(IsADirectoryError):
        check_writable(tmp_path)


def test_it_can_be_called_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command_line("prog", "For tests.", {}, ["--help"])
    assert caught.value.code == 0
    assert "usage: prog" in capsys.readouterr().out

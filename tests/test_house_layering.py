"""Who may import whom. The ruff.toml in each package says the same to the editor."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from house import PACKAGES, imported, is_within, package_sources, sources

MAY_IMPORT = {
    "models/": ("models",),
    "edge/": ("edge", "models"),
    "trainer/": (
        "trainer",
        "models",
        "edge.clock",
        "edge.recording",
        "edge.sources.synthetic",
        "edge.sources.synthetic_camera",
        "edge.sources.synthetic_radio",
        "edge.sources.synthetic_scene",
        "edge.transport",
    ),
    "calibration/": ("calibration", "models", "edge.backends"),
}
FLOORS_OF_MAVLINK = (
    ("wire", "geometry", "ports", "pace"),
    ("deployment",),
    ("trust",),
    ("network",),
    ("place", "logs"),
    ("outgoing",),
    ("control", "station"),
    ("process",),
)
"""Of edge/mavlink, from the bottom: each imports of itself and of the floors below."""
TORCH_MAY_BE_IN = ("models/nets/", "trainer/", "calibration/")
ONLY_IN = {
    "torch": TORCH_MAY_BE_IN,
    "safetensors": TORCH_MAY_BE_IN,
    "models.nets": TORCH_MAY_BE_IN,
    "zmq": ("edge/transport/sockets.py",),
    "pymavlink": ("edge/mavlink/",),
    "serial": ("edge/mavlink/",),
    "mcap": ("edge/recording/",),
    "onnxruntime": ("edge/backends/", "trainer/", "calibration/"),
    "onnx": ("calibration/",),
    "openvino": ("calibration/judging/rivals.py", "edge/bench/openvino.py"),
    "onnxscript": ("calibration/",),
    "tensorrt": ("edge/backends/trt.py", "calibration/plans/engine.py"),
    "pycuda": ("edge/backends/cuda.py",),
    "tensorrt_rtx": ("edge/backends/trt.py", "calibration/plans/engine.py"),
    "cv2": ("models/preprocess.py", "edge/sources/camera.py"),
    "SoapySDR": ("edge/sources/soapy.py",),
    "yaml": ("models/schema.py",),
    "cryptography": ("models/signature.py",),
    "pyulog": ("edge/mavlink/logs/ulog.py",),
    "pyarrow": ("edge/recording/exports/parquet_file.py",),
}
NOT_ON_THE_DRONE = (
    "torch", "safetensors", "onnx", "onnxscript", "matplotlib", "trainer", "calibration", "models.nets",
    "cv2", "serial", "SoapySDR", "cryptography", "pyarrow", "pyulog", "tensorrt", "pycuda", "pytest", "hypothesis",
)  # fmt: skip
"""What edge must import without: what the drone lacks, and what it may lack."""
SLOW_TO_IMPORT = ("numpy", "zmq", "torch", "onnxruntime", "pymavlink", "cv2", "mcap", "rich", "msgspec", "yaml")


def misplaced_ours(path: str, tree: ast.Module) -> list[str]:
    allowed = next(names for folder, names in MAY_IMPORT.items() if path.startswith(folder))
    return [
        f"{path}:{line}: {module}"
        for module, line in imported(tree)
        if module.startswith(".")
        or (
            module.partition(".")[0] in PACKAGES
            and not any(is_within(module, name) or is_within(name, module) for name in allowed)
        )
    ]


def misplaced_theirs(path: str, tree: ast.Module) -> list[str]:
    return [
        f"{path}:{line}: {module}"
        for module, line in imported(tree)
        for name, places in ONLY_IN.items()
        if is_within(module, name) and not path.startswith(places)
    ]


def misplaced_in_mavlink(path: str, tree: ast.Module) -> list[str]:
    room = path.split("/")[2].removesuffix(".py")
    (floor,) = (number for number, rooms in enumerate(FLOORS_OF_MAVLINK) if room in rooms)
    allowed = {room, *(below for rooms in FLOORS_OF_MAVLINK[:floor] for below in rooms)}
    return [
        f"{path}:{line}: {module}"
        for module, line in imported(tree)
        if module.startswith("edge.mavlink.") and module.split(".")[2] not in allowed
    ]


def test_folders_of_mavlink_import_only_what_lies_below_them() -> None:
    modules = {
        path: tree
        for path, tree in package_sources().items()
        if path.startswith("edge/mavlink/") and path != "edge/mavlink/__init__.py"
    }
    assert [line for path, tree in modules.items() for line in misplaced_in_mavlink(path, tree)] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("edge/mavlink/ports/x.py", "from edge.mavlink.network.link import Link"),
        ("edge/mavlink/place/x.py", "from edge.mavlink import process"),
        ("edge/mavlink/control/x.py", "import edge.mavlink.station.monitor"),
    ],
)
def test_an_import_up_the_floors_of_mavlink_is_found(path: str, text: str) -> None:
    assert misplaced_in_mavlink(path, ast.parse(text))


def test_packages_import_only_what_lies_below_them() -> None:
    assert [line for path, tree in package_sources().items() for line in misplaced_ours(path, tree)] == []


def test_each_library_is_imported_in_its_place_alone() -> None:
    assert [line for path, tree in package_sources().items() for line in misplaced_theirs(path, tree)] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("models/x.py", "import edge"),
        ("edge/x.py", "from trainer.training.loop import fit"),
        ("edge/x.py", "def f():\n    from calibration import export"),
        ("edge/pipeline/x.py", "from .. import clock"),
        ("trainer/x.py", "from edge.pipeline import gate"),
        ("trainer/x.py", "import edge.sources.camera"),
        ("trainer/x.py", "from edge.sources import camera"),
        ("calibration/x.py", "import trainer.config"),
    ],
)
def test_an_import_up_the_layers_is_found(path: str, text: str) -> None:
    assert misplaced_ours(path, ast.parse(text))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("edge/x.py", "import torch.nn"),
        ("edge/x.py", "from models import nets"),
        ("models/x.py", "from torch import nn"),
        ("edge/transport/wire.py", "import zmq"),
        ("edge/pipeline/x.py", "def f():\n    import cv2"),
        ("edge/config.py", "import yaml"),
    ],
)
def test_a_library_out_of_its_place_is_found(path: str, text: str) -> None:
    assert misplaced_theirs(path, ast.parse(text))


def test_an_import_within_the_layers_is_not_complained_of() -> None:
    allowed = ast.parse("from edge.sources.synthetic import site\nfrom edge.transport import wire\nimport models.spec")
    assert misplaced_ours("trainer/x.py", allowed) == []


def edge_modules() -> list[str]:
    """Return the modules of what flies: edge, and models without its networks."""
    paths = [Path(path) for path in sources() if path.startswith(("edge/", "models/"))]
    parts = [path.with_suffix("").parts for path in paths if "nets" not in path.parts]
    return sorted(".".join(name[:-1] if name[-1] == "__init__" else name) for name in parts)


def run_python(root: Path, source: str, *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *argv], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_of_edge_imports_where_only_the_core_is_installed(root: Path) -> None:
    source = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if any(name == absent or name.startswith(absent + ".") for absent in {absent!r}):
            raise ModuleNotFoundError(f"{{name}} is not on the drone", name=name)

sys.meta_path.insert(0, Absent())
for module in sys.argv[1:]:
    importlib.import_module(module)
    print(module)
"""
    modules = edge_modules()
    assert "edge.pipeline.scheduler" in modules
    assert run_python(root, source.format(absent=NOT_ON_THE_DRONE), *modules).split() == modules


@pytest.mark.parametrize("cli", ["edge.cli", "trainer.cli", "calibration.cli"])
def test_help_imports_nothing_slow(root: Path, cli: str) -> None:
    assert imported_by(root, cli, "--help") == []


def commands() -> list[tuple[str, str]]:
    """Return (module of the command line, command) for every command."""
    tables = {
        cli: {key.value for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
        for cli, tree in sources().items()
        if cli.endswith("/cli.py")
    }
    return [
        (path.replace("/", ".").removesuffix(".py"), name) for path, names in tables.items() for name in sorted(names)
    ]


@pytest.mark.parametrize(("cli", "command"), commands())
def test_the_help_of_a_command_imports_neither_torch_nor_an_engine(root: Path, cli: str, command: str) -> None:
    slow = set(imported_by(root, cli, command, "--help"))
    assert not slow & {"torch", "onnxruntime", "cv2", "pymavlink"}


def imported_by(root: Path, cli: str, *argv: str) -> list[str]:
    """Return the slow libraries that a command line imports, run in a fresh process."""
    source = f"""
import contextlib, importlib, io, sys
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
    importlib.import_module(sys.argv[1]).main(sys.argv[2:])
if "usage:" not in shown.getvalue():
    sys.exit("printed no help")
print(*(name for name in {SLOW_TO_IMPORT!r} if name in sys.modules))
"""
    return run_python(root, source, cli, *argv).split()

"""Calls that would run what a file or a message says, and manners of the house that a linter does not know."""

import ast

import pytest
from house import package_sources, sources

BANNED_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
BANNED_NAMES = {"eval", "exec"}
BANNED_ATTRIBUTES = {"recv_pyobj", "send_pyobj", "unsafe_load", "full_load", "load_all", "popen"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "helpers", "common", "misc", "base", "core"}


def unsafe(tree: ast.Module) -> list[tuple[int, str]]:
    """Return (line, what) for each unsafe import and call."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names if name.name.split(".")[0] in BANNED_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in BANNED_MODULES:
            found.append((node.lineno, str(node.module)))
        elif isinstance(node, ast.Call) and (what := unsafe_call(node)):
            found.append((node.lineno, what))
    return found


def unsafe_call(call: ast.Call) -> str:
    """Name what is unsafe about a call; empty where nothing is."""
    name = ast.unparse(call.func)
    options = {option.arg: ast.unparse(option.value) for option in call.keywords}
    if name in BANNED_NAMES or name.rpartition(".")[2] in BANNED_ATTRIBUTES or name == "os.system":
        return name
    if name in ("yaml.load", "yaml.compose_all") and "Loader" not in options:
        return f"{name} without a safe loader"
    if name == "torch.load" and options.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if options.get("allow_pickle", "False") != "False":
        return "allow_pickle"
    if options.get("shell", "False") != "False":
        return "shell"
    return ""


def test_nothing_runs_what_a_file_or_message_says() -> None:
    assert [f"{path}:{line}: {what}" for path, tree in sources().items() for line, what in unsafe(tree)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.externals",
        "eval(x)",
        "exec(x)",
        "os.system('ls')",
        "os.popen('ls')",
        "subprocess.run(x, shell=True)",
        "subprocess.Popen(x, shell=flag)",
        "yaml.load(x)",
        "yaml.unsafe_load(x)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x, allow_pickle=True)",
        "socket.recv_pyobj()",
        "def f():\n    import pickle",
    ],
)
def test_each_unsafe_call_is_found(text: str) -> None:
    assert unsafe(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(x, weights_only=True)",
        "np.load(x, allow_pickle=False)",
        "np.load(x)",
        "net.eval()",
        "subprocess.run(x, shell=False)",
    ],
)
def test_a_safe_call_is_not_complained_of(text: str) -> None:
    assert unsafe(ast.parse(text)) == []


def test_library_code_neither_prints_nor_asserts() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, tree in package_sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
        or (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "print"
            and "/commands/" not in path
            and path != "models/command_line.py"
        )
    ]
    assert found == []


def test_files_and_functions_stay_short() -> None:
    found = []
    for path, tree in sources().items():
        if path not in package_sources() and not path.startswith("tests/"):
            continue
        lines = max((node.end_lineno or 0 for node in ast.walk(tree) if isinstance(node, ast.stmt)), default=0)
        found += [f"{path}: {lines} lines"] if lines > MAX_FILE_LINES else []
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                found += (
                    [f"{path}:{node.lineno}: {node.name} has {length} lines"] if length > MAX_FUNCTION_LINES else []
                )
    assert found == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [path for path in sources() if path.rpartition("/")[2].removesuffix(".py") in VAGUE_NAMES] == []

"""The import rules of the packages (ARCHITECTURE.md), by parsing every module, and what importing the base costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "o3bnn"
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
PACKAGES = {"model", "data", "train", "compiler", "engine", "accel", "rtl", "report", "cli"}

# What a package may import of the project beside itself and `errors`. `_native` is the compiled extension.
ALLOWED = {
    "model": set(),
    "data": {"model"},
    "train": {"model", "data"},
    "compiler": {"model", "data", "train"},
    "engine": {"model", "data", "_native"},
    "accel": {"model", "data", "_simulator"},
    "rtl": {"model", "data", "accel"},
    "report": PACKAGES - {"cli"} | {"_native"},
    "cli": PACKAGES | {"_native"},
}
SIMULATOR = "o3bnn.accel.simulator"
TORCH_ONLY_IN = {"train", "compiler", "cli", "report"}
OPTIONAL = ["torch", "matplotlib", "jinja2", "amaranth", "onnx", "qonnx", "ray"]
BASE = ["model", "data", "engine", "accel", "report", "cli"]
LATE = {Path("cli", "training.py")}  # imported by a command when it runs
OPTIONAL_INSIDE = {"report"}  # its package is light; what draws or writes pages needs the `report` extra


def imports(path):
    """Full names of all modules that a file imports anywhere, also inside functions; type-checking imports apart."""
    tree = ast.parse((SOURCE / path).read_text())
    package = ["o3bnn", *path.with_suffix("").parts]
    package = package[:-1]
    for node in walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{name}.{alias.name}" for alias in node.names)


def walk(node):
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk(child)


def parts_imported(path):
    """Parts of the project (the name after `o3bnn.`) that a module imports."""
    for name in imports(path):
        if name == "o3bnn" or name.startswith("o3bnn."):
            yield [*name.split("."), "o3bnn"][1]


def test_every_module_belongs_to_a_package():
    top = {path.parts[0] for path in MODULES if len(path.parts) > 1}
    assert top <= PACKAGES
    assert {str(path) for path in MODULES if len(path.parts) == 1} <= {"__init__.py", "__main__.py", "errors.py"}
    assert MODULES


@pytest.mark.parametrize("path", [path for path in MODULES if len(path.parts) > 1], ids=str)
def test_import_rules(path):
    package = path.parts[0]
    allowed = ALLOWED[package] | {package, "errors"}
    # The package itself (for __version__ and the public functions) is for the layers on top.
    allowed |= {"o3bnn", "__version__", "load", "save", "compile", "Engine"} if package in {"report", "cli"} else set()
    assert set(parts_imported(path)) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_nobody_imports_what_sits_on_top(path):
    for part in ("report", "cli"):
        if path.parts[0] not in {part, "cli", "__main__.py"}:
            assert part not in set(parts_imported(path))


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[0] == "rtl"], ids=str)
def test_only_verification_imports_the_simulator(path):
    if path.parts[:2] not in {("rtl", "verify"), ("rtl", "verify.py")}:
        assert not [name for name in imports(path) if name.startswith((SIMULATOR, "o3bnn._native"))]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_torch_only_where_training_and_compiling_is(path):
    if path.parts[0] not in TORCH_ONLY_IN and path.parts[0] != "__init__.py":
        assert not [name for name in imports(path) if name.split(".")[0] == "torch"]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_pickle_anywhere(path):
    assert not [
        name for name in imports(path) if name.split(".")[0] in {"pickle", "dill", "joblib", "shelve", "marshal"}
    ]


@pytest.mark.parametrize("package", ["", *BASE])
def test_base_needs_no_optional_package(package):
    """In a fresh process: the top package, and every module of a base package."""
    base = [path for path in MODULES if path.parts[0] == package and path not in LATE]
    if package in OPTIONAL_INSIDE:
        base = [path for path in base if path.name == "__init__.py"]
    names = [module_name(path) for path in base] or ["o3bnn"]
    program = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    program += f"print([name for name in {OPTIONAL!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def module_name(path):
    parts = ["o3bnn", *path.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import o3bnn.train.layers", {"train"}),
        ("from o3bnn import model, data", {"model", "data"}),
        ("from o3bnn.cli import main", {"cli"}),
        ("def f():\n    from o3bnn.report import tables", {"report"}),
        ("from ..train import layers", {"train"}),
        ("from .. import rtl", {"rtl"}),
        ("from . import simulator", {"accel"}),
        ("import o3bnn", {"o3bnn"}),
        ("if TYPE_CHECKING:\n    import o3bnn.train", set()),
        ("import numpy", set()),
    ],
)
def test_the_parser_finds_imports(source, found, tmp_path, monkeypatch):
    (tmp_path / "accel").mkdir()
    (tmp_path / "accel" / "module.py").write_text(source)
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path)
    assert set(parts_imported(Path("accel/module.py"))) == found

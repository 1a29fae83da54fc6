"""Every failure is one line and an exit code; every command says how it is used."""

import re
from pathlib import Path

import numpy as np
import pytest

import o3bnn
from o3bnn.cli import info
from o3bnn.cli.entry import app
from tests.cli.helpers import error_line, run, run_ok, tiny_network

COMMANDS = tuple(str(command.name) for command in app.registered_commands)
MANUAL = Path(__file__).parents[2] / "docs" / "cli.md"


def test_version() -> None:
    assert run_ok("--version").stdout == f"o3bnn {o3bnn.__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands(arguments: tuple[str, ...]) -> None:
    output = run_ok(*arguments).stdout
    assert output.startswith("Usage: o3bnn [OPTIONS] COMMAND")
    assert all(f"\n  {command} " in output for command in COMMANDS)
    assert "..." not in output.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert run_ok(command, "--help").stdout.startswith(f"Usage: o3bnn {command} ")


def test_the_manual_has_a_section_and_a_row_for_every_command() -> None:
    text = MANUAL.read_text("utf-8")
    sections = re.findall(r"^## ([a-z]+)$", text, re.MULTILINE)
    rows = re.findall(r"^\| \[`([a-z]+)`\]\(#\1\) \|", text, re.MULTILINE)
    assert sorted(sections) == sorted(rows) == sorted(COMMANDS)
    assert len(COMMANDS) == 13


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("info", ""), "an argument"),
        (("run", "m.safetensors", ""), "an argument"),
        (("compile", "m.onnx", "-o", ""), "-o"),
        (("compile", "m.onnx", "--output="), "--output"),
        (("demo", "--output", ""), "--output"),
        (("simulate", "m.safetensors", "--data", ""), "--data"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments: tuple[str, ...], name: str) -> None:
    assert error_line(run(*arguments)) == f"{name} is empty: give a value, such as . for the folder that you are in"


def test_unknown_command_and_option() -> None:
    assert error_line(run("fly")) == "No such command 'fly' (see o3bnn --help)"
    assert error_line(run("--fast")).startswith("No such option: --fast")
    assert error_line(run("info")) == "Missing argument 'MODEL' (see o3bnn info --help)"


@pytest.mark.parametrize("command", ["info", "run", "eval", "prune", "plan", "bench"])
@pytest.mark.parametrize("content", [None, b"", b"\x10\0\0\0\0\0\0\0{}", b"\xff" * 99, b"{" * 99])
def test_a_model_that_is_missing_or_damaged(tmp_path: Path, command: str, content: bytes | None) -> None:
    path = tmp_path / "m.safetensors"
    if content is not None:
        path.write_bytes(content)
    more = {"run": [tmp_path], "eval": ["--data", "mnist:."], "prune": ["--data", "mnist:."]}.get(command, [])
    assert str(path) in error_line(run(command, path, *more))


def fail(error: Exception, monkeypatch: pytest.MonkeyPatch, model: Path, code: int = 2) -> str:
    def broken(path: Path) -> None:
        raise error

    monkeypatch.setattr(info, "load", broken)
    return error_line(run("info", model), code)


def test_other_failures_are_one_line_too(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    assert fail(PermissionError(13, "Permission denied", "x"), monkeypatch, model) == (
        "x: Permission denied: check the permissions"
    )
    assert fail(OSError("no more"), monkeypatch, model) == "no more: check the path and the disk"
    assert fail(MemoryError(), monkeypatch, model) == "out of memory: use fewer images at a time"
    assert fail(o3bnn.O3bnnError("a\n\tb\x1b[31m"), monkeypatch, model) == "a \\tb\\x1b[31m"
    assert fail(KeyError("x"), monkeypatch, model, 1).startswith("unexpected KeyError: 'x' (a bug: ")


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("O3BNN_DEBUG", "1")
    result = run("info", tmp_path / "nothing")
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: cannot read")
    monkeypatch.setenv("O3BNN_DEBUG", "0")
    assert error_line(run("info", tmp_path / "nothing")).startswith("cannot read")


def test_the_network_of_these_tests_answers_more_than_one_class() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), dtype=np.uint8)
    from o3bnn.model import reference

    assert len(set(reference.run(tiny_network(), images).classes)) > 1

"""The real program: entry point, pipes, terminals and signals."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import o3bnn
from tests.data.layouts import write_mnist

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes and signals")
SCRIPT = Path(sysconfig.get_path("scripts")) / "o3bnn"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "o3bnn", *map(str, arguments)]


def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command(*arguments), capture_output=True, text=True, check=False, **options
    )


def test_python_m() -> None:
    done = call("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"o3bnn {o3bnn.__version__}\n", "")
    assert call("--help").stdout.startswith("Usage: o3bnn ")


@pytest.mark.skipif(not SCRIPT.exists(), reason="o3bnn is not installed")
def test_console_script(model: Path) -> None:
    done = subprocess.run([SCRIPT, "info", model, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["name"] == "tiny"


def test_exit_codes_and_streams(model: Path, mnist: Path) -> None:
    done = call("info", "nothing.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    done = call("eval", model, "--data", f"mnist:{mnist}", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["images"] == 23
    assert done.stderr.splitlines() == ["eval: 23/23 images"]


def test_no_colour_codes_without_a_terminal(model: Path, mnist: Path) -> None:
    forced = dict.fromkeys(("FORCE_COLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "TTY_COMPATIBLE"), "1")
    for arguments in (("info", model), ("prune", model, "--data", f"mnist:{mnist}"), ("--help",), ("info", "--no")):
        done = call(*arguments, env=os.environ | forced)
        assert "\x1b" not in done.stdout + done.stderr


def test_an_output_encoding_that_lacks_characters(model: Path, tmp_path: Path) -> None:
    (tmp_path / "ü.safetensors").write_bytes(model.read_bytes())
    done = call("info", tmp_path / "ü.safetensors", env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert "\\xfc.safetensors" in done.stdout


@POSIX
@pytest.mark.parametrize("arguments", [("info", "{model}"), ("info", "{model}", "--json"), ("--help",), ("--version",)])
def test_a_broken_pipe_is_silent(model: Path, arguments: tuple[str, ...]) -> None:
    given = [argument.format(model=model) for argument in arguments]
    process = subprocess.Popen(command(*given), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == -signal.SIGPIPE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(model: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command("info", model), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device: free some space\n")


@POSIX
def test_a_closed_output(model: Path) -> None:
    line = " ".join(command("info", str(model))) + " >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@POSIX
def test_interrupting(model: Path, tmp_path: Path) -> None:
    write_mnist(tmp_path, count=4000, zipped=False)
    words = [argument for word in range(1, 5) for argument in ("--word", word)]
    arguments = command("prune", model, "--data", f"mnist:{tmp_path}", *words)
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell would have it ignored
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert first.startswith("prune: ")
    assert (process.returncode, output) == (130, "")
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors


@POSIX
@pytest.mark.parametrize("start", [["-m", "o3bnn"], ["-c", "from o3bnn.cli import main; main()"]], ids=["-m", "script"])
@pytest.mark.parametrize("module", ["o3bnn.errors", "numpy.version", "rich.console"])
def test_interrupting_while_modules_are_imported(start: list[str], module: str) -> None:
    """`-X importtime` writes a line for each module: the signal comes just after that of `module`."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", *start, "info", "nothing"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    while line := process.stderr.readline():
        if line.split("|")[-1].strip() == module:
            process.send_signal(signal.SIGINT)
            break
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert [line for line in errors.splitlines() if not line.startswith("import time:")] == []


@POSIX
def test_a_progress_bar_on_a_terminal(model: Path, mnist: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    arguments = command("eval", model, "--data", f"mnist:{mnist}", "--batch", 1)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.splitlines()[1].startswith("accuracy")
    assert "\x1b" not in output
    assert b"23/23" in seen
    assert b"images" not in seen


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux reports the end of a terminal as an error
        return b""

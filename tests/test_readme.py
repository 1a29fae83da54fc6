"""The README's code runs as it stands: Python blocks and console lines in order, in one empty folder."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.layouts import write_mnist

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXPECTED = {
    "info": "28x28x1",
    "prune": "in the binary stages",
    "plan": "wrote digits.safetensors.plan.json",
    "bench": "roofline",
    "eval": "of 5",
    "run": "picture.png",
}
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text())


def blocks(language):
    return [body for found, body in BLOCKS if found == language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the Python blocks were run, with the files that the console lines name."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("readme")
    for body in blocks("python"):
        run([sys.executable, "-c", body], folder)
    write_mnist(folder / "path/to/mnist", count=5)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_has_code_to_run():
    assert len(blocks("python")) == 2
    assert len(blocks("console")) == 1


def test_python_blocks(folder):
    assert (folder / "digits.safetensors").stat().st_size > 10_000


@pytest.mark.parametrize("line", [line for body in blocks("console") for line in body.splitlines()])
def test_console_lines(folder, line):
    prompt, program, *arguments = shlex.split(line)
    assert (prompt, program) == ("$", "o3bnn")
    assert EXPECTED[arguments[0]] in run([sys.executable, "-m", "o3bnn", *arguments], folder)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make ([\w-]+)", "\n".join(blocks("sh")), re.MULTILINE)
    targets += re.findall(r"`make ([\w-]+)", (ROOT / "CONTRIBUTING.md").read_text())
    assert {"demo", "test"} <= set(targets)
    for script in re.findall(r"bench/[\w/]+\.py", makefile):
        assert (ROOT / script).is_file(), script
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere():
    for document in [
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"

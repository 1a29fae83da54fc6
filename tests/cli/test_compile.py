"""`o3bnn compile` writes what the compiler makes of a checkpoint."""

import json
import sys
from pathlib import Path

import pytest

from o3bnn.model.artifact import load
from tests.cli.helpers import error_line, run, run_ok


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch = pytest.importorskip("torch")
    from o3bnn.train.checkpoint import save_checkpoint
    from o3bnn.train.networks import build

    torch.manual_seed(0)
    options = {"n": 16, "depth": 2}
    path = tmp_path / "trained.safetensors"
    module = build("mlp", **options).eval()
    save_checkpoint(path, module, network="mlp", options=options, class_names=list("0123456789"))
    return path


def test_compile(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.safetensors"
    result = run_ok("compile", checkpoint, "-o", output)
    network = load(output)
    assert network.class_names == tuple("0123456789")
    assert [stage.geometry.out_channels for stage in network.stages] == [16, 16]
    size = f"{output.stat().st_size / 1000:.1f} kB"
    assert result.stdout == (
        f"wrote {output}: {network.name}, 28 x 28 x 1 -> 10 classes, 3 stages, 13.0 k edges an image, {size}\n"
    )
    assert json.loads(run_ok("compile", checkpoint, "-o", output, "--json").stdout) == {
        "output": str(output),
        "model": network.name,
        "input": [28, 28, 1],
        "classes": 10,
        "stages": 3,
        "edges": 784 * 16 + 16 * 16 + 16 * 10,
        "bytes": output.stat().st_size,
    }
    assert run_ok("info", output).stdout


def test_bad_sources(checkpoint: Path, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    missing = tmp_path / "nothing.safetensors"
    assert f"{missing} is not a file" in error_line(run("compile", missing, "-o", output))
    assert "is not a file" in error_line(run("compile", tmp_path, "-o", output))
    assert "checkpoint" in error_line(run("compile", model, "-o", output))
    (tmp_path / "damaged.safetensors").write_bytes(b"?" * 100)
    assert "damaged.safetensors" in error_line(run("compile", tmp_path / "damaged.safetensors", "-o", output))
    assert "Missing option '--output'" in error_line(run("compile", checkpoint))
    assert not output.exists()


def test_import_options_need_an_imported_file(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    assert "are for .onnx and .tflite files" in error_line(run("compile", checkpoint, "-o", output, "--image", "8x8x1"))
    assert not output.exists()


def test_bad_outputs(checkpoint: Path, tmp_path: Path) -> None:
    content = checkpoint.read_bytes()
    assert "is the source itself" in error_line(run("compile", checkpoint, "-o", checkpoint))
    assert checkpoint.read_bytes() == content
    assert "cannot write" in error_line(run("compile", checkpoint, "-o", tmp_path / "no" / "where.safetensors"))
    assert "cannot write" in error_line(run("compile", checkpoint, "-o", tmp_path))


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "torch" or name.startswith(("o3bnn.compiler", "o3bnn.train")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "c.safetensors").write_bytes(b"")
    message = error_line(run("compile", tmp_path / "c.safetensors", "-o", tmp_path / "out.safetensors"))
    assert message == "compiling needs PyTorch: pip install 'o3bnn[train]'"

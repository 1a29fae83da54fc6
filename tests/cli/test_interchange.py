"""`compile`, `export` and `verify` on ONNX files."""

from pathlib import Path

import pytest

from o3bnn.model.artifact import load
from tests.cli.helpers import error_line, run, run_json, run_ok

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("qonnx")

from tests.interchange.helpers import MODELS

FC = MODELS / "brevitas_fc.onnx"


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    run_ok("compile", FC, "-o", tmp_path / "fc.safetensors")
    return tmp_path / "fc.safetensors"


def test_compile(tmp_path: Path) -> None:
    result = run_ok("compile", FC, "-o", tmp_path / "fc.safetensors")
    assert result.stdout.startswith(f"wrote {tmp_path / 'fc.safetensors'}: brevitas_fc, 12 x 12 x 1 -> 10 classes")
    assert "note: " in result.stderr and "rounds its logits" in result.stderr
    network = load(tmp_path / "fc.safetensors")
    assert network.metadata["pixel"] == "p / 255"


def test_options_of_the_input(tmp_path: Path) -> None:
    output = tmp_path / "fc.safetensors"
    run_ok("compile", FC, "-o", output, "--input-divisor", "200", "--input-mean", "0.1", "--input-std", "0.5")
    network = load(output)
    assert network.metadata["pixel"] == "(p / 200 - 0.1) / 0.5"
    assert int((network.input.table < 0).sum()) == 70  # 2 x - 1 >= 0 from x = (p / 200 - 0.1) / 0.5 = 0.5 on
    assert run_ok("verify", FC, output).stdout.splitlines()[0].endswith("100 images compared, no difference")
    assert "--image '28' is not HEIGHTxWIDTHxCHANNELS" in error_line(run("compile", FC, "-o", output, "--image", "28"))
    assert "--input-mean 'x' is not a number" in error_line(run("compile", FC, "-o", output, "--input-mean", "x"))
    assert "must be finite" in error_line(run("compile", FC, "-o", output, "--input-divisor", "0"))
    assert "does not fit an image" in error_line(run("compile", FC, "-o", output, "--image", "28x28x1"))


def test_verify(compiled: Path) -> None:
    result = run_ok("verify", FC, compiled, "--limit", "130", "--seed", "3")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{FC}: 130 images compared, no difference"
    assert lines[1] == "classes   0 differ"
    assert lines[2].startswith("logits    differ in 0 images, compared up to rounding")
    assert len([line for line in lines if line.startswith("stage ") and ": 0 bits differ in 0 images" in line]) == 2
    document = run_json("verify", FC, compiled)
    assert document["equal"] is True and document["images"] == 100 and document["classes"] == 0


def test_verify_finds_a_difference(tmp_path: Path, compiled: Path) -> None:
    other = MODELS / "brevitas_fc_initializers_as_inputs.onnx"  # other weights of the same shapes
    result = run("verify", other, compiled)
    assert result.exit_code == 3
    assert "DIFFERENT" in result.stdout and "first: image 0" in result.stdout
    error = error_line(run("verify", MODELS / "brevitas_scaled.onnx", compiled))
    assert "7 classes, the network 10: they do not belong together" in error
    assert "is not a file" in error_line(run("verify", tmp_path / "no.onnx", compiled))


@pytest.mark.parametrize("options", [[], ["--qonnx"]])
def test_export_and_back(tmp_path: Path, compiled: Path, options: list[str]) -> None:
    exported, again = tmp_path / "out.onnx", tmp_path / "again.safetensors"
    form = "QONNX" if options else "standard operators"
    assert f"wrote {exported}: brevitas_fc, {form}, " in run_ok("export", compiled, "-o", exported, *options).stdout
    result = run_ok("compile", exported, "-o", again)
    assert result.stderr == ""
    assert "no difference" in run_ok("verify", exported, again, "--limit", "20").stdout
    assert "no difference" in run_ok("verify", exported, compiled, "--limit", "20").stdout


def test_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"?" * 100)
    assert "damaged.onnx" in error_line(run("compile", tmp_path / "damaged.onnx", "-o", tmp_path / "out.safetensors"))
    assert "is not a file" in error_line(run("compile", tmp_path / "none.onnx", "-o", tmp_path / "out.safetensors"))

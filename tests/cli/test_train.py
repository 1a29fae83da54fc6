"""`o3bnn train`: a run from the command line to a compiled model, on data in MNIST's layout."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import error_line, run, run_json, run_ok
from tests.data.layouts import write_mnist

pytest.importorskip("lightning")
from o3bnn.train.checkpoint import load_checkpoint

SMALL = ("--option", "n=16", "--option", "depth=2", "--batch", "20", "--accelerator", "cpu", "--devices", "1")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"mnist:{write_mnist(tmp_path_factory.mktemp('digits'), count=60)}"


def test_train_compile_evaluate(digits: str, tmp_path: Path) -> None:
    folder, model = tmp_path / "run", tmp_path / "model.safetensors"
    document = run_json("train", "mlp", "--data", digits, "-o", folder, "--epochs", "2", *SMALL)
    assert document["settings"]["shift"] == 2 and document["settings"]["flip"] is False
    assert [row["epoch"] for row in document["epochs"]] == [1, 2]
    with (folder / "log.csv").open() as stream:
        log = list(csv.DictReader(stream))
    assert [float(row["accuracy"]) for row in log] == [row["accuracy"] for row in document["epochs"]]
    assert (folder / "curve.svg").read_text().count("<svg") == 1
    run_ok("compile", folder / "last.safetensors", "-o", model)
    last = document["epochs"][-1]
    assert run_json("eval", model, "--data", digits)["accuracy"] == last["accuracy"]
    for word in (1, 64):
        (profile,) = run_json("prune", model, "--data", digits, "--word", word)["words"]
        edges = profile["edges"]
        assert 1 - edges["evaluated"] / edges["dense"] == pytest.approx(last[f"pruned_b{word}"], abs=1e-12)


def test_resume_and_lines_of_progress(digits: str, tmp_path: Path) -> None:
    options = ("train", "mlp", "--data", digits, "-o", tmp_path / "run", "--epochs", "2", *SMALL)
    result = run_ok(*options, "--lambda-threshold", "0.1")
    lines = [line for line in result.stderr.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2 and lines[1].startswith("epoch 2, loss ") and lines[1].endswith("(of 2)")
    assert "pruning loss" in lines[0]
    assert "last.safetensors -o MODEL" in result.stdout
    assert "add --resume" in error_line(run(*options, "--lambda-threshold", "0.1"))
    assert "lambda_threshold is 0.0, but was 0.1" in error_line(run(*options, "--resume"))
    assert run_ok(*options, "--lambda-threshold", "0.1", "--resume").stderr == ""  # nothing left to do


def test_fine_tuning_and_teaching(digits: str, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    run_ok("train", "mlp", "--data", digits, "-o", teacher, "--epochs", "1", "--option", "real_valued=true", *SMALL)
    weights = teacher / "last.safetensors"
    assert "its weights are not binary" in error_line(run("compile", weights, "-o", tmp_path / "x"))
    student = tmp_path / "student"
    options = ("train", "mlp", "--data", digits, "--epochs", "1", *SMALL)
    document = run_json(*options, "-o", student, "--teacher", weights)
    assert document["settings"]["distill"] == 0.5
    assert load_checkpoint(student / "last.safetensors")[1].metadata["teacher"] == str(weights)
    assert f"teacher is '', but was '{weights}'" in error_line(run(*options, "-o", student, "--resume"))
    run_ok(*options, "-o", tmp_path / "tuned", "--from", student / "last.safetensors")
    message = error_line(
        run(*options, "-o", tmp_path / "y", "--from", student / "last.safetensors", "--option", "n=17")
    )
    assert "last.safetensors: it is mlp with options" in message and "of other shapes" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lenet",), "unknown network 'lenet': choose one of alexnet"),
        (("mlp", "--option", "n"), "--option 'n' is not KEY=VALUE, such as width=0.5"),
        (("mlp", "--option", "n=many"), "n"),
        (("mlp", "--option", "m=3"), "has no option 'm'"),
        (("mlp", "--lr", "0"), "lr = 0.0 is not a number above 0"),
        (("mlp", "--image", "28x28x1"), "--image and --stored-size are for folder:DIR"),
        (("mlp", "--batch", "61"), "batch = 61 is more than the 60 training images"),
        (("mlp", "--devices", "some"), "--devices 'some' is neither a number of devices nor auto"),
        (("mlp", "--from", "missing.safetensors"), "missing.safetensors"),
        (("cnv",), "the image is too small"),
    ],
)
def test_wrong_input(arguments: tuple[str, ...], message: str, digits: str, tmp_path: Path) -> None:
    name, *more = arguments
    result = run("train", name, "--data", digits, "-o", tmp_path / "run", "--epochs", "1", *more)
    assert message in error_line(result)
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_two_processes_train_one_model(digits: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "o3bnn", "train", "mlp", "--data", digits, "-o", str(tmp_path / "run")]
    command += ["--epochs", "2", *SMALL[:-1], "2", "--threads", "1", "--precision", "float32", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["epochs"]
    assert [row["epoch"] for row in rows] == [1, 2] and all(np.isfinite(row["loss"]) for row in rows)
    assert (tmp_path / "run" / "last.safetensors").is_file()

"""`bench/model_cards.py`: cards say what the model file and the table say."""

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

import o3bnn
from tests.report import helpers

ROOT = Path(__file__).parents[2]
CARDS, RESULTS = ROOT / "docs" / "model_cards", ROOT / "results" / "models.csv"
HEAD = {
    "model": "plain",
    "accuracy": "0.8125",
    "images": "10000",
    "accuracy_path": "compiled artifact, native engine, full test split; equal to PyTorch's",
}
ORIGIN = {
    "commit": "abc",
    "host": "Linux x86_64",
    "o3bnn": "0.1.0",
    "command": "python bench/train_models.py --measure",
}
STAGES = [("conv0", "input"), ("conv1", "binary"), ("dense2", "binary"), ("output", "output"), ("all", "binary")]


def row(stage, role):
    shares = {
        "pruned_b1_simple": "0.5",
        "pruned_b64_simple": "0.2",
        "pruned_b64_sharp": "0.25",
        "pruned_b16_sharp": "0.375",
        "constant_b1": "0.0",
        "threshold_high_b1": "0.125",
        "threshold_low_b1": "0.0625",
        "pooling_b1": "0.3125",
    }
    return HEAD | {"stage": stage, "role": role, "dense_edges": "28901376"} | shares | ORIGIN


def write_cards(folder, stages):
    o3bnn.save(helpers.network("plain"), folder / "plain.safetensors")
    with (folder / "models.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(row("", "")))
        writer.writeheader()
        writer.writerows(row(*stage) for stage in stages)
        writer.writerow(row("all", "binary") | {"model": "not shipped"})
    command = [sys.executable, ROOT / "bench" / "model_cards.py", "--results", folder / "models.csv"]
    command += ["--models", folder, "--out", folder / "cards"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_card_says_what_file_and_table_say(tmp_path):
    done = write_cards(tmp_path, STAGES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "cards" / "plain.md"), "not shipped is not shipped: no card"]
    assert [path.name for path in (tmp_path / "cards").iterdir()] == ["plain.md"]
    lines = (tmp_path / "cards" / "plain.md").read_text().splitlines()
    octets = (tmp_path / "plain.safetensors").read_bytes()
    assert f"| SHA-256 | `{hashlib.sha256(octets).hexdigest()}` |" in lines
    assert "| training | <plain> |" in lines
    assert f"| {HEAD['accuracy_path']} | 10,000 | 81.25% |" in lines
    shares = "50.0% | 31.2% | 12.5% | 6.2% | 0.0% | 20.0% | 25.0% | 37.5% |"
    named = [*STAGES[:-1], ("**binary stages**", "")]
    assert [line for line in lines if "28.9 M" in line] == [
        f"| {name} | {role} | 28.9 M | {shares}" for name, role in named
    ]
    assert any("50.0% are pruned at B = 1 and 20.0% at B = 64" in line and "2.00x and 1.25x" in line for line in lines)


def test_a_table_of_another_model_is_refused(tmp_path):
    done = write_cards(tmp_path, [("conv9", "input"), *STAGES[1:]])
    assert done.returncode == 1
    assert done.stderr.startswith("plain: the table holds the stages conv9, conv1, dense2, output, not those of ")
    assert list((tmp_path / "cards").iterdir()) == []


def test_the_cards_are_those_of_the_shipped_models(tmp_path):
    if not RESULTS.is_file():
        assert list(CARDS.glob("*")) == []
        return
    command = [sys.executable, ROOT / "bench" / "model_cards.py", "--out", tmp_path]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in CARDS.glob("*.md")}
    assert {"cnv_plain.md", "cnv_pruned.md"} <= set(written)

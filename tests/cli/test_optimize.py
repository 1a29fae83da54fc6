"""`o3bnn optimize` sorts channels and changes no answer."""

from pathlib import Path

import numpy as np
import pytest

from o3bnn.compiler.order import RECORD, order_channels
from o3bnn.data import open_dataset
from o3bnn.model import edges, reference
from o3bnn.model.artifact import encode, load
from tests.cli.helpers import digits, error_line, run, run_json, run_ok, tiny_network


def test_the_model_is_that_of_the_pass_and_gives_the_same_logits(model: Path, mnist: Path, tmp_path: Path) -> None:
    out = tmp_path / "sorted.safetensors"
    document = run_json("optimize", model, "--data", f"mnist:{mnist}", "--limit", 9, "-o", out)
    images = open_dataset(f"mnist:{mnist}", "train", 9).load().images
    network = tiny_network()
    ordered = order_channels(network, images)
    assert out.read_bytes() == encode(ordered)
    assert load(out).metadata[RECORD] == "by decisions on 9 images"
    pictures = digits(mnist)
    np.testing.assert_array_equal(reference.run(load(out), pictures).logits, reference.run(network, pictures).logits)
    assert {key: document[key] for key in ("model", "output", "data", "split", "images")} == {
        "model": str(model),
        "output": str(out),
        "data": f"mnist:{mnist}",
        "split": "train",
        "images": 9,
    }
    for key, candidate in (("before", network), ("after", ordered)):
        counted = edges.count(candidate, images, word=64).total("binary")
        assert document[key]["pruned_share"] == counted.pruned_share
        assert 0 < document[key]["tile_share"] <= 1


def test_text(model: Path, mnist: Path, tmp_path: Path) -> None:
    out = tmp_path / "sorted.safetensors"
    lines = run_ok("optimize", model, "--data", f"mnist:{mnist}", "-o", out).stdout.splitlines()
    assert lines[0].startswith("edges of the binary stages pruned at B = 64 ") and " -> " in lines[0]
    assert lines[1].startswith("words that tiles of 8 channels read until decided ") and " -> " in lines[1]
    assert lines[2] == f"wrote {out}: the same logits; `o3bnn plan` finds what it gains"
    assert len(lines) == 3


def test_the_model_itself_is_not_overwritten(model: Path, mnist: Path) -> None:
    before = model.read_bytes()
    message = error_line(run("optimize", model, "--data", f"mnist:{mnist}", "-o", model))
    assert message == f"{model} is the model itself: give the sorted one another name"
    assert model.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "{mnist}"), "Missing option '--output'"),
        (("-o", "{out}"), "Missing option '--data'"),
        (("--data", "mnist:/nowhere", "-o", "{out}"), "/nowhere is not a folder"),
        (("--data", "{mnist}", "-o", "{out}/nowhere/m"), "No such file or directory"),
        (("--data", "{mnist}", "-o", "{out}", "--limit", "0"), "Invalid value for '--limit'"),
        (("--data", "{mnist}", "-o", ""), "-o is empty"),
    ],
)
def test_bad_arguments(model: Path, mnist: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    given = [argument.format(mnist=f"mnist:{mnist}", out=tmp_path / "m") for argument in arguments]
    assert message in error_line(run("optimize", model, *given))
    assert list(tmp_path.iterdir()) == []

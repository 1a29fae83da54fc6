"""What comes with the package."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import features

from o3bnn.data import open_dataset
from o3bnn.errors import ArtifactError, DataError
from o3bnn.report import demo, shipped
from o3bnn.report.shipped import CIFAR10, MNIST
from tests.data import layouts

ROOT = Path(__file__).parents[2]
SETS = pytest.mark.parametrize("shipped_set", [CIFAR10, MNIST], ids=lambda shipped_set: shipped_set.title)
PRESENT = [CIFAR10, MNIST]
FIRST_LABELS = {
    CIFAR10: [3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8],
    MNIST: [7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5],
}
COUNTS = {CIFAR10: 1000, MNIST: 256}
PIXEL_SUMS = {CIFAR10: 374_560_331, MNIST: 6_083_698}  # of the same images in the official files
PIXEL_DIGESTS = {
    CIFAR10: "da362006b99671213d1a5d856cab2bedf64d40bad4501630ee60f4ceb2d3ec7f",
    MNIST: "f62f75e3b8fb162c42464bf68e5f3d0d56b2292301c6101c15b2d27a2198e0d4",
}


@SETS
def test_the_samples_are_the_first_of_the_test_set(shipped_set):
    images, labels = shipped_set.samples()
    assert images.dtype == np.uint8
    assert images.shape == (COUNTS[shipped_set], *shipped_set.shape)
    assert labels.dtype == np.int64
    assert labels[:16].tolist() == FIRST_LABELS[shipped_set]
    assert set(labels.tolist()) == set(range(10))
    assert int(images.sum(dtype=np.int64)) == PIXEL_SUMS[shipped_set]
    assert hashlib.sha256(images.tobytes()).hexdigest() == PIXEL_DIGESTS[shipped_set]


@pytest.mark.parametrize(
    ("shipped_set", "name"),
    [(shipped_set, name) for shipped_set in PRESENT for name in shipped_set.models + shipped_set.more],
)
def test_the_models_read_the_samples(shipped_set, name):
    network = shipped_set.model(name)
    assert network.input.shape == shipped_set.shape
    assert network.class_names == shipped_set.class_names
    assert shipped_set.model_bytes(name) > network.output.in_features


def test_models_that_are_compared_are_one_network():
    for shipped_set in PRESENT:
        if shipped_set.trained_for_pruning:
            plain, pruned = map(shipped_set.model, shipped_set.models)
            assert plain.out_shapes == pruned.out_shapes
            assert [stage.name for stage in plain.stages] == [stage.name for stage in pruned.stages]


def test_together_they_are_small():
    assert sum(len(file.read_bytes()) for file in files("o3bnn").joinpath("shipped").iterdir()) < 3_500_000


@SETS
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other"])
def test_a_damaged_sample_file(shipped_set, damage, tmp_path, monkeypatch):
    octets = files("o3bnn").joinpath("shipped", shipped_set.file).read_bytes()
    middle = len(octets) // 2
    damaged = {
        "flipped": octets[:middle] + bytes([octets[middle] ^ 1]) + octets[middle + 1 :],
        "cut": octets[:-1],
        "empty": b"",
        "other": b"not a sheet",
    }
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / shipped_set.file).write_bytes(damaged[damage])
    message = rf"{shipped_set.file} is damaged \(its SHA-256 is not that of the shipped file\): reinstall o3bnn"
    with pytest.raises(DataError, match=message):
        shipped_set.samples()


def test_what_the_command_writes_is_read_again(tmp_path, monkeypatch):
    """An odd number of random images: the sheet's last row is not full."""
    folder = layouts.write_mnist(tmp_path / "mnist", count=23)
    (tmp_path / "shipped").mkdir()
    out = tmp_path / "shipped" / "sample.safetensors"
    command = [sys.executable, ROOT / "bench" / "make_samples.py", "--data", f"mnist:{folder}", "--count", "21"]
    printed = subprocess.run([*command, "--out", out], capture_output=True, text=True, timeout=120, check=True).stdout
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert printed.endswith(f"{out}: {out.stat().st_size} bytes, sha256 {digest}\n")
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    images, labels = replace(MNIST, file=out.name, sha256=digest).samples()
    expected = open_dataset(f"mnist:{folder}", "test", 21).load()
    np.testing.assert_array_equal(images, expected.images)
    np.testing.assert_array_equal(labels, expected.labels)


@SETS
def test_an_installation_that_lacks_files(shipped_set, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match=f"this installation has no {shipped_set.file}: reinstall o3bnn"):
        shipped_set.samples()
    with pytest.raises(ArtifactError, match=f"this installation has no model {shipped_set.models[0]}: reinstall o3bnn"):
        shipped_set.model(shipped_set.models[0])


def test_a_damaged_sample_file_is_found_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "measure", lambda *arguments: pytest.fail("the images are read before any work"))
    with pytest.raises(DataError, match="is damaged"):
        demo.run(tmp_path / "page.html", shipped_set=replace(MNIST, sha256="0" * 64))
    assert list(tmp_path.iterdir()) == []


def test_a_pillow_without_webp(monkeypatch):
    monkeypatch.setattr(features, "check", lambda feature: feature != "webp")
    with pytest.raises(DataError, match=r"Pillow was built without WebP.*: pip install --upgrade pillow"):
        MNIST.samples()


@pytest.mark.slow
@pytest.mark.parametrize("shipped_set", PRESENT, ids=lambda shipped_set: shipped_set.title)
def test_the_demo_as_users_run_it(shipped_set, tmp_path):
    least = {"CIFAR-10": 0.7, "MNIST": 0.95}[shipped_set.title]
    doc = demo.run(tmp_path / "page.html", shipped_set=shipped_set)
    assert [model["name"] for model in doc["models"]] == list(shipped_set.models)
    assert all(model["accuracy"]["share"] > least for model in doc["models"])
    assert (tmp_path / "page.html").stat().st_size < 2_000_000

"""What comes with the package."""

from importlib.resources import files

import numpy as np
import pytest

from o3bnn.errors import ArtifactError, DataError
from o3bnn.report import demo, shipped

FIRST_LABELS = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5]  # of the MNIST test set
PIXEL_SUM = 6_083_698


def test_the_samples_are_the_first_of_the_test_set():
    images, labels = shipped.shipped_samples()
    assert images.dtype == np.uint8
    assert images.shape == (256, 28, 28, 1)
    assert labels.dtype == np.int64
    assert labels[:16].tolist() == FIRST_LABELS
    assert set(labels.tolist()) == set(range(10))
    assert int(images.sum(dtype=np.int64)) == PIXEL_SUM


@pytest.mark.parametrize("name", shipped.MODELS)
def test_the_models_read_the_samples(name):
    network = shipped.shipped_model(name)
    assert network.input.shape == (28, 28, 1)
    assert network.output.classes == 10
    assert shipped.shipped_model_bytes(name) > network.output.in_features


def test_together_they_are_small():
    assert sum(len(file.read_bytes()) for file in files("o3bnn").joinpath("shipped").iterdir()) < 1_000_000


def test_unknown_models_are_refused():
    with pytest.raises(ArtifactError, match="'resnet' is not a shipped model: use one of mnist_cnn, mnist_mlp"):
        shipped.shipped_model("resnet")


@pytest.mark.parametrize(("content", "message"), [(None, "has no"), (b"damaged", "is damaged"), (b"", "is damaged")])
def test_an_installation_that_lacks_files(content, message, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    (tmp_path / "shipped").mkdir()
    if content is not None:
        (tmp_path / "shipped" / shipped.SAMPLES).write_bytes(content)
    with pytest.raises(DataError, match=f"{message}.*reinstall o3bnn"):
        shipped.shipped_samples()
    with pytest.raises(ArtifactError, match="has no model mnist_cnn: reinstall o3bnn"):
        shipped.shipped_model("mnist_cnn")


@pytest.mark.slow
def test_the_demo_as_users_run_it(tmp_path):
    doc = demo.run(tmp_path / "page.html")
    assert [model["name"] for model in doc["models"]] == list(shipped.MODELS)
    assert all(model["accuracy"]["share"] > 0.95 for model in doc["models"])
    assert (tmp_path / "page.html").stat().st_size < 2_000_000

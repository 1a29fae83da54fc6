from pathlib import Path

import pytest

from o3bnn.model.artifact import save
from tests.cli.helpers import tiny_network
from tests.data.layouts import write_mnist


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved `tiny_network`."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save(tiny_network(), path)
    return path


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 random images in MNIST's layout."""
    return write_mnist(tmp_path_factory.mktemp("mnist"), count=23)

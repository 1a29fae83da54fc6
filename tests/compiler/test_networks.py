"""The provided networks against PyTorch, through the reference, at every stage."""

import pytest
import torch

from o3bnn.train.networks import build
from tests.compiler.helpers import check, randomize

SMALL = {
    "mlp": {"n": 65, "depth": 2},
    "cnv": {"width": 0.25},
    "vgg_like": {"width": 0.13},
    "alexnet": {"width": 0.05, "classes": 7, "image": (71, 75, 3)},
    "vgg16": {"width": 0.06, "classes": 7, "image": (33, 40, 3)},
}


@pytest.mark.parametrize("order", ["after_sign", "before_norm"])
@pytest.mark.parametrize("name", SMALL)
def test_provided_networks_compile_exactly(name, order):
    torch.manual_seed(3)
    options = SMALL[name] | ({} if name == "mlp" else {"pool": order})
    model = randomize(build(name, **options), 4)
    image = options.get("image", (28, 28, 1) if name == "mlp" else (32, 32, 3))
    network = check(model, image, count=1)
    last = "fc2" if name != "mlp" else f"fc{options['depth']}"
    assert network.stages[-1].name == last
    assert network.output.name == "output"
    windows = [stage for stage in network.stages if stage.pooling is not None]
    assert any((stage.decisive_bit == 0).any() for stage in windows) == (name != "mlp" and order == "before_norm")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_full_size_networks_compile(name):
    from o3bnn.compiler import compile as compile_module

    network = compile_module(build(name), image=(224, 224, 3))
    assert network.output.classes == 1000

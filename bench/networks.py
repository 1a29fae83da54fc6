"""Networks that benchmarks time: provided topologies with random weights and batch norms that set how often bits fire.

No trained weights are involved: dense times do not depend on them, and what pruning gains depends on how often a
pooling window is settled and on how far thresholds lie from the middle. Both are set by the batch norms:

- `random`: batch norms fitted to random images, so that half of the bits fire;
- `plain`: as `random`, but channels of pooled stages fire with a probability of 0.3 to 0.5, as those of networks do
  that are trained without regard to pruning;
- `regularized`: channels of pooled stages fire with 0.8 to 0.95, and the neurons of other stages are decided after 15
  to 60% of their edges, as training for pruning aims at.
"""

from statistics import NormalDist

import numpy as np
import torch
from torch import nn

import o3bnn
from o3bnn import Network
from o3bnn.train.networks import build

KINDS = ("random", "plain", "regularized")
FITTING_BATCHES, FITTING_IMAGES = 20, 2


def network(topology: str, kind: str = "random", side: int | None = None) -> Network:
    """A compiled network of a provided topology; side: of its square colour images, by default the topology's own."""
    torch.manual_seed(0)
    options = {"image": (side, side, 3)} if side else {}
    module = build(topology, pool="before_norm" if kind == "random" else "after_sign", **options)
    side = side or (224 if topology in ("alexnet", "vgg16") else 32)
    _fit(module, side)
    if kind != "random":
        _set_firing(module, regularized=kind == "regularized")
    label = "random weights" if kind == "random" else f"random weights, firing as {kind}"
    return o3bnn.compile(module.eval(), image=(side, side, 3), name=f"{topology}, {label}")


def _fit(module: nn.Sequential, side: int) -> None:
    module.train()
    batches = FITTING_BATCHES if side <= 64 else 3
    with torch.no_grad():
        for _ in range(batches):
            module(torch.randint(0, 256, (FITTING_IMAGES, 3, side, side)).float())


def _set_firing(module: nn.Sequential, regularized: bool) -> None:
    """Shift every hidden batch norm but the first, whose stage reads integers."""
    rng = np.random.default_rng(0)
    names = list(dict(module.named_children()))
    layers = dict(module.named_children())
    norms = [name for name in names if isinstance(layers[name], nn.BatchNorm1d | nn.BatchNorm2d)]
    for name in norms[1:]:
        norm = layers[name]
        assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
        following = names[names.index(name) + 2] if names.index(name) + 2 < len(names) else ""
        if following.startswith("pool"):
            low, high = (0.8, 0.95) if regularized else (0.3, 0.5)
            rates = rng.uniform(low, high, norm.num_features)
            shift = [NormalDist().inv_cdf(rate) for rate in rates]
        elif regularized:
            before = layers[names[names.index(name) - 1]]
            shift = _decided_after(rng.uniform(0.15, 0.6, norm.num_features), _fan_in(before), norm)
        else:
            continue
        with torch.no_grad():
            norm.bias.copy_(torch.tensor(np.asarray(shift)))


def _decided_after(shares: np.ndarray, fan_in: int, norm: nn.Module) -> np.ndarray:
    """Biases with which neurons whose matches come evenly are decided after these shares of their edges.

    A neuron that half of its edges match is silent for certain after n edges where n / 2 + K - n < t, so t / K = 1 -
    share / 2; the signed sum then needs K (1 - share). Every other channel fires for certain instead.
    """
    sums = fan_in * (1 - shares) * np.where(np.arange(len(shares)) % 2, 1, -1)
    deviation = np.sqrt(norm.running_var.numpy() + norm.eps)
    return -(sums - norm.running_mean.numpy()) / deviation


def _fan_in(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight[0].numel()

"""PyTorch modules built from the same random specifications as the integer networks of `strategies.py`."""

import numpy as np
import torch
from torch import nn

from o3bnn.train.layers import BinaryConv2d, BinaryLinear, LogitScale, PixelEncoding, Sign
from tests.strategies import ConvSpec, Spec, out_shape, table


def randomize_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, fan_in: int, magnitude: float, seed: int) -> None:
    """Statistics such that most channels fire now and then; gamma of every sign, some zero, some channels constant."""
    rng = np.random.default_rng(seed)
    channels = norm.num_features
    spread = magnitude * np.sqrt(fan_in)
    gamma = rng.normal(0, 1, channels) * rng.choice([1, 1e-3, 30], channels)
    gamma[rng.random(channels) < 0.05] = 0
    values = {
        "weight": gamma,
        "bias": rng.normal(0, 0.5, channels),
        "running_mean": rng.normal(0, spread / 2, channels) + (rng.random(channels) < 0.04) * 4 * fan_in * magnitude,
        "running_var": (spread * rng.uniform(0.2, 2, channels)) ** 2,
    }
    with torch.no_grad():
        for name, value in values.items():
            getattr(norm, name).copy_(torch.from_numpy(value))


def build(spec: Spec) -> tuple[nn.Sequential, list[nn.Sequential]]:
    """A module in eval mode, and its blocks: one a stage, each ending in the bits (+-1) of that stage."""
    torch.manual_seed(spec.seed)
    rng = np.random.default_rng(spec.seed)
    values = table(spec, rng)
    magnitude = float(np.abs(values).max()) * 0.6 if spec.encoding != "bits" else 1.0
    blocks: list[nn.Sequential] = []
    shape = spec.image
    for conv in spec.convs:
        blocks.append(conv_block(conv, shape[2], magnitude if not blocks else 1.0, spec.seed + len(blocks)))
        following = out_shape(shape, conv)
        assert following is not None
        shape = following
    features = shape[0] * shape[1] * shape[2]
    flat = False
    for width in spec.dense:
        norm = nn.BatchNorm1d(width)
        randomize_norm(norm, features, magnitude if not blocks else 1.0, spec.seed + len(blocks))
        layers = [nn.Flatten()] if not flat else []
        blocks.append(nn.Sequential(*layers, BinaryLinear(features, width), norm, Sign()))
        features, flat = width, True
    head = LogitScale(spec.classes)
    randomize_norm(head, features, 1.0, spec.seed + 99)
    tail = (
        [BinaryLinear(features, spec.classes), head]
        if flat
        else [nn.Flatten(), BinaryLinear(features, spec.classes), head]
    )
    model = nn.Sequential(PixelEncoding(torch.from_numpy(values)), *blocks, *tail)
    return model.eval(), blocks


def conv_block(conv: ConvSpec, in_channels: int, magnitude: float, seed: int) -> nn.Sequential:
    fan_in = in_channels // conv.groups * conv.kernel[0] * conv.kernel[1]
    norm = nn.BatchNorm2d(conv.channels)
    randomize_norm(norm, fan_in, magnitude, seed)
    layers: list[nn.Module] = [
        BinaryConv2d(
            in_channels,
            conv.channels,
            conv.kernel,
            stride=conv.stride,
            padding=conv.padding,
            padding_mode=conv.padding_mode,
            groups=conv.groups,
            bias=conv.bias,
        )
    ]
    tail: list[nn.Module] = [norm, Sign()]
    if conv.pool is not None:
        pool = nn.MaxPool2d(conv.pool[0], conv.pool[1])
        tail = [pool, *tail] if conv.pool_first else [*tail, pool]
    return nn.Sequential(*layers, *tail)

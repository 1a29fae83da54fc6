"""Compares a compiled module with PyTorch itself, stage by stage, with ==."""

import numpy as np
import torch
from torch import nn

import o3bnn
from o3bnn.model import reference
from o3bnn.train.layers import BinaryConv2d, BinaryLinear


def leaves(module):
    """The modules of a Sequential tree, in order."""
    for child in module.children():
        if isinstance(child, nn.Sequential):
            yield from leaves(child)
        else:
            yield child


def torch_bits(module, images):
    """Bits of every stage as uint8 [n, h, w, c], and the logits, from PyTorch in eval mode."""
    module.eval()
    value = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    bits, planar, layers = [], value, 0
    with torch.no_grad():
        for leaf in leaves(module):
            is_layer = isinstance(leaf, BinaryConv2d | BinaryLinear)
            if is_layer and layers:
                bits.append(planar)
            layers += is_layer
            value = leaf(value)
            if is_layer:
                planar = value if value.ndim == 4 else value[:, :, None, None]
            elif value.ndim == 4:
                planar = value
            else:  # the map before Flatten keeps its shape until the next layer
                planar = value.reshape(planar.shape)
    for stage in bits:
        assert set(stage.unique().tolist()) <= {-1.0, 1.0}
    return [(stage > 0).to(torch.uint8).permute(0, 2, 3, 1).numpy() for stage in bits], value.numpy()


def random_images(shape, count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def randomize(module, seed=0):
    """Every norm and bias random: gamma of every sign, some zero, some channels constant."""
    rng = np.random.default_rng(seed)
    fan_in, magnitude = 1, 150.0
    with torch.no_grad():
        for leaf in leaves(module):
            if isinstance(leaf, BinaryConv2d | BinaryLinear):
                magnitude = 150.0 if fan_in == 1 else 1.0
                fan_in = leaf.weight[0].numel()
                if leaf.bias is not None:
                    leaf.bias.copy_(torch.from_numpy(rng.normal(0, magnitude, len(leaf.bias))))
            elif isinstance(leaf, nn.BatchNorm1d | nn.BatchNorm2d):
                spread, n = magnitude * np.sqrt(fan_in), leaf.num_features
                gamma = rng.normal(0, 1, n)
                gamma[rng.random(n) < 0.1] = 0
                mean = rng.normal(0, spread / 2, n) + (rng.random(n) < 0.1) * 4 * fan_in * magnitude
                leaf.running_mean.copy_(torch.from_numpy(mean))
                leaf.running_var.copy_(torch.from_numpy((spread * rng.uniform(0.2, 2, n)) ** 2))
                if leaf.affine:
                    leaf.weight.copy_(torch.from_numpy(gamma))
                    leaf.bias.copy_(torch.from_numpy(rng.normal(0, 0.5, n)))
    return module


def check(module, image, count=3, seed=0):
    """Compile, run the reference on random images, and compare every bit and logit with PyTorch's."""
    images = random_images(image, count, seed)
    expected, logits = torch_bits(module, images)
    network = o3bnn.compile(module, image=image)
    trace = reference.run(network, images)
    assert len(network.stages) == len(expected)
    for stage, found, wanted in zip(network.stages, trace.stages, expected, strict=True):
        np.testing.assert_array_equal(found.bits, wanted, err_msg=stage.name, strict=True)
    np.testing.assert_array_equal(trace.logits, logits, strict=True)
    return network

"""The derived thresholds against PyTorch itself, on every integer sum."""

import numpy as np
import pytest
import torch
from torch import nn

from o3bnn.compiler.stages import Group
from o3bnn.compiler.steps import Step
from o3bnn.compiler.thresholds import bisect, decide
from o3bnn.errors import UnsupportedModuleError
from o3bnn.train.layers import BinaryConv2d, BinaryLinear, Sign

CHANNELS = 4000


def extreme_norm(kind, channels, bound, seed, affine=True):
    """Statistics of every size: gamma of each sign, zero, tiny, huge; tiny variance; means on integers, hence ties."""
    rng = np.random.default_rng(seed)
    norm = kind(channels, affine=affine).eval()
    mean = rng.choice([0.0, 1.0, 0.5], channels) * rng.integers(-bound, bound + 1, channels)
    mean += (rng.random(channels) < 0.5) * rng.normal(0, bound / 3, channels)
    with torch.no_grad():
        norm.running_mean.copy_(torch.from_numpy(mean))
        norm.running_var.copy_(torch.from_numpy(rng.choice([0.0, 1e-30, 1e-3, 1.0, 77.7, 1e6, 1e30], channels)))
        if affine:
            size = rng.choice([0.0, 1e-42, 1e-30, 1e-3, 1.0, 30.0, 1e20, 1e30], channels)
            norm.weight.copy_(torch.from_numpy(rng.normal(0, 1, channels) * size))
            size = rng.choice([0.0, 1e-30, 1.0, 30.0], channels)
            norm.bias.copy_(torch.from_numpy(rng.normal(0, 1, channels) * size))
    return norm


def dense_group(parts, channels=CHANNELS, bias=None):
    layer = BinaryLinear(1, channels, bias=bias is not None)
    if bias is not None:
        layer.bias.data.copy_(torch.from_numpy(bias))
    shape = (1, channels)
    steps = tuple(Step(f"part{i}", part, shape, shape) for i, part in enumerate(parts))
    return Group(Step("layer", layer, (1, 1), shape), steps, (1, 1, 1))


def conv_group(parts, channels=CHANNELS):
    shape = (1, channels, 1, 1)
    steps = tuple(Step(f"part{i}", part, shape, shape) for i, part in enumerate(parts))
    return Group(Step("layer", BinaryConv2d(1, channels, 1), (1, 1, 1, 1), shape), steps, (1, 1, 1))


def derived_bits(decision, sums):
    """What the integer rule gives for sums [n]: bool [n, channels]."""
    signed = np.where(decision.flipped, -1, 1) * sums[:, None]
    return np.where(decision.constant >= 0, decision.constant == 1, signed >= decision.threshold)


def every_sum(bound):
    return np.arange(-bound, bound + 1)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
@pytest.mark.parametrize("bound", [1, 17, 255])
def test_batch_norm_on_every_sum(kind, affine, bound):
    norm = extreme_norm(kind, CHANNELS, bound, seed=bound, affine=affine)
    sums = every_sum(bound)
    value = torch.from_numpy(sums).float()[:, None].expand(-1, CHANNELS)
    value = value[:, :, None, None] if kind is nn.BatchNorm2d else value
    with torch.no_grad():
        expected = norm(value.contiguous()).reshape(len(sums), CHANNELS).numpy() >= 0
    decision = decide((conv_group if kind is nn.BatchNorm2d else dense_group)([norm, Sign()]), bound)
    np.testing.assert_array_equal(derived_bits(decision, sums), expected)
    if affine:
        assert {-1, 0, 1} == set(decision.constant.tolist())
        assert decision.flipped.any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("width", [2, 7, 16, 17])
def test_batch_norm_on_larger_maps(width, memory_format):
    """One 1 x 1 map stands for maps of any size, batch and memory format."""
    bound, channels = 40, 1500
    norm = extreme_norm(nn.BatchNorm2d, channels, bound, seed=5)
    sums = every_sum(bound)
    value = torch.from_numpy(sums).float()[:, None, None, None].expand(-1, channels, 1, width)
    with torch.no_grad():
        found = norm(value.contiguous(memory_format=memory_format)).numpy() >= 0
    expected = derived_bits(decide(conv_group([norm, Sign()], channels), bound), sums)
    np.testing.assert_array_equal(found, np.broadcast_to(expected[:, :, None, None], found.shape))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "build",
    [
        lambda norm: [norm(), nn.Hardtanh(), Sign()],
        lambda norm: [nn.Hardtanh(-20, 5), norm(), Sign()],
        lambda norm: [norm(), nn.Hardtanh(-0.1, 0.2), norm(), Sign()],
        lambda norm: [Sign(), norm(), Sign()],
        lambda norm: [norm(), Sign(0.5)],
    ],
    ids=["norm-tanh", "tanh-norm", "norm-tanh-norm", "sign-norm", "norm"],
)
def test_chains_with_bias_on_every_sum(build, seed):
    bound, channels = 63, 1000
    rng = np.random.default_rng(seed)
    bias = (rng.normal(0, 20, channels) * rng.choice([0, 1e-3, 1], channels)).astype(np.float32)
    norms = iter([extreme_norm(nn.BatchNorm1d, channels, reach, seed + reach) for reach in (bound, 1)])
    parts = build(lambda: next(norms))
    sums = every_sum(bound)
    with torch.no_grad():
        value = torch.from_numpy(sums).float()[:, None] + torch.from_numpy(bias)
        for part in parts:
            value = part(value)
    decision = decide(dense_group(parts, channels, bias), bound)
    np.testing.assert_array_equal(derived_bits(decision, sums), value.numpy() >= 0)


def test_first_layer_sums_up_to_2_to_the_24():
    """Near the threshold of each channel, where float32 has the least room."""
    bound, channels = 1 << 24, 4000
    norm = extreme_norm(nn.BatchNorm1d, channels, bound, seed=3)
    decision = decide(dense_group([norm, Sign()], channels), bound)
    raw = np.where(decision.flipped, -decision.threshold, decision.threshold)
    for offset in range(-3, 4):
        sums = np.clip(raw + offset, -bound, bound)
        with torch.no_grad():
            expected = norm(torch.from_numpy(sums).float()[None]).numpy()[0] >= 0
        signed = np.where(decision.flipped, -1, 1) * sums
        found = np.where(decision.constant >= 0, decision.constant == 1, signed >= decision.threshold)
        np.testing.assert_array_equal(found, expected)


def test_bisect_finds_the_first_change_in_both_directions():
    cut = np.arange(-6, 8)
    least, greatest = np.full(14, -7), np.full(14, 7)
    for low in (False, True):
        first = bisect(lambda sums, low=low: (sums >= cut) ^ low, np.full(14, low), least, greatest)
        np.testing.assert_array_equal(first, cut)


@pytest.mark.parametrize(
    ("field", "value"),
    [("running_var", -1.0), ("running_var", -1e-5), ("weight", 3e38)],
    ids=["negative", "zero", "huge"],
)
def test_a_batch_norm_that_is_not_a_number_is_named(field, value):
    norm = nn.BatchNorm1d(5).eval()
    with torch.no_grad():
        norm.running_var.fill_(1e-10)
        norm.running_mean.fill_(3)
        getattr(norm, field)[2] = value
        norm.eps = 1e-5 if value < 0 else 0
    with pytest.raises(UnsupportedModuleError, match=r"'part0' \(BatchNorm1d\): channel 2 is not a number"):
        decide(dense_group([norm, Sign()], 5), 9)

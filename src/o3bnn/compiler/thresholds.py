"""Derives integer thresholds from a model's own float32 arithmetic.

For one channel let f(s) be what the model computes in eval mode from the integer sum s: bias, batch norm, Hardtanh and
Sign. Every part is monotone in float32, since rounding is, so f is too, and the bit [f(s) >= 0] changes at most once
over the reachable sums -S .. S. Bisection with the model's own modules finds where, in log2(2S + 1) evaluations:

    f(-S) <  0 <= f(S)   increasing: fires iff s >= theta
    f(-S) >= 0 >  f(S)   decreasing: fires iff s <= theta. Flipping the weights (s' = -s): fires iff s' >= -theta
    same sign at both    constant: the bit does not depend on the sum

No formula is inverted: a division disagrees with the model's rounding, for one to three channels in 10^4 of a first
layer, and for two in five where ties are common (docs/decisions/0002-thresholds-by-bisection.md).

Pooling. Over a window, an increasing function of the max is the max of the function; a decreasing one of the max is the
min of the function. Let g be the part of f after the pool. Where g increases, the pooled bit is the OR of the window's
bits [f(s_i) >= 0]; where g decreases, it is their AND. Whether f itself increases only decides on the flip.

From sums to scores. In border class b only K_b edges exist. Padding of value p adds the constant
c_b = p * (sum of the weights on the padding), after the flip, to the model's sum, hence on the existing edges alone the
neuron fires iff s >= theta - c_b. With s = 2m - K_b:  m >= ceil((theta - c_b + K_b) / 2), clipped to 0 .. K_b + 1.
Integer inputs of magnitude A keep the sum: theta - c_b clipped to -K_b A .. K_b A + 1.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from o3bnn.compiler.stages import Group
from o3bnn.compiler.steps import Step
from o3bnn.errors import UnsupportedModuleError
from o3bnn.model import ConvGeometry
from o3bnn.train.layers import BinaryConv2d, BinaryLinear

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MAX_EXACT_SUM = 1 << 24  # float32 holds every integer up to here


@dataclass(frozen=True, eq=False)
class Decision:
    """When each channel of a layer fires, over the model's whole sum (padding included): arrays of [channels].

    constant: int8, the bit of a channel that never depends on its sum, else -1.
    flipped: whether the weights must change sign. threshold: int64, the channel fires iff the (flipped) sum reaches it.
    and_window: whether a max-pool becomes an AND of bits (decisive bit 0).
    """

    constant: npt.NDArray[np.int8]
    flipped: Flags
    threshold: Ints
    and_window: Flags


class Chain:
    """The float32 function between a layer's integer sums and its bits, run by copies of the model's own modules.

    On the CPU, PyTorch's batch norm computes the same values for contiguous and channels-last maps of any size and any
    batch, so one 1 x 1 map of all channels stands for all of them.
    """

    def __init__(self, group: Group) -> None:
        assert isinstance(group.layer.module, BinaryConv2d | BinaryLinear)
        bias = group.layer.module.bias
        self.layer = group.layer
        self.bias = None if bias is None else bias.detach().cpu()
        self.parts = [(step, _copy(step)) for step in group.operations]

    def run(self, sums: Ints, until: int | None = None) -> Tensor:
        """Float32 [channels] after the operations before index `until` (default all), pools left out."""
        value = torch.from_numpy(sums).to(torch.float32)
        if self.bias is not None:
            value = value + self.bias
        with torch.no_grad():
            for step, module in self.parts[:until]:
                if not isinstance(module, nn.MaxPool2d):
                    maps = value[None, :, None, None] if isinstance(module, nn.BatchNorm2d) else value[None]
                    value = module(maps).reshape(-1)
                    _check_number(step, value)
        return value


def decide(group: Group, bound: int) -> Decision:
    """Bisect every channel of a hidden group over its sums -bound .. bound.

    Raises:
        UnsupportedModuleError: a batch norm is not a number somewhere, or a window is neither an OR nor an AND.
    """
    chain = Chain(group)
    channels = group.layer.out_shape[1]
    least, greatest = np.full(channels, -bound, np.int64), np.full(channels, bound, np.int64)

    def fires(sums: Ints) -> Flags:
        return np.asarray((chain.run(sums) >= 0).numpy(), np.bool_)

    low, high = fires(least), fires(greatest)
    first = bisect(fires, low, least, greatest)
    flipped = low & ~high
    constant = np.where(low == high, low, -1).astype(np.int8)
    threshold = np.where(flipped, 1 - first, first)
    return Decision(constant, flipped, threshold, _and_windows(group, chain, bound, flipped, constant < 0))


def bisect(fires: Callable[[Ints], Flags], low: Flags, least: Ints, greatest: Ints) -> Ints:
    """Per channel, the least sum above `least` whose bit is not `low`, the bit at `least`; else `greatest`.

    fires: the bits of one candidate sum a channel; monotone in each channel.
    """
    below, above = least.copy(), greatest.copy()
    while np.any(above - below > 1):
        middle = (below + above) // 2
        same = fires(middle) == low
        below, above = np.where(same, middle, below), np.where(same, above, middle)
    return above


def class_thresholds(
    decision: Decision, weights: Flags, g: ConvGeometry, padding: int, magnitude: int | None
) -> npt.NDArray[np.int32]:
    """Thresholds on the score of the existing edges: int32 [class_count, out_channels].

    weights: the (flipped) weights, True for +1, [out_channels, full_fan_in]. padding: the value beyond the border.
    magnitude: the largest absolute integer of an integer input, or None for bits.
    """
    fan_in = g.class_fan_in[:, None]
    theta = decision.threshold[None, :] - (padding * _weight_sums(~g.class_masks, weights) if padding else 0)
    if magnitude is None:
        low, high = 0 * fan_in, fan_in
        theta = -((-(theta + fan_in)) // 2)
    else:
        low, high = -fan_in * magnitude, fan_in * magnitude
    theta = np.clip(theta, low, high + 1)
    theta = np.where(decision.constant == 1, low, theta)
    return np.where(decision.constant == 0, high + 1, theta).astype(np.int32)


def _weight_sums(masks: Flags, weights: Flags) -> Ints:
    """Sum of each channel's weights, +1 or -1, on the masked edges: int64 [classes, channels]."""
    return np.stack([2 * np.count_nonzero(weights[:, mask], axis=1) - np.count_nonzero(mask) for mask in masks])


def _and_windows(group: Group, chain: Chain, bound: int, flipped: Flags, is_open: Flags) -> Flags:
    """Channels whose function after the pool decreases, hence whose window is an AND."""
    directions = [_direction(chain, bound, len(flipped), until=index) for index in group.pools]
    for index, direction in zip(group.pools, directions, strict=True):
        mixed = np.flatnonzero((direction != directions[0]) & is_open)
        if len(mixed):
            raise UnsupportedModuleError(
                f"{group.operations[index]}: between it and the pool before, channel {mixed[0]} decreases, so that a "
                f"window is neither an OR nor an AND of bits: put both pools on one side of the batch norm"
            )
    if not directions:
        return np.zeros(len(flipped), np.bool_)
    return np.asarray(is_open & (directions[0] != np.where(flipped, -1, 1)), np.bool_)


def _direction(chain: Chain, bound: int, channels: int, until: int) -> npt.NDArray[np.int64]:
    """Whether the function up to an operation increases (1), decreases (-1) or is constant (0): [channels]."""
    low, high = (chain.run(np.full(channels, end, np.int64), until).numpy() for end in (-bound, bound))
    return np.where(high > low, 1, np.where(high < low, -1, 0))


def _copy(step: Step) -> nn.Module:
    """A module of one's own, on the CPU, in eval mode."""
    module: nn.Module = copy.deepcopy(step.module).cpu().eval()
    return module.requires_grad_(False)


def _check_number(step: Step, value: Tensor) -> None:
    bad: Sequence[int] = torch.nonzero(torch.isnan(value)).reshape(-1).tolist()
    if bad:
        raise UnsupportedModuleError(
            f"{step}: channel {bad[0]} is not a number in eval mode: its running variance is negative, or gamma and "
            f"variance overflow float32"
        )

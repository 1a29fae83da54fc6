"""Turns channels whose pool windows seldom settle early into ones whose windows often do.

A window is settled by the first of its neurons whose sum passes the threshold; one that is never settled costs all
of its neurons. Of a channel that is settled in a share d of its windows, pooling prunes at most (1 - 1 / P) d of the
edges, with P neurons a window. Trained networks have many channels with a small d: rare features. An output bit and
its negation tell the next layer the same, so such a channel can as well ask for the opposite: with negated weights, and
a threshold at which a share 1 - d of its windows are settled. Where the sums of a window agree with each other this is
the same feature; elsewhere it is "everywhere in the window, more or less" in place of "somewhere, and strongly", and
further training has to make up for the difference.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from o3bnn.errors import InputError
from o3bnn.train.layers import BinaryConv2d, BinaryLinear
from o3bnn.train.regularize_stages import PrunedStage, find_stages


@torch.no_grad()
def turn_channels(net: nn.Sequential, pixels: Tensor, below: float = 0.5) -> dict[str, int]:
    """Turn the channels of pooled stages that are settled in a share of less than `below` of the windows, in place.

    pixels: of some hundred training images, float32 [n, channels, height, width], 0..255. The next layer's weights are
    negated where they read a turned channel. Channels that are never settled stay as they are. Returns how many
    channels of each pooled stage were turned.

    Raises `InputError` for a model that the regularizer cannot read either, or a share out of range.
    """
    if not 0 <= below <= 1:
        raise InputError(f"below = {below!r} is not a share: use a number in 0..1")
    net.eval()
    layers = [layer for layer in net.modules() if isinstance(layer, BinaryConv2d | BinaryLinear)]
    following = dict(pairwise(layers))
    turned = {}
    for stage in find_stages(net, input_stage=True):
        if stage.pool is not None:
            rare = _turn(stage, _sums(net, stage.layer, pixels), below)
            _negate_inputs(following[stage.layer], rare)
            turned[stage.name] = int(rare.sum())
    return turned


def _sums(net: nn.Sequential, layer: nn.Module, pixels: Tensor) -> Tensor:
    """What the layer puts out for these images."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        net(pixels)
    finally:
        handle.remove()
    return seen[0]


def _turn(stage: PrunedStage, sums: Tensor, below: float) -> Tensor:
    """Turn a stage's rarely settled channels: bool [channels]."""
    norm, layer = stage.norm, stage.layer
    assert stage.pool is not None and norm.running_mean is not None and norm.running_var is not None
    deviation = (norm.running_var + norm.eps).sqrt()
    theta = norm.running_mean - norm.bias * deviation / norm.weight
    # Pooled bits are settled by a 1, which is a small sum where gamma is negative; pooled sums by a large one.
    direction = torch.ones_like(theta) if stage.pools_sums else norm.weight.sign()
    windows = _windows(stage, sums * direction[:, None, None])
    settled = (windows.amax(0) >= (theta * direction)[:, None]).sum(1)
    count = windows.shape[2]
    rare = (settled > 0) & (settled < below * count) & (norm.weight != 0)
    for channel in torch.nonzero(rare).flatten().tolist():
        least = windows[:, channel].amin(0)
        ordered = least.sort(descending=True).values
        k = int(settled[channel])
        cut = (ordered[k - 1] + ordered[k]) / 2  # as many windows lie wholly above it as were settled
        layer.weight[channel].neg_()
        if layer.bias is not None:
            layer.bias[channel].neg_()
        if stage.pools_sums:
            norm.running_mean[channel] = (-least).mean()
            norm.running_var[channel] = least.var(correction=0)
        else:
            norm.running_mean[channel].neg_()
        deviation = (norm.running_var[channel] + norm.eps).sqrt()
        theta = -cut * direction[channel]
        norm.bias[channel] = norm.weight[channel] * (norm.running_mean[channel] - theta) / deviation
    return rare


def _windows(stage: PrunedStage, sums: Tensor) -> Tensor:
    """Sums of each place of a window: [places, channels, windows of all images]."""
    places = [sums[..., rows, columns] for rows, columns in stage.window_positions(*sums.shape[2:])]
    return torch.stack([place.transpose(0, 1).flatten(1) for place in places])


def _negate_inputs(layer: BinaryConv2d | BinaryLinear, channels: Tensor) -> None:
    """Negate the weights that read these channels of the maps before; a linear layer reads them flattened."""
    signs = torch.where(channels, -1.0, 1.0)
    if isinstance(layer, BinaryLinear):
        layer.weight.mul_(signs.repeat_interleave(layer.in_features // len(signs)))
        return
    per_group = signs.view(layer.groups, 1, -1, 1, 1)
    layer.weight.view(layer.groups, -1, *layer.weight.shape[1:]).mul_(per_group)

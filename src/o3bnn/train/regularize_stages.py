"""Finds the stages of a model whose edges can be pruned, and the geometry that their counts need.

A stage is a binary layer, its batch norm and Sign, and at most one max-pool: before the norm (which pools a window's
sums) or after the sign (which pools its bits). Dropout, Identity, Hardtanh and Flatten are passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from o3bnn.errors import InputError
from o3bnn.train.layers import PADDING_VALUES, BinaryConv2d, BinaryLinear, LogitScale, PixelEncoding, Sign, binarize

Pair = tuple[int, int]

_NEUTRAL = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Hardtanh, nn.Flatten)


@dataclass(frozen=True, eq=False)
class PrunedStage:
    """A hidden stage as the regularizer reads it.

    name: path of the layer. magnitude: the largest |input|, 1 for bits. pool: size and stride, or None.
    pools_sums: the max-pool stands before the norm.
    """

    name: str
    layer: BinaryConv2d | BinaryLinear
    norm: nn.BatchNorm1d | nn.BatchNorm2d
    magnitude: int
    pool: tuple[Pair, Pair] | None
    pools_sums: bool

    def fan_in(self, height: int, width: int) -> Tensor:
        """Valid edges of a neuron at each position of the layer's output, from input maps of height x width.

        Float32 [out_height, out_width]; [1, 1] for a linear layer.
        """
        layer = self.layer
        if isinstance(layer, BinaryLinear):
            return torch.full((1, 1), float(layer.in_features))
        kernel = torch.ones(1, 1, *layer.kernel_size)
        positions = functional.conv2d(torch.ones(1, 1, height, width), kernel, None, layer.stride, layer.padding)
        return positions[0, 0] * (layer.in_channels // layer.groups)

    def padding_sums(self, height: int, width: int) -> Tensor:
        """What padding of -1 or +1 adds to every sum: float32 [out_channels, out_height, out_width]."""
        layer = self.layer
        assert isinstance(layer, BinaryConv2d)
        (rows, columns), value = layer.padding, PADDING_VALUES[layer.padding_mode]
        inside = torch.zeros(1, layer.in_channels, height, width, device=layer.weight.device)
        border = functional.pad(inside, (columns, columns, rows, rows), value=value)
        signs = binarize(layer.weight.detach().float())
        return functional.conv2d(border, signs, None, layer.stride, groups=layer.groups)[0]

    @property
    def is_padded(self) -> bool:
        """Whether padding adds to the sums."""
        layer = self.layer
        return isinstance(layer, BinaryConv2d) and any(layer.padding) and layer.padding_mode != "zero"

    def window_positions(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """For each place in a window, in raster order, where it lies on a map of height x width in all windows."""
        (rows, columns), (down, right) = self.pool or ((1, 1), (1, 1))
        last_row, last_column = (height - rows) // down * down, (width - columns) // right * right
        return [
            (slice(y, y + last_row + 1, down), slice(x, x + last_column + 1, right))
            for y in range(rows)
            for x in range(columns)
        ]


def find_stages(model: nn.Sequential, *, input_stage: bool = False) -> list[PrunedStage]:
    """The hidden stages that read bits, in order; also the one that reads integers if `input_stage`.

    Raises:
        InputError: the model is not a sequence of such stages and an output layer; the message names the module.
    """
    if not isinstance(model, nn.Sequential):
        raise InputError(f"the regularizer reads an nn.Sequential, not a {type(model).__name__}")
    modules = list(_leaves(model))
    starts = [i for i, (_, module) in enumerate(modules) if isinstance(module, BinaryConv2d | BinaryLinear)]
    if not starts:
        raise InputError("the model has no BinaryConv2d or BinaryLinear: there is nothing to prune")
    magnitudes = [_input_magnitude(modules[: starts[0]]), *[1] * (len(starts) - 1)]
    stages = [
        _stage(modules[start:end], magnitude)
        for start, end, magnitude in zip(starts, starts[1:], magnitudes, strict=False)
        if magnitude == 1 or input_stage
    ]
    if not stages:
        raise InputError("the model has no hidden stage that reads bits: there is nothing to prune")
    return stages


def _leaves(model: nn.Sequential, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_children():
        if isinstance(module, nn.Sequential):
            yield from _leaves(module, f"{path}{name}.")
        else:
            yield f"{path}{name}", module


def _input_magnitude(before: list[tuple[str, nn.Module]]) -> int:
    """The largest |integer| that the first layer reads."""
    encoding = next((module for _, module in before if isinstance(module, PixelEncoding)), None)
    if encoding is None:
        raise InputError("the model does not start with a PixelEncoding: the range of its input is not known")
    is_signed = any(isinstance(module, Sign) for _, module in before)
    return 1 if is_signed else max(1, int(encoding.table.to(torch.int32).abs().max()))


def _stage(modules: list[tuple[str, nn.Module]], magnitude: int) -> PrunedStage:
    """A stage from its layer and the modules up to the next layer."""
    (name, layer), following = modules[0], modules[1:]
    kinds = (nn.BatchNorm1d | nn.BatchNorm2d, Sign, nn.MaxPool2d)
    norms, signs, pools = ([i for i, (_, m) in enumerate(following) if isinstance(m, kind)] for kind in kinds)
    for path, module in following:
        if not isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, Sign, nn.MaxPool2d, *_NEUTRAL)):
            raise InputError(f"{path!r} ({type(module).__name__}): the regularizer cannot read it; see docs/pruning.md")
        if isinstance(module, LogitScale):
            raise InputError(f"{path!r} (LogitScale): it belongs after the last layer")
    if len(norms) != 1 or len(signs) != 1 or len(pools) > 1 or norms[0] > signs[0]:
        raise InputError(
            f"after {name!r} stand {len(norms)} batch norms, {len(signs)} Sign and {len(pools)} max-pools: the "
            "regularizer reads one batch norm, then one Sign, and at most one max-pool"
        )
    assert isinstance(layer, BinaryConv2d | BinaryLinear)
    norm = following[norms[0]][1]
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    pool = _pool(*following[pools[0]]) if pools else None
    if pools and norms[0] < pools[0] < signs[0]:
        raise InputError(f"{following[pools[0]][0]!r} pools between batch norm and Sign: put it before or after both")
    return PrunedStage(name, layer, norm, magnitude, pool, bool(pools) and pools[0] < norms[0])


def _pool(path: str, pool: nn.Module) -> tuple[Pair, Pair]:
    """Size and stride."""
    assert isinstance(pool, nn.MaxPool2d)
    if _pair(pool.padding) != (0, 0) or _pair(pool.dilation) != (1, 1) or pool.ceil_mode:
        raise InputError(f"{path!r} (MaxPool2d): padding, dilation and ceil_mode are not supported")
    return _pair(pool.kernel_size), _pair(pool.stride or pool.kernel_size)


def _pair(value: int | tuple[int, ...]) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])

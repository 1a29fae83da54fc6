"""Groups the steps of a module into what the integer network has: an input table, stages, and an output layer.

A group is a binary layer and the operations between it and the next binary layer. Those of a hidden group end in Sign
(a pool, Dropout or Flatten may follow), so that the next layer reads bits.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from o3bnn.compiler.steps import LAYERS, NO_OPS, SUPPORTED, Step, pool_size
from o3bnn.errors import UnsupportedModuleError
from o3bnn.model import Pooling
from o3bnn.train.layers import BinaryLinear, LogitScale, PixelEncoding, Sign


@dataclass(frozen=True)
class Group:
    """A binary layer and what follows it up to the next one: elementwise operations and max-pools, in order.

    source: (channels, height, width) of the map that the layer reads; for a dense layer, as it was before Flatten.
    """

    layer: Step
    operations: tuple[Step, ...]
    source: tuple[int, int, int]

    @property
    def pools(self) -> tuple[int, ...]:
        """Indices of the max-pools among the operations."""
        return tuple(i for i, step in enumerate(self.operations) if isinstance(step.module, nn.MaxPool2d))


@dataclass(frozen=True)
class Groups:
    """A whole network: the 256 input integers (int64), the hidden groups, and the output group."""

    table: torch.Tensor
    hidden: tuple[Group, ...]
    output: Group


def group(steps: list[Step]) -> Groups:
    """Split a line of steps at its binary layers, and check that every part has a form in the integer network."""
    steps = [step for step in steps if not isinstance(step.module, NO_OPS)]
    starts = [i for i, step in enumerate(steps) if isinstance(step.module, LAYERS)]
    if not starts:
        raise UnsupportedModuleError(f"the module has no BinaryConv2d or BinaryLinear; {SUPPORTED}")
    table = _input_table(steps[: starts[0]], steps[starts[0]])
    groups = [
        Group(steps[start], _operations(steps[start + 1 : end]), _source(steps[begin:start], steps[start]))
        for begin, start, end in zip([0, *starts], starts, [*starts[1:], len(steps)], strict=False)
    ]
    for current, following in pairwise(groups):
        _check_hidden(current, following.layer)
    _check_output(groups[-1])
    return Groups(table, tuple(groups[:-1]), groups[-1])


def pooling(hidden: Group) -> Pooling | None:
    """The one window that a group's max-pools amount to, or None.

    Two pools in a row are one of size (size2 - 1) * stride1 + size1 and stride stride1 * stride2, provided that the
    first leaves no gaps (stride1 <= size1) or the second takes single elements.
    """
    size, stride = (1, 1), (1, 1)
    for index in hidden.pools:
        step = hidden.operations[index]
        assert isinstance(step.module, nn.MaxPool2d)
        following, moves = pool_size(step.module)
        if any(s > k and k2 > 1 for s, k, k2 in zip(stride, size, following, strict=True)):
            raise UnsupportedModuleError(f"{step}: it pools the output of a pool that skips positions; use one pool")
        size = _each(lambda k, k2, s: (k2 - 1) * s + k, size, following, stride)
        stride = _each(lambda s, s2, _: s * s2, stride, moves, stride)
    return Pooling(size, stride) if hidden.pools else None


def _each(function: object, *pairs: tuple[int, int]) -> tuple[int, int]:
    assert callable(function)
    rows, columns = zip(*pairs, strict=True)
    return int(function(*rows)), int(function(*columns))


def _operations(steps: list[Step]) -> tuple[Step, ...]:
    """The operations of a group, without Flatten; batch norm after the flattening of a larger map is refused."""
    for index, step in enumerate(steps):
        if isinstance(step.module, PixelEncoding):
            raise UnsupportedModuleError(f"{step}: it stands after a binary layer; it belongs before the first one")
        if isinstance(step.module, nn.BatchNorm1d) and _source(steps[:index], step)[1:] != (1, 1):
            raise UnsupportedModuleError(
                f"{step}: after Flatten it norms every position on its own, but a stage has one threshold a channel: "
                f"use BatchNorm2d before Flatten"
            )
    return tuple(step for step in steps if not isinstance(step.module, nn.Flatten))


def _source(before: list[Step], step: Step) -> tuple[int, int, int]:
    """(channels, height, width) of what a step reads, as it was before a Flatten among the steps `before` it."""
    flattened = (other.in_shape for other in before if isinstance(other.module, nn.Flatten))
    shape = next((shape for shape in (*flattened, step.in_shape) if len(shape) == 4), (0, step.in_shape[1], 1, 1))
    return shape[1], shape[2], shape[3]


def _input_table(steps: list[Step], first: Step) -> torch.Tensor:
    """The integer of each of the 256 pixel values: those of PixelEncoding, or their signs where Sign follows it."""
    encoding = next((step.module for step in steps if isinstance(step.module, PixelEncoding)), None)
    if not isinstance(encoding, PixelEncoding):
        raise UnsupportedModuleError(
            f"{first}: it reads pixels as they are: put o3bnn.train.layers.PixelEncoding first (by default 2p - 255)"
        )
    table: torch.Tensor | None = None
    for step in steps:
        if isinstance(step.module, PixelEncoding) and table is None:
            table = encoding.table.detach().cpu().to(torch.int64)
        elif isinstance(step.module, Sign) and table is not None:
            table = torch.where(table >= 0, 1, -1)
        elif not isinstance(step.module, nn.Flatten):
            raise UnsupportedModuleError(
                f"{step}: only PixelEncoding, then Sign, and Flatten have a form before the first binary layer"
            )
    assert table is not None
    return table


def _check_hidden(hidden: Group, following: Step) -> None:
    values = [step for step in hidden.operations if not isinstance(step.module, nn.MaxPool2d)]
    for step in hidden.operations:
        if isinstance(step.module, LogitScale):
            raise UnsupportedModuleError(f"{step}: it belongs after the last layer; use BatchNorm1d in between")
    if not values or not isinstance(values[-1].module, Sign):
        last = values[-1] if values else hidden.layer
        raise UnsupportedModuleError(f"{following}: it reads values that are not bits: put a Sign after {last}")


def _check_output(output: Group) -> None:
    if not isinstance(output.layer.module, BinaryLinear):
        raise UnsupportedModuleError(f"{output.layer}: the last layer must be a BinaryLinear; put Flatten before it")
    heads = [step for step in output.operations if not isinstance(step.module, nn.BatchNorm1d)]
    if heads or len(output.operations) > 1:
        wrong = heads[0] if heads else output.operations[1]
        raise UnsupportedModuleError(
            f"{wrong}: after the last layer {output.layer} only one LogitScale or BatchNorm1d may follow, which yields "
            f"the logits"
        )

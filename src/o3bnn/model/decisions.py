"""After how many edge words each neuron of a stage is decided, on sampled positions of real feature maps.

The planner takes from it where checks may pay, the ordering pass which channels to put side by side. Bounds are the
simple ones of `edges.py` at words of 64 edges, and every neuron is followed on its own, pooling or not.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from o3bnn.errors import InputError
from o3bnn.model import packing
from o3bnn.model.network import DenseStage, Stage

Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Decisions:
    """Of sampled neurons of one stage, in rows of one position each.

    words: int64 [samples, channels], the words of a full patch that are read before the neuron is decided: 0 for a
        constant neuron, at most the words of a patch.
    fired: bool [samples, channels], their bits before pooling.
    """

    words: npt.NDArray[np.int64]
    fired: npt.NDArray[np.bool_]


def sample_decisions(stage: Stage, operand: Bits, samples: int, seed: int = 0) -> Decisions:
    """Follow the neurons of at most `samples` positions, drawn without repetition over images and positions.

    operand: uint8 [n, height, width, channels] of 0 and 1, n >= 1, as the stage before leaves it; a dense stage
    flattens it in (row, column, channel) order.

    Raises:
        InputError: the stage reads integers, or the operand has another shape.
    """
    if stage.integer_input:
        raise InputError(f"{stage.name} reads integers: only the neurons of stages that read bits are followed")
    if isinstance(stage, DenseStage):
        operand = operand.reshape(len(operand), 1, 1, -1)
    if operand.shape[1:] != stage.in_shape or not len(operand):
        raise InputError(f"{stage.name}: an operand of shape {operand.shape} is not (n, {stage.in_shape}), n >= 1")
    g = stage.geometry
    top, left, bottom, right = g.padding
    padded = np.pad(operand, ((0, 0), (top, bottom), (left, right), (0, 0)))
    exists = packing.pack(g.class_masks)
    weights = stage.weights.reshape(g.groups, -1, stage.weights.shape[1])
    total = len(operand) * g.out_height * g.out_width
    chosen = np.random.default_rng(seed).choice(total, min(samples, total), replace=False)
    words, fired = [], []
    for index in np.sort(chosen):
        image, y, x = np.unravel_index(index, (len(operand), g.out_height, g.out_width))
        rows = slice(y * g.stride[0], y * g.stride[0] + g.kernel[0])
        columns = slice(x * g.stride[1], x * g.stride[1] + g.kernel[1])
        window = padded[image, rows, columns].reshape(*g.kernel, g.groups, g.group_channels)
        patch = packing.pack(np.ascontiguousarray(window.transpose(2, 0, 1, 3)).reshape(g.groups, -1))
        border = g.class_map[y, x]
        after, bits = _follow(patch, weights, exists[border], stage.thresholds[border])
        words.append(after)
        fired.append(bits)
    return Decisions(np.array(words, np.int64), np.array(fired, np.bool_))


def _follow(
    patch: npt.NDArray[np.uint64],
    weights: npt.NDArray[np.uint64],
    exists: npt.NDArray[np.uint64],
    thresholds: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Words read and bits of the neurons at one position: patch [groups, words], weights [groups, channels, words]."""
    agreeing = np.bitwise_count(~(patch[:, None] ^ weights) & exists).astype(np.int64)
    matches = agreeing.cumsum(axis=-1).reshape(-1, agreeing.shape[-1])
    seen = np.bitwise_count(exists).astype(np.int64).cumsum()
    start = np.zeros((len(matches), 1), np.int64)
    matches, seen = np.concatenate([start, matches], axis=1), np.concatenate([[0], seen])
    needed = thresholds[:, None].astype(np.int64)
    decided = (matches >= needed) | (matches + seen[-1] - seen < needed)
    return decided.argmax(axis=1), matches[:, -1] >= thresholds

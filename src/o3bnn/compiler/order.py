"""Channels in an order in which neighbours are decided together: the same network, and more of it left out.

A processor decides the channels of a register side by side and can only stop when all of them are decided; a pooling
window's channels are looked at in blocks. So every hidden stage's channels are sorted, on calibration images:

- without pooling by the words that a neuron reads before it is decided, fewest first;
- with pooling by how often a neuron settles its window, most often first;
- of a stage that reads integers by how often its bits are 1, most often first.

Sorting a stage's channels permutes its rows of weights, its thresholds and the columns of whoever reads them: every sum
has the same terms, so classes and logits stay the same, bit by bit. Groups keep their channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from o3bnn.errors import InputError
from o3bnn.model import packing, reference
from o3bnn.model.decisions import sample_decisions
from o3bnn.model.network import ConvStage, DenseStage, Network, OutputStage, Stage

Bits = npt.NDArray[np.uint8]
Order = npt.NDArray[np.int64]
Run = Callable[[Network, Bits], Sequence[Bits]]

SAMPLES = 256
RECORD = "channel_order"


def reference_bits(network: Network, images: Bits) -> list[Bits]:
    """Bits after every stage, from the NumPy reference, which is slow on large networks."""
    return [trace.bits for trace in reference.run(network, images).stages]


def order_channels(network: Network, images: Bits, run: Run = reference_bits) -> Network:
    """The network with sorted hidden channels; its metadata say so.

    images: calibration images, uint8 [n, height, width, channels], n >= 1. run: yields the bits after every stage,
    uint8 [n, height, width, channels] each: `reference_bits`, or an engine's activations.

    Raises:
        InputError: there is no image, or images do not fit the network.
    """
    if not len(images):
        raise InputError("there are no calibration images: pass at least one")
    maps = run(network, images)
    stages: list[Stage] = []
    operand, order = _first_operand(network, images), np.arange(network.input.channels)
    for index, stage in enumerate(network.stages):
        sorted_inputs = _with_inputs(stage, order)
        key = _sort_key(sorted_inputs, operand, maps[index])
        order = np.lexsort((key, _cells(network, index)))
        stages.append(_with_outputs(sorted_inputs, order))
        operand = maps[index][..., order]
    metadata = {**network.metadata, RECORD: f"by decisions on {len(images)} images"}
    return replace(network, stages=tuple(stages), output=_output_with(network.output, order), metadata=metadata)


def _first_operand(network: Network, images: Bits) -> Bits:
    """The input as bits; of no meaning where it is integers, which nobody follows."""
    return (network.input.table[images] > 0).astype(np.uint8)


def _sort_key(stage: Stage, operand: Bits, bits: Bits) -> npt.NDArray[np.float64]:
    """What channels are sorted by, least first: float64 [channels]."""
    if stage.integer_input:
        return np.asarray(-bits.mean(axis=(0, 1, 2)), np.float64)
    decisions = sample_decisions(stage, operand, SAMPLES)
    if stage.pooling is not None:
        return np.asarray(-(decisions.fired == stage.decisive_bit).mean(axis=0), np.float64)
    return np.asarray(decisions.words.mean(axis=0), np.float64)


def _cells(network: Network, index: int) -> Order:
    """For each channel of a stage, a number shared by those that it may change places with."""
    own = network.stages[index].geometry
    channels = np.arange(own.out_channels)
    cells = channels // (own.out_channels // own.groups)
    following = network.stages[index + 1] if index + 1 < len(network.stages) else None
    if isinstance(following, ConvStage):
        cells = cells * own.out_channels + channels // following.geometry.group_channels
    return cells


def _with_inputs(stage: Stage, order: Order) -> Stage:
    """The stage on a map whose channel i is what was channel order[i]."""
    g = stage.geometry
    bits = stage.weight_bits()
    if isinstance(stage, DenseStage):
        return replace(stage, weights=packing.pack(_by_channel(bits, order)))
    rows = bits.reshape(g.groups, -1, g.kernel[0] * g.kernel[1], g.group_channels)
    local = order.reshape(g.groups, g.group_channels) % g.group_channels
    sorted_rows = np.take_along_axis(rows, local[:, None, None, :], axis=3)
    return replace(stage, weights=packing.pack(sorted_rows.reshape(g.out_channels, g.full_fan_in)))


def _with_outputs(stage: Stage, order: Order) -> Stage:
    weights, thresholds = stage.weights[order], stage.thresholds[:, order]
    if isinstance(stage, DenseStage):
        return replace(stage, weights=weights, thresholds=thresholds)
    return replace(stage, weights=weights, thresholds=thresholds, decisive_bit=stage.decisive_bit[order])


def _output_with(output: OutputStage, order: Order) -> OutputStage:
    return replace(output, weights=packing.pack(_by_channel(output.weight_bits(), order)))


def _by_channel(rows: Bits, order: Order) -> Bits:
    """Rows over a flattened map, edges in (row, column, channel) order, with its channels sorted."""
    return rows.reshape(len(rows), -1, len(order))[..., order].reshape(len(rows), -1)

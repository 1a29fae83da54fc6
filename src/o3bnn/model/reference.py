"""The executable definition of every stage, in plain NumPy integers. Everything else is compared with it by `==`.

Written to be read, not to be fast: operands are unpacked, sums are plain integer matrix products.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from o3bnn.errors import InputError
from o3bnn.model.geometry import ConvGeometry, Pooling
from o3bnn.model.network import DenseStage, InputEncoding, Network, OutputStage, Stage

IntArray = npt.NDArray[np.int32]
BitArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class StageTrace:
    """What one stage computed for n images.

    operand: int32 [n, in_height, in_width, in_channels], bits as 0/1, or integers. scores: int32 [n, out_height,
    out_width, channels] and fired: uint8 of the same shape, of every neuron before pooling. bits: uint8 [n,
    *out_shape].
    """

    operand: IntArray
    scores: IntArray
    fired: BitArray
    bits: BitArray


@dataclass(frozen=True, eq=False)
class Trace:
    """What a network computed for n images: all stages, int32 sums [n, classes] and float32 logits [n, classes]."""

    stages: tuple[StageTrace, ...]
    sums: IntArray
    logits: npt.NDArray[np.float32]

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Predicted class of each image, the lowest on ties: int64 [n]."""
        return np.asarray(self.logits.argmax(axis=1), np.int64)


def run(network: Network, images: npt.NDArray[np.uint8]) -> Trace:
    """Run uint8 images [n, height, width, channels] through a network, keeping everything."""
    if images.dtype != np.uint8 or images.shape[1:] != network.input.shape:
        wanted = ", ".join(map(str, ("n", *network.input.shape)))
        raise InputError(f"expected uint8 images [{wanted}], got {images.dtype} {list(images.shape)}")
    operand = encode(network.input, images)
    traces = []
    for stage in network.stages:
        trace = run_stage(stage, operand)
        traces.append(trace)
        operand = trace.bits.astype(np.int32)
    sums = output_sums(network.output, operand)
    return Trace(tuple(traces), sums, output_logits(network.output, sums))


def encode(encoding: InputEncoding, images: npt.NDArray[np.uint8]) -> IntArray:
    """Table look-up of every pixel; a table of -1 and +1 gives bits 0 and 1."""
    values = encoding.table.astype(np.int32)[images]
    return (values > 0).astype(np.int32) if encoding.is_binary else values


def run_stage(stage: Stage, operand: IntArray) -> StageTrace:
    """Scores, bits and pooled bits of one stage; a dense stage flattens its operand in (row, column, channel) order."""
    if isinstance(stage, DenseStage):
        operand = operand.reshape(len(operand), 1, 1, -1)
    g = stage.geometry
    edges, exists = gather_edges(g, operand)
    weights = stage.weight_bits().astype(np.int32).reshape(g.groups, -1, g.full_fan_in)
    agreement = signed_sums(edges, weights) if stage.integer_input else matches(edges, exists, weights)
    scores = agreement.reshape(len(operand), g.out_height, g.out_width, g.out_channels)
    fired = (scores >= stage.thresholds[g.class_map]).astype(np.uint8)
    return StageTrace(operand, scores, fired, pool(fired, stage.pooling, stage.decisive_bit))


def gather_edges(g: ConvGeometry, operand: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """The operand of every edge: int32 [n, positions, groups, full_fan_in], 0 where the edge does not exist.

    Edges are in (kernel row, kernel column, channel) order. Also which edges exist: bool [positions, full_fan_in].
    """
    top, left, bottom, right = g.padding
    padded = np.pad(operand, ((0, 0), (top, bottom), (left, right), (0, 0))) if any(g.padding) else operand
    windows = np.lib.stride_tricks.sliding_window_view(padded, g.kernel, axis=(1, 2))
    windows = windows[:, :: g.stride[0], :: g.stride[1]].transpose(0, 1, 2, 4, 5, 3)
    split = windows.reshape(len(operand), g.out_height * g.out_width, *g.kernel, g.groups, g.group_channels)
    edges = split.transpose(0, 1, 4, 2, 3, 5).reshape(len(operand), -1, g.groups, g.full_fan_in)
    return edges, g.class_masks[g.class_map.reshape(-1)]


def signed_sums(edges: IntArray, weights: IntArray) -> IntArray:
    """Sum of weight times input per neuron: int32 [n, positions, groups, channels of a group]."""
    sums = np.einsum("npgk,gok->npgo", edges, 2 * weights - 1, dtype=np.int32, casting="unsafe")
    return np.asarray(sums, np.int32)


def matches(edges: IntArray, exists: npt.NDArray[np.bool_], weights: IntArray) -> IntArray:
    """Existing edges whose input bit equals the weight bit: int32 [n, positions, groups, channels of a group]."""
    ones = np.einsum("npgk,gok->npgo", edges, weights, dtype=np.int32, casting="unsafe")
    zeros = np.einsum("npgk,gok->npgo", exists[None, :, None, :] - edges, 1 - weights, dtype=np.int32, casting="unsafe")
    return np.asarray(ones + zeros, np.int32)


def pool(fired: BitArray, pooling: Pooling | None, decisive_bit: npt.NDArray[np.uint8]) -> BitArray:
    """OR (decisive bit 1) or AND (decisive bit 0) over each window: uint8 [n, height, width, channels]."""
    if pooling is None:
        return fired
    windows = np.lib.stride_tricks.sliding_window_view(fired, pooling.size, axis=(1, 2))
    windows = windows[:, :: pooling.stride[0], :: pooling.stride[1]]
    settled = np.where(decisive_bit == 1, windows.max(axis=(-1, -2)), windows.min(axis=(-1, -2)))
    return np.asarray(settled, np.uint8)


def output_sums(output: OutputStage, operand: IntArray) -> IntArray:
    """Signed sums of the output stage: int32 [n, classes]."""
    inputs = 2 * operand.reshape(len(operand), -1) - 1
    weights = 2 * output.weight_bits().astype(np.int32) - 1
    return np.asarray(inputs @ weights.T, np.int32)


def output_logits(output: OutputStage, sums: IntArray) -> npt.NDArray[np.float32]:
    """Logits = float32(float32(sum) * scale) + offset: float32 [n, classes], two roundings."""
    return sums.astype(np.float32) * output.scale + output.offset

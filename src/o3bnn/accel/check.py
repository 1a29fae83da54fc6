"""The reference, fast enough to be asked on every run: `model.reference`, its sums as exact floating-point products.

Every product and partial sum is an integer below 2^24 (2^53), so that float32 (float64) matrix products are exact in
any order. tests/accel compares this with `model.reference` itself.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from o3bnn.errors import SimulationError
from o3bnn.model import packing, reference
from o3bnn.model.network import DenseStage, Network, Stage


def stage_bits(network: Network, image: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Bits of every stage for one image [height, width, channels]: uint8 [*out_shape] each."""
    operand = reference.encode(network.input, image[None])
    for stage in network.stages:
        bits = run_stage(stage, operand, network.magnitude(stage))
        yield bits[0]
        operand = bits.astype(np.int32)


def run_stage(stage: Stage, operand: npt.NDArray[np.int32], magnitude: int) -> npt.NDArray[np.uint8]:
    """Pooled bits of one stage for one image: uint8 [1, *out_shape]."""
    fired = (scores(stage, operand, magnitude) >= stage.thresholds[stage.geometry.class_map]).astype(np.uint8)
    return np.asarray(reference.pool(fired, stage.pooling, stage.decisive_bit), np.uint8)


def scores(stage: Stage, operand: npt.NDArray[np.int32], magnitude: int) -> npt.NDArray[np.int64]:
    """Scores of every neuron for one image: int64 [1, out_height, out_width, channels]."""
    g = stage.geometry
    if isinstance(stage, DenseStage):
        operand = operand.reshape(len(operand), 1, 1, -1)
        if not stage.integer_input:
            mismatches = np.bitwise_count(packing.pack(operand[0, 0].astype(np.uint8)) ^ stage.weights)
            return np.asarray(g.full_fan_in - mismatches.sum(axis=1, dtype=np.int64))[None, None, None]
    exact = np.float32 if g.full_fan_in * magnitude < 1 << 24 else np.float64
    signed = operand if stage.integer_input else 2 * operand - 1
    edges, _ = reference.gather_edges(g, signed.astype(exact))
    weights = stage.weight_bits().astype(exact).reshape(g.groups, -1, g.full_fan_in)
    np.multiply(weights, 2, out=weights)  # in place, as large networks have many
    np.subtract(weights, 1, out=weights)
    sums = np.concatenate([edges[0, :, i] @ weights[i].T for i in range(g.groups)], axis=1)
    found = sums.astype(np.int64).reshape(1, g.out_height, g.out_width, g.out_channels)
    if stage.integer_input:
        return found
    return np.asarray((found + g.class_fan_in[g.class_map][None, :, :, None]) >> 1, np.int64)


def verify(
    network: Network, image: npt.NDArray[np.uint8], maps: list[npt.NDArray[np.uint8]], sums: npt.NDArray[np.int64]
) -> None:
    """Compare what the machine computed with the reference.

    Raises:
        SimulationError: a bit or a sum differs; names the stage.
    """
    operand = reference.encode(network.input, image[None])
    for stage, found, wanted in zip(network.stages, maps, stage_bits(network, image), strict=True):
        if not np.array_equal(found.reshape(wanted.shape), wanted):
            raise SimulationError(f"{stage.name}: the simulated bits are not those of the reference")
        operand = wanted[None].astype(np.int32)
    if not np.array_equal(sums, reference.output_sums(network.output, operand)[0]):
        raise SimulationError(f"{network.output.name}: the simulated sums are not those of the reference")

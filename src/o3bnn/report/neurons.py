"""Single neurons looked at closely: where a stage spends its edges, and how one neuron comes to its decision.

Everything is taken from the NumPy reference and the edge oracle at B = 1 with simple bounds; nothing is counted anew.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from o3bnn.model import Network, Stage, edges, reference

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Walk:
    """One neuron's way to its decision.

    matches: int64 [K + 1], matching edges after 0, 1, ... K edges. The neuron fires iff matches[K] >= threshold, which
    is certain or ruled out after `evaluated` edges.
    """

    stage: str
    channel: int
    threshold: int
    evaluated: int
    matches: IntArray

    @property
    def fan_in(self) -> int:
        return len(self.matches) - 1

    @property
    def fires(self) -> bool:
        return bool(self.matches[-1] >= self.threshold)


def first_binary(network: Network) -> int | None:
    """Index of the first stage that reads bits, or None where only the output stage does."""
    return next((index for index, stage in enumerate(network.stages) if not stage.integer_input), None)


def first_unpooled(network: Network) -> int | None:
    """Index of the first stage that reads bits and has no pooling: its neurons stop by their thresholds alone."""
    found = (i for i, stage in enumerate(network.stages) if not stage.integer_input and stage.pooling is None)
    return next(found, None)


def spent_edges(stage: Stage, trace: reference.StageTrace) -> IntArray:
    """Edges that each neuron evaluates on its own, were it asked: int64 [n, out_height, out_width, channels]."""
    spent = np.zeros(trace.fired.shape, np.int64)
    flat = spent.reshape(len(spent), -1, stage.geometry.out_channels)
    # The oracle's own walk: the same numbers that it adds up, so that a picture cannot disagree with a table.
    for image, position, evaluated in edges.spent_edges(stage, trace, 1, "simple", 1):
        flat[image, position] = evaluated
    return spent


def evaluated_edges(stage: Stage, trace: reference.StageTrace) -> IntArray:
    """Edges that each neuron evaluates, 0 where pooling prunes it or it is constant: the shape of `spent_edges`."""
    visited, read = edges.visit(stage, trace.fired)
    constant = (stage.constant() >= 0)[stage.geometry.class_map]
    return np.where(visited & read & ~constant, spent_edges(stage, trace), 0)


def evaluated_shares(stage: Stage, trace: reference.StageTrace) -> tuple[FloatArray, FloatArray]:
    """Which share of its edges a stage evaluates, all channels together: by window and by image.

    Returns:
        float64 [n, height, width], a value for each pooling window (each position where windows overlap or there is no
        pooling), and float64 [n].
    """
    g = stage.geometry
    evaluated = evaluated_edges(stage, trace).sum(axis=-1)
    dense = np.broadcast_to(g.class_fan_in[g.class_map] * g.out_channels, evaluated.shape)
    pooling = stage.pooling
    if pooling is None:
        return evaluated / dense.clip(1), evaluated.sum(axis=(1, 2)) / dense.sum(axis=(1, 2))
    _, read = edges.visit(stage, trace.fired)
    dense = dense * read.any(axis=-1)
    totals = evaluated.sum(axis=(1, 2)) / dense.sum(axis=(1, 2)).clip(1)
    if pooling.stride == pooling.size:
        evaluated, dense = _blocks(evaluated, stage), _blocks(dense, stage)
    return evaluated / dense.clip(1), totals


def _blocks(values: IntArray, stage: Stage) -> IntArray:
    """Sums over the windows of a pooling without overlap: [n, out_height, out_width] -> [n, height, width]."""
    assert stage.pooling is not None
    rows, columns = stage.pooling.size
    height, width, _ = stage.out_shape
    kept = values[:, : height * rows, : width * columns]
    return np.asarray(kept.reshape(-1, height, rows, width, columns).sum(axis=(2, 4)), np.int64)


def walks(stage: Stage, trace: reference.StageTrace) -> tuple[Walk, ...]:
    """Up to three neurons of the middle position for the trace's first image, in order of the edges that they need.

    These are the first to be certain to fire, the first to be certain to stay silent, and the median of all that are
    not constant.
    """
    g = stage.geometry
    row, column = g.out_height // 2, g.out_width // 2
    border = g.class_map[row, column]
    open_channels = np.flatnonzero(stage.constant()[border] < 0)
    if not len(open_channels):
        return ()
    spent = spent_edges(stage, _first_image(trace))[0, row, column]
    ordered = open_channels[np.argsort(spent[open_channels], kind="stable")]
    fired = trace.fired[0, row, column, ordered] == 1
    chosen = {
        int(ordered[len(ordered) // 2]),
        *(int(group[0]) for group in (ordered[fired], ordered[~fired]) if len(group)),
    }
    operands, exists = reference.gather_edges(g, trace.operand[:1])
    position = row * g.out_width + column
    present = exists[position]
    found = []
    for channel in sorted(chosen, key=lambda channel: int(spent[channel])):
        inputs = operands[0, position, channel // (g.out_channels // g.groups), present]
        agree = inputs == stage.weight_bits()[channel, present]
        matches = np.concatenate([[0], agree.cumsum()]).astype(np.int64)
        found.append(Walk(stage.name, channel, int(stage.thresholds[border, channel]), int(spent[channel]), matches))
    return tuple(found)


def _first_image(trace: reference.StageTrace) -> reference.StageTrace:
    return reference.StageTrace(trace.operand[:1], trace.scores[:1], trace.fired[:1], trace.bits[:1])

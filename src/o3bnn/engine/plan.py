"""Hands a network to the native engine, and decides which stages prune."""

import numpy as np

from o3bnn import _native
from o3bnn.model import packing
from o3bnn.model.network import Network, Stage


def native_plan(network: Network, pruning: str) -> _native.Plan:
    """The native form of a network; pruning: `auto`, `on` or `off`."""
    plan = _native.Plan(network.input.shape, network.input.table, network.input.is_binary)
    for stage in network.stages:
        _add_stage(plan, stage, prunes(stage, pruning), network.magnitude(stage))
    plan.set_output(network.output.in_features, network.output.weights)
    return plan


def prunes(stage: Stage, pruning: str) -> bool:
    """Whether a stage runs with the pruning walk.

    `auto` is dense everywhere for now: whether pruning pays depends on how often windows are settled and on the
    processor (`python bench/engine.py` tells), and nothing measures that for the user yet.
    """
    return pruning == "on"


def _add_stage(plan: _native.Plan, stage: Stage, prune: bool, magnitude: int) -> None:
    g = stage.geometry
    pooling = stage.pooling
    plan.add_stage(
        in_shape=stage.in_shape,
        conv_shape=stage.conv_shape,
        kernel=g.kernel,
        stride=g.stride,
        padding=g.padding[:2],
        groups=g.groups,
        pool_size=(1, 1) if pooling is None else pooling.size,
        pool_stride=(1, 1) if pooling is None else pooling.stride,
        integer_input=stage.integer_input,
        prune=prune,
        magnitude=magnitude,
        weights=stage.weights,
        thresholds=stage.thresholds,
        constant=stage.constant(magnitude),
        decisive=stage.decisive_bit,
        class_map=g.class_map.astype(np.int32),
        exists=packing.pack(g.class_masks),
    )

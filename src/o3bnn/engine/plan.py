"""Hands a network to the native engine: which method evaluates each stage."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from o3bnn import _native
from o3bnn.errors import InputError
from o3bnn.model import packing
from o3bnn.model.network import Network, Stage


@dataclass(frozen=True)
class StagePlan:
    """How a stage is evaluated. Every choice gives the same bits.

    method: `dense`, every edge; `pooling`, channels whose window is settled are left alone; `threshold`, register tiles
    that stop once all their neurons are decided; `words`, neuron by neuron until it is decided. checks: for
    `threshold`, the numbers of 64-edge words of a patch after which a tile may stop, increasing, each less than the
    words of a patch. What an instruction set offers: `offered_methods`.
    """

    method: str = "dense"
    checks: tuple[int, ...] = ()


def native_plan(network: Network, stages: Sequence[StagePlan]) -> _native.Plan:
    """The native form of a network whose stages run as `stages` say, one each."""
    plan = _native.Plan(network.input.shape, network.input.table, network.input.is_binary)
    for stage, how in zip(network.stages, stages, strict=True):
        _add_stage(plan, stage, how, network.magnitude(stage))
    plan.set_output(network.output.in_features, network.output.weights)
    return plan


def offered_methods(network: Network, isa: str) -> list[list[str]]:
    """The methods that an instruction set offers for each stage."""
    return _native.stage_methods(native_plan(network, [StagePlan()] * len(network.stages)), isa)


def default_plan(network: Network, isa: str, pruning: str) -> list[StagePlan]:
    """How the stages run without a plan; pruning: `auto`, `on` or `off`.

    `on` takes the pooling kernel where there is one, else tiles that may stop after half and two thirds of a patch,
    else the walk neuron by neuron; but a stage of integers stays dense, as that walk is all there is for it. `auto` is
    dense: whether pruning pays depends on the model, the images and the processor, which `o3bnn.engine.planner`
    measures.
    """
    if pruning != "on":
        return [StagePlan()] * len(network.stages)
    return [_pruned(*pair) for pair in zip(network.stages, offered_methods(network, isa), strict=True)]


def _pruned(stage: Stage, methods: Sequence[str]) -> StagePlan:
    if stage.integer_input:
        return StagePlan()
    if "pooling" in methods:
        return StagePlan("pooling")
    words = packing.word_count(stage.geometry.full_fan_in)
    checks = tuple(sorted({words // 2, words * 2 // 3} - {0}))
    return StagePlan("threshold", checks) if "threshold" in methods and checks else StagePlan("words")


def _add_stage(plan: _native.Plan, stage: Stage, how: StagePlan, magnitude: int) -> None:
    g = stage.geometry
    pooling = stage.pooling
    words = packing.word_count(g.full_fan_in)
    if list(how.checks) != sorted({check for check in how.checks if 0 < check < words}):
        raise InputError(
            f"{stage.name}: checks = {how.checks} do not increase from 1 to at most {words - 1}: "
            f"a patch has {words} words"
        )
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
        method=how.method,
        checks=how.checks,
        magnitude=magnitude,
        weights=stage.weights,
        thresholds=stage.thresholds,
        constant=stage.constant(magnitude),
        decisive=stage.decisive_bit,
        class_map=g.class_map.astype(np.int32),
        exists=packing.pack(g.class_masks),
    )

"""The pictures' numbers against the oracle that counts the edges."""

import numpy as np
from hypothesis import given, settings

from o3bnn.model import edges, reference
from o3bnn.report import neurons
from tests import strategies
from tests.report import helpers


@settings(max_examples=40, deadline=None, derandomize=True)
@given(strategies.networks(small=True))
def test_maps_add_up_to_the_oracle(case):
    spec, network = case
    trace = reference.run(network, strategies.images(spec, 2))
    for stage, traced in zip(network.stages, trace.stages, strict=True):
        if stage.integer_input:
            continue
        counts = edges.count_stage(stage, traced, 1, "simple")
        assert neurons.evaluated_edges(stage, traced).sum() == counts.evaluated
        shares, totals = neurons.evaluated_shares(stage, traced)
        assert shares.min() >= 0
        assert shares.max() <= 1
        assert np.isclose(totals.mean(), counts.evaluated / max(counts.dense, 1))  # a mean of shares, hence no ==
        tiled = stage.pooling is not None and stage.pooling.stride == stage.pooling.size
        assert shares.shape[1:] == (stage.out_shape if tiled else stage.conv_shape)[:2]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(strategies.networks(small=True))
def test_walks_end_where_the_neuron_is_decided(case):
    spec, network = case
    trace = reference.run(network, strategies.images(spec, 1))
    for stage, traced in zip(network.stages, trace.stages, strict=True):
        if stage.integer_input:
            continue
        g = stage.geometry
        row, column = g.out_height // 2, g.out_width // 2
        walks = neurons.walks(stage, traced)
        assert [walk.evaluated for walk in walks] == sorted(walk.evaluated for walk in walks)
        for walk in walks:
            assert walk.matches[0] == 0
            assert walk.matches[-1] == traced.scores[0, row, column, walk.channel]
            assert walk.fires == traced.fired[0, row, column, walk.channel]
            left = walk.fan_in - np.arange(walk.fan_in + 1)
            decided = (walk.matches >= walk.threshold) | (walk.matches + left < walk.threshold)
            assert walk.evaluated == decided.argmax()


def test_which_stage_is_shown():
    alpha, beta = helpers.network("alpha"), helpers.network("beta")
    assert [neurons.first_binary(alpha), neurons.first_unpooled(alpha)] == [1, 1]
    assert [neurons.first_binary(beta), neurons.first_unpooled(beta)] == [1, 2]

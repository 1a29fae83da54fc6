"""Decisions of sampled neurons are those of the oracle that counts edges."""

import numpy as np
import pytest
from hypothesis import given, settings

from o3bnn.errors import InputError
from o3bnn.model import edges, packing, reference
from o3bnn.model.decisions import sample_decisions
from tests import strategies
from tests.engine import networks

EVERY = 1 << 20


def check(network, images):
    trace = reference.run(network, images)
    for stage, found in zip(network.stages, trace.stages, strict=True):
        if stage.integer_input:
            continue
        decisions = sample_decisions(stage, found.operand.astype(np.uint8), EVERY)
        channels = stage.geometry.out_channels
        np.testing.assert_array_equal(decisions.fired, found.fired.reshape(-1, channels) == 1)
        seen = np.bitwise_count(packing.pack(stage.geometry.class_masks)).astype(np.int64).cumsum(axis=1)
        seen = np.concatenate([np.zeros((len(seen), 1), np.int64), seen], axis=1)
        borders = np.tile(stage.geometry.class_map.reshape(-1), len(images))
        spent = np.take_along_axis(seen[borders], decisions.words, axis=1)
        constant = (stage.constant() >= 0)[borders]
        assert np.all(decisions.words[constant] == 0)
        for image, position, expected in edges.spent_edges(stage, found, 64, "simple", 1):
            row = image * stage.geometry.out_height * stage.geometry.out_width + position
            open_ones = ~constant[row]
            np.testing.assert_array_equal(spent[row][open_ones], expected[open_ones])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(strategies.networks(small=True))
def test_random_networks(case):
    spec, network = case
    check(network, strategies.images(spec, 2))


@pytest.mark.parametrize("name", networks.AWKWARD)
def test_awkward_networks(name):
    network = networks.build(networks.AWKWARD[name])
    check(network, networks.images(network, 2))


def test_samples_are_drawn_without_repetition_from_a_seed():
    network = networks.build(networks.AWKWARD["windows with a remainder"])
    trace = reference.run(network, networks.images(network, 4))
    stage, operand = network.stages[1], trace.stages[0].bits
    some = sample_decisions(stage, operand, 10)
    assert some.words.shape == some.fired.shape == (10, 129)
    np.testing.assert_array_equal(some.words, sample_decisions(stage, operand, 10).words)
    assert np.any(some.fired != sample_decisions(stage, operand, 10, seed=1).fired)
    assert len(sample_decisions(stage, operand, EVERY).words) == 4 * 3 * 4


def test_stages_and_operands_that_do_not_fit():
    network = networks.build(networks.AWKWARD["windows with a remainder"])
    with pytest.raises(InputError, match="conv0 reads integers"):
        sample_decisions(network.stages[0], networks.images(network, 1), 5)
    for operand in (np.zeros((1, 4, 4, 62), np.uint8), np.zeros((0, 4, 4, 63), np.uint8)):
        with pytest.raises(InputError, match="conv1: an operand of shape"):
            sample_decisions(network.stages[1], operand, 5)

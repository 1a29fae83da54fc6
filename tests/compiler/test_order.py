"""The ordering pass: the same network, channels sorted."""

import numpy as np
import pytest
from hypothesis import given, settings

from o3bnn import Engine
from o3bnn.compiler.order import RECORD, order_channels
from o3bnn.engine.checks import tile_ends
from o3bnn.errors import InputError
from o3bnn.model import reference
from o3bnn.model.artifact import encode
from o3bnn.model.decisions import sample_decisions
from tests import strategies
from tests.engine import networks


def bits_sorted(bits):
    """A map's channels in an order of their own, so that maps with permuted channels compare equal."""
    columns = bits.reshape(-1, bits.shape[-1])
    return columns[:, np.lexsort(columns)]


def assert_same_network(network, ordered, images):
    before, after = reference.run(network, images), reference.run(ordered, images)
    np.testing.assert_array_equal(after.sums, before.sums)
    np.testing.assert_array_equal(after.logits, before.logits)
    np.testing.assert_array_equal(after.classes, before.classes)
    for stage, found, wanted in zip(network.stages, after.stages, before.stages, strict=True):
        np.testing.assert_array_equal(bits_sorted(found.bits), bits_sorted(wanted.bits), err_msg=stage.name)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(strategies.networks())
def test_sorted_channels_change_no_logit(case):
    spec, network = case
    images = strategies.images(spec, 3)
    assert_same_network(network, order_channels(network, images[:2]), images)


@pytest.mark.parametrize("name", networks.AWKWARD)
def test_awkward_networks(name):
    network = networks.build(networks.AWKWARD[name])
    images = networks.images(network, 3)
    assert_same_network(network, order_channels(network, images[:1]), images)


def test_any_runner_gives_the_same_file():
    network = networks.build(networks.AWKWARD["overlapping windows"])
    images = networks.images(network, 4)
    ordered = order_channels(network, images)
    engine = Engine(network, threads=1)
    assert encode(order_channels(network, images, lambda _, pictures: engine.activations(pictures))) == encode(ordered)
    assert ordered.metadata == {RECORD: "by decisions on 4 images"}
    assert encode(ordered) != encode(network)


def test_neighbours_are_decided_together():
    """Dense stages have the channels that are decided first in front, and tiles of them stop earlier."""
    network = networks.build(networks.AWKWARD["many words"])
    images = networks.images(network, 32)
    ordered = order_channels(network, images)
    ends = []
    for candidate in (network, ordered):
        bits = reference.run(candidate, images).stages[0].bits
        decisions = sample_decisions(candidate.stages[1], bits, 32)
        ends.append(tile_ends(decisions, 8).mean())
        words = decisions.words.mean(axis=0)
    assert np.all(np.diff(words) >= 0)
    assert ends[1] < ends[0]


def test_pooled_stages_have_the_most_decisive_channels_in_front():
    network = networks.build(networks.AWKWARD["windows with a remainder"])
    images = networks.images(network, 16)
    ordered = order_channels(network, images)
    trace = reference.run(ordered, images)
    decisions = sample_decisions(ordered.stages[1], trace.stages[0].bits, 256)
    rates = (decisions.fired == ordered.stages[1].decisive_bit).mean(axis=0)
    assert np.all(np.diff(rates) <= 0)
    assert rates[0] > rates[-1]


def test_there_must_be_an_image():
    network = networks.build(networks.AWKWARD["depthwise"])
    with pytest.raises(InputError, match="there are no calibration images"):
        order_channels(network, networks.images(network, 0))

"""The reference with floating-point products is the reference."""

import numpy as np
import pytest
from hypothesis import given, seed, settings

from o3bnn.accel import check
from o3bnn.errors import SimulationError
from o3bnn.model import reference
from tests import strategies


@seed(4)
@settings(max_examples=60, deadline=None, database=None)
@given(strategies.networks(small=True))
def test_same_bits_as_the_reference(drawn):
    spec, network = drawn
    image = strategies.images(spec, 1)[0]
    trace = reference.run(network, image[None])
    for stage, found in zip(trace.stages, check.stage_bits(network, image), strict=True):
        np.testing.assert_array_equal(found, stage.bits[0])
    maps = [stage.bits[0] for stage in trace.stages]
    check.verify(network, image, maps, trace.sums[0].astype(np.int64))
    with pytest.raises(SimulationError, match="sums"):
        check.verify(network, image, maps, trace.sums[0].astype(np.int64) + 2)
    for index, bits in enumerate(maps):
        wrong = bits.copy()
        wrong.flat[-1] ^= 1
        with pytest.raises(SimulationError, match=network.stages[index].name):
            check.verify(network, image, [*maps[:index], wrong, *maps[index + 1 :]], trace.sums[0].astype(np.int64))

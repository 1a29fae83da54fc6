"""Long use: memory stays constant, and engines that run side by side keep giving the same bits."""

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from o3bnn import Engine, _native
from o3bnn.model import reference
from tests.engine import networks, plans

INFERENCES = 200_000
WARM_UP = INFERENCES // 10
ENGINES = 4
GROWTH = 1 << 20  # octets; a leak of six octets an inference would show
STATM = Path("/proc/self/statm")

NETWORK = networks.build(networks.AWKWARD["overlapping windows"])
PICTURES = networks.images(NETWORK, 64)
SUMS = reference.run(NETWORK, PICTURES).sums


def resident():
    """Octets of this process in memory."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def infer(engine, count):
    """`count` inferences, one image a call; how many of them gave other sums than the reference."""
    wrong = 0
    for index in range(count):
        image = index % len(PICTURES)
        wrong += not np.array_equal(engine.sums(PICTURES[image : image + 1])[0], SUMS[image])
    return wrong


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("shared", [0, 1 << 62], ids=["threads share an image", "an image a thread"])
def test_memory_is_constant_and_engines_side_by_side_agree(shared, monkeypatch):
    monkeypatch.setattr("o3bnn.engine.engine._SHARED_EDGES", shared)
    best = [plan for isa, _, plan in plans.every(NETWORK) if isa == _native.available_isas()[0]]
    engines = [Engine(NETWORK, threads=1 + index % 2, plan=best[index % len(best)]) for index in range(ENGINES)]

    def all_at_once(inferences):
        with ThreadPoolExecutor(ENGINES) as pool:
            return sum(pool.map(infer, engines, [inferences // ENGINES] * ENGINES))

    assert all_at_once(WARM_UP) == 0
    before = resident()
    assert all_at_once(INFERENCES) == 0
    assert resident() - before < GROWTH


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="reads Linux's /proc")
def test_engines_give_their_memory_back():
    def come_and_go(count):
        for index in range(count):
            np.testing.assert_array_equal(Engine(NETWORK, threads=1 + index % 2).sums(PICTURES[:2]), SUMS[:2])

    come_and_go(200)
    before = resident()
    come_and_go(2000)
    assert resident() - before < GROWTH

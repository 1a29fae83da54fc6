"""The equality gate: PyTorch eval mode, the NumPy reference and the engine give the same bits at every stage.

Stratified over the kernel size and pooling of the first convolution, so that every combination is met; hypothesis draws
the rest (strides, paddings, channels, groups, order of batch norm and pooling, signs of gamma, input encodings). A
second gate crosses every instruction set of this machine with every method that it offers, threads and batches.
"""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, seed, settings

import o3bnn
from o3bnn.model import edges, reference
from tests import modules, strategies
from tests.engine import networks as awkward
from tests.engine import plans

EXAMPLES_PER_STRATUM = 30
GATE = settings(max_examples=EXAMPLES_PER_STRATUM, deadline=None, database=None)
STRATA = [(kernel, pool) for kernel in strategies.KERNELS for pool in strategies.POOLS]


def torch_bits(spec, blocks, model, images):
    """Bits of every stage as uint8 [n, h, w, c], and the logits, from PyTorch."""
    with torch.no_grad():
        value = model[0](torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
        bits = []
        for block in blocks:
            value = block(value)
            assert set(value.unique().tolist()) <= {-1.0, 1.0}
            planar = value if value.ndim == 4 else value[:, :, None, None]
            bits.append((planar > 0).to(torch.uint8).permute(0, 2, 3, 1).numpy())
        return bits, model(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()).numpy()


def check(spec, count=2):
    model, blocks = modules.build(spec)
    images = strategies.images(spec, count)
    expected, logits = torch_bits(spec, blocks, model, images)
    network = o3bnn.compile(model, image=spec.image)
    trace = reference.run(network, images)
    assert len(network.stages) == len(blocks)
    for stage, found, wanted in zip(network.stages, trace.stages, expected, strict=True):
        np.testing.assert_array_equal(found.bits, wanted, err_msg=f"reference, {stage.name}")
    np.testing.assert_array_equal(trace.logits, logits)
    for pruning in ("on", "off"):
        engine = o3bnn.Engine(network, threads=1, pruning=pruning)
        for stage, found, wanted in zip(network.stages, engine.activations(images), expected, strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=f"engine, pruning {pruning}, {stage.name}")
        np.testing.assert_array_equal(engine.sums(images), trace.sums)
        np.testing.assert_array_equal(engine.run(images), logits)
    return network, images


def for_stratum(test, kernel, pool):
    """A property test over the examples of one stratum; the seed makes them the same for every test."""
    drawn = given(strategies.specs(kernel=kernel, pool=pool))(test)
    return GATE(seed(STRATA.index((kernel, pool)))(drawn))


@pytest.mark.parametrize(("kernel", "pool"), STRATA, ids=lambda value: str(value).replace(" ", ""))
def test_same_bits_everywhere(kernel, pool):
    def same_bits(spec):
        check(spec)

    for_stratum(same_bits, kernel, pool)()


def test_the_gate_meets_every_value_it_promises():
    """The strategies draw every kernel, stride, padding mode, channel count, pool and order somewhere in the gate."""
    seen = {
        name: set() for name in ("kernel", "stride", "padding_mode", "channels", "pool", "order", "remainder", "groups")
    }
    seen["whole words"] = set()

    def collect(spec):
        shape = spec.image
        for conv in spec.convs:
            side = (shape[0] + 2 * conv.padding[0] - conv.kernel[0]) // conv.stride[0] + 1
            seen["kernel"].add(conv.kernel[0])
            seen["stride"] |= set(conv.stride)
            seen["padding_mode"].add(conv.padding_mode if any(conv.padding) else "none")
            seen["channels"] |= {shape[2], conv.channels}
            seen["pool"].add(conv.pool)
            seen["order"].add(conv.pool_first)
            seen["groups"].add(conv.groups > 1)
            if conv.groups > 1 and shape[2] % (64 * conv.groups) == conv.channels % (64 * conv.groups) == 0:
                seen["whole words"].add((conv.groups, spec.encoding == "bits" or conv is not spec.convs[0]))
            if conv.pool is not None:
                seen["remainder"].add((side - conv.pool[0][0]) % conv.pool[1][0])
            shape = strategies.out_shape(shape, conv)

    for kernel, pool in STRATA:
        for_stratum(collect, kernel, pool)()
    assert seen["kernel"] >= set(strategies.KERNELS)
    assert seen["stride"] >= set(strategies.STRIDES)
    assert seen["padding_mode"] == {"none", "zero", "minus_one", "plus_one"}
    assert seen["channels"] >= set(strategies.CHANNELS)
    assert seen["pool"] == set(strategies.POOLS)
    assert seen["order"] == {True, False}
    assert seen["remainder"] == {0, 1}
    assert seen["groups"] == {True, False}
    assert seen["whole words"] == {(2, True), (2, False), (3, True), (3, False)}


def check_every_plan(network, images, batches, threads):
    """Every instruction set x method x number of threads x batch, against the reference at every stage."""
    trace = reference.run(network, images)
    for isa, name, plan in plans.every(network):
        for count in threads:
            with plans.forced(isa):
                engine = o3bnn.Engine(network, threads=count, plan=plan)
            assert engine.isa == isa
            for batch in batches:
                where = f"{isa}, {name}, {count} threads, batch of {batch}"
                for stage, found, wanted in zip(
                    network.stages, engine.activations(images[:batch]), trace.stages, strict=True
                ):
                    np.testing.assert_array_equal(found, wanted.bits[:batch], err_msg=f"{where}, {stage.name}")
                np.testing.assert_array_equal(engine.run(images[:batch]), trace.logits[:batch], err_msg=where)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(strategies.networks(), strategies.st.sampled_from((1, 2, 3)))
def test_every_plan_equals_the_reference_on_integer_networks(case, threads):
    """Networks drawn directly (any threshold, AND windows anywhere), with no PyTorch in between."""
    spec, network = case
    check_every_plan(network, strategies.images(spec, 7), (1, 2, 7), (threads,))


@pytest.mark.parametrize("name", awkward.AWKWARD)
def test_every_plan_equals_the_reference_on_awkward_networks(name, monkeypatch):
    """With all threads on one image where there are fewer images than threads."""
    monkeypatch.setattr("o3bnn.engine.engine._SHARED_EDGES", 0)
    network = awkward.build(awkward.AWKWARD[name])
    check_every_plan(network, awkward.images(network, 7), (1, 2, 7), (1, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", awkward.AWKWARD)
@pytest.mark.parametrize("shared", [0, 1 << 62])
def test_every_plan_on_awkward_networks_large(name, shared, monkeypatch):
    monkeypatch.setattr("o3bnn.engine.engine._SHARED_EDGES", shared)
    for seed_of_weights in range(4):
        recipe = dataclasses.replace(awkward.AWKWARD[name], seed=100 + seed_of_weights)
        network = awkward.build(recipe)
        check_every_plan(network, awkward.images(network, 64, seed_of_weights), (1, 2, 7, 64), (1, 2, 3))


@pytest.mark.slow
@seed(20)
@settings(max_examples=1000, deadline=None, database=None)
@given(strategies.networks(), strategies.st.sampled_from((1, 2, 3)))
def test_every_plan_on_integer_networks_large(case, threads):
    spec, network = case
    check_every_plan(network, strategies.images(spec, 64), (1, 2, 7, 64), (threads,))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(strategies.networks(small=True), strategies.st.sampled_from((1, 2, 7, 16, 32, 64, 100, 128)))
def test_engine_counts_the_edges_of_the_oracle(case, word):
    spec, network = case
    images = strategies.images(spec, 2)
    for bounds in ("simple", "sharp"):
        expected = edges.count(network, images, word=word, bounds=bounds)
        assert o3bnn.Engine(network, threads=1).profile(images, word=word, bounds=bounds) == expected

"""The pruning identities, and the vectorized edge oracle against a walk neuron by neuron, from the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3bnn.errors import InputError
from o3bnn.model import ConvStage, Network, edges, reference
from o3bnn.model.edges import EdgeCounts
from tests import strategies

WORDS = (1, 2, 7, 16, 32, 64, 100, 128)


def naive_stage(stage, trace, word, bounds, magnitude):  # noqa: C901 - one walk, to be read beside the definitions
    """Count one stage edge by edge, straight from the numbered definitions in `o3bnn.model.edges`."""
    g = stage.geometry
    total = EdgeCounts()
    weights = stage.weight_bits()
    size, step = ((1, 1), (1, 1)) if stage.pooling is None else (stage.pooling.size, stage.pooling.stride)
    height, width, _ = stage.out_shape

    def one_neuron(image, y, x, channel):  # noqa: C901 - likewise
        base = (channel // (g.out_channels // g.groups)) * g.group_channels
        edge_list = []
        for ky in range(g.kernel[0]):
            for kx in range(g.kernel[1]):
                iy, ix = y * g.stride[0] + ky - g.padding[0], x * g.stride[1] + kx - g.padding[1]
                for c in range(g.group_channels):
                    number = (ky * g.kernel[1] + kx) * g.group_channels + c
                    if 0 <= iy < g.in_height and 0 <= ix < g.in_width:
                        value = int(trace.operand[image, iy, ix, base + c])
                        edge_list.append((number // word, value, int(weights[channel, number])))
        t = int(stage.thresholds[g.class_map[y, x], channel])
        k = len(edge_list)
        low, high = (-k * magnitude, k * magnitude) if stage.integer_input else (0, k)
        if t <= low or t > high:
            return int(t <= low), EdgeCounts(dense=k, constant=k)
        words = {}
        for number, value, weight in edge_list:
            words.setdefault(number, []).append((value, weight))
        pending = [words[number] for number in sorted(words)]
        score = seen = 0
        while True:
            left = k - seen
            if bounds == "simple":
                lower, upper = (-left * magnitude, left * magnitude) if stage.integer_input else (0, left)
            elif stage.integer_input:
                upper = sum(abs(value) for some in pending for value, _ in some)
                lower = -upper
            else:
                lower = upper = 0
                for some in pending:
                    b, ones, plus = len(some), sum(v for v, _ in some), sum(w for _, w in some)
                    lower, upper = lower + abs(ones + plus - b), upper + b - abs(ones - plus)
            if score + lower >= t:
                return 1, EdgeCounts(dense=k, evaluated=seen, threshold_high=left)
            if score + upper < t:
                return 0, EdgeCounts(dense=k, evaluated=seen, threshold_low=left)
            for value, weight in pending.pop(0):
                score += value * (2 * weight - 1) if stage.integer_input else int(value == weight)
                seen += 1

    for image in range(len(trace.operand)):
        for channel in range(g.out_channels):
            known = {}
            decisive = int(stage.decisive_bit[channel])
            for wy in range(height):
                for wx in range(width):
                    spots = [(wy * step[0] + i, wx * step[1] + j) for i in range(size[0]) for j in range(size[1])]
                    for spot in spots:
                        # a pooled window stops at its first decisive bit; without pooling every neuron is visited
                        settled = any(known.get(other) == decisive for other in spots)
                        if spot in known or (settled and stage.pooling is not None):
                            continue
                        known[spot], counts = one_neuron(image, *spot, channel)
                        total += counts
            asked = {
                (wy * step[0] + i, wx * step[1] + j)
                for wy in range(height)
                for wx in range(width)
                for i in range(size[0])
                for j in range(size[1])
            }
            for spot in asked - set(known):
                _, counts = one_neuron(image, *spot, channel)
                total += counts if counts.constant else EdgeCounts(dense=counts.dense, pooling=counts.dense)
    return total


@settings(max_examples=60, deadline=None, derandomize=True)
@given(strategies.specs(small=True), st.sampled_from(WORDS), st.sampled_from(["simple", "sharp"]))
def test_oracle_equals_naive_walk(spec, word, bounds):
    small = strategies.Spec(
        (*(min(side, 6) for side in spec.image[:2]), min(spec.image[2], 16)),
        spec.encoding,
        (),
        (),
        2,
        spec.seed,
    )
    convs, shape = [], small.image
    for conv in spec.convs[:2]:
        shrunk = strategies.ConvSpec(**{**conv.__dict__, "channels": min(conv.channels, 5), "groups": 1})
        if (after := strategies.out_shape(shape, shrunk)) is None:
            break
        convs.append(shrunk)
        shape = after
    spec = strategies.Spec(small.image, small.encoding, tuple(convs), (17,), 2, spec.seed)
    network = strategies.build(spec)
    images = strategies.images(spec, 1)
    trace = reference.run(network, images)
    profile = edges.count(network, images, word=word, bounds=bounds)
    for index, stage in enumerate(network.stages):
        expected = naive_stage(stage, trace.stages[index], word, bounds, network.magnitude(stage))
        assert profile.stages[index].edges == expected, stage.name


@settings(max_examples=80, deadline=None, derandomize=True)
@given(strategies.networks(small=True), st.sampled_from(WORDS), st.sampled_from(["simple", "sharp"]))
def test_evaluated_and_pruned_make_dense(case, word, bounds):
    spec, network = case
    for stage in edges.count(network, strategies.images(spec, 2), word=word, bounds=bounds).stages:
        e = stage.edges
        assert e.evaluated + e.constant + e.threshold_high + e.threshold_low + e.pooling == e.dense
        assert min(e.evaluated, e.constant, e.threshold_high, e.threshold_low, e.pooling) >= 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(strategies.networks(small=True), st.sampled_from(WORDS))
def test_sharp_never_evaluates_more_than_simple(case, word):
    spec, network = case
    images = strategies.images(spec, 2)
    simple = edges.count(network, images, word=word, bounds="simple")
    sharp = edges.count(network, images, word=word, bounds="sharp")
    for a, b in zip(simple.stages, sharp.stages, strict=True):
        assert b.edges.evaluated <= a.edges.evaluated
        assert (a.edges.dense, a.edges.constant, a.edges.pooling) == (b.edges.dense, b.edges.constant, b.edges.pooling)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(strategies.networks(small=True), st.sampled_from(WORDS[1:]))
def test_one_edge_words_never_prune_less(case, word):
    spec, network = case
    images = strategies.images(spec, 2)
    fine, coarse = (edges.count(network, images, word=w) for w in (1, word))
    for a, b in zip(fine.stages, coarse.stages, strict=True):
        assert a.edges.pruned >= b.edges.pruned


@settings(max_examples=60, deadline=None, derandomize=True)
@given(strategies.networks(small=True), strategies.seeds())
def test_constant_edges_do_not_depend_on_the_input(case, seed):
    spec, network = case
    other = np.random.default_rng(seed).integers(0, 256, (1, *spec.image), dtype=np.uint8)
    for bounds in ("simple", "sharp"):
        a = edges.count(network, strategies.images(spec, 1), word=64, bounds=bounds)
        b = edges.count(network, other, word=64, bounds=bounds)
        for first, second in zip(a.stages, b.stages, strict=True):
            assert first.edges.constant == second.edges.constant


def test_constant_counts_by_hand():
    spec = strategies.Spec((4, 4, 64), "bits", (), (8,), 2, 7)
    network = strategies.build(spec)
    stage = network.stages[0]
    thresholds = np.array([[0, 1025, 1, 512, 512, 512, 512, 512]], np.int32)
    changed = type(stage)(name="d", geometry=stage.geometry, weights=stage.weights, thresholds=thresholds)
    network = Network(name="n", input=network.input, stages=(changed,), output=network.output)
    counts = edges.count(network, strategies.images(spec, 3)).stages[0].edges
    assert counts.dense == 3 * 8 * 1024
    assert counts.constant == 3 * 2 * 1024


def test_neurons_outside_of_every_window_are_not_counted():
    spec = strategies.Spec(
        (5, 5, 1),
        "bits",
        (strategies.ConvSpec(3, (1, 1), (1, 1), (0, 0), "zero", ((2, 2), (2, 2)), False, 1, False),),
        (),
        2,
        1,
    )
    network = strategies.build(spec)
    assert isinstance(network.stages[0], ConvStage)
    assert edges.count(network, strategies.images(spec, 1)).stages[0].edges.dense == 4 * 4 * 3


@pytest.mark.parametrize("word", [4, np.int64(4), np.uint8(4)])
def test_any_integer_is_a_word_width(word):
    found = edges.check_word(word, "simple")
    assert (type(found), found) == (int, 4)


@pytest.mark.parametrize("word", [0, -1, 1.0, True, np.bool_(True), np.float64(4), None, "64", (1 << 20) + 1])
def test_bad_word_width(word):
    with pytest.raises(InputError, match="word width"):
        edges.check_word(word, "simple")


def test_bad_bounds():
    with pytest.raises(InputError, match="bounds"):
        edges.check_word(1, "loose")


def test_profiles_add_up():
    spec = strategies.Spec((6, 6, 3), "pixel", (), (17,), 3, 5)
    network = strategies.build(spec)
    images = strategies.images(spec, 4)
    whole = edges.count(network, images, word=16)
    parts = edges.count(network, images[:1], word=16) + edges.count(network, images[1:], word=16)
    assert whole == parts
    assert whole.total() == whole.total("input") + whole.total("binary") + whole.total("output")
    with pytest.raises(InputError, match="only profiles"):
        _ = whole + edges.count(network, images, word=1)

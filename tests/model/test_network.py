"""Which networks exist: every rule of `Network` and its parts, each with a message that says what and where."""

import dataclasses
import re

import numpy as np
import pytest

from o3bnn.errors import InvalidNetworkError
from o3bnn.model import (
    ConvGeometry,
    ConvStage,
    DenseStage,
    InputEncoding,
    Network,
    OutputStage,
    Pooling,
    default_table,
    packing,
)
from tests.golden import networks

THRESHOLD = r"{}: threshold -?[0-9]+ of channel 0, border class [0-9]+, is outside of 0\.\.1$"
NAN, INFINITY = np.float32("nan"), np.float32("inf")


def deep():
    return networks.deep()


def changed(array, index, value):
    copy = np.array(array)
    copy[index] = value
    return copy


def with_stage(index, **changes):
    """The deep network with one stage changed."""
    network = deep()
    stages = list(network.stages)
    stages[index] = dataclasses.replace(stages[index], **changes)
    return dataclasses.replace(network, stages=tuple(stages))


def refuse(build, message):
    with pytest.raises(InvalidNetworkError, match=message):
        build()


def test_shapes_of_the_deep_network():
    network = deep()
    assert network.out_shapes == ((4, 2, 6), (4, 3, 66), (1, 1, 64), (1, 1, 5))
    assert network.stages[0].in_shape == network.input.shape == (9, 8, 3)
    assert [stage.in_shape for stage in network.stages[1:]] == [(4, 2, 6), (1, 1, 792), (1, 1, 64)]
    assert network.output.in_features == 5
    assert network.output.classes == 4
    assert [network.magnitude(stage) for stage in network.stages] == [7, 1, 1, 1]


def test_default_table():
    table = default_table()
    assert table.dtype == np.int16
    assert table.tolist() == [2 * p - 255 for p in range(256)]
    encoding = InputEncoding(1, 1, 1)
    assert (encoding.is_binary, encoding.magnitude, encoding.cover) == (False, 255, (1, 1))


@pytest.mark.parametrize(
    ("low", "high", "binary", "magnitude"), [(-1, 1, True, 1), (0, 1, False, 1), (-32768, 5, False, 32768)]
)
def test_kinds_of_tables(low, high, binary, magnitude):
    encoding = InputEncoding(2, 2, 1, np.array([low, high] * 128, np.int16))
    assert (encoding.is_binary, encoding.magnitude) == (binary, magnitude)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, 1), "in_height = 0"),
        ((2, 1 << 20, 1), "larger than 65536 on a side"),
        ((2, 2, 0), "in_channels = 0"),
        ((1 << 16, 1 << 12, 1), "padded input map has 268435456 elements, more than 134217728"),
        ((2, 2, 1, default_table()[:255]), r"input table: expected int16 \[256\], got int16 \[255\]"),
        ((2, 2, 1, default_table().astype(np.int32)), r"input table: expected int16 \[256\], got int32 \[256\]"),
        ((2, 2, 1, default_table().tolist()), "input table: expected .* got list"),
        ((2, 2, 1, default_table(), (1, 2)), r"input cover \(1, 2\) does not cover 2 x 2"),
        ((2, 2, 1, default_table(), (2, 1)), r"input cover \(2, 1\) does not cover 2 x 2"),
        ((2, 2, 1, default_table(), (2, 65537)), r"input cover = 65537 is not an integer in 1\.\.65536"),
        ((2, 2, 1, default_table(), (2, 2.0)), r"input cover = 2\.0 is not an integer"),
        ((2, 2, 1, default_table(), (2, 2, 2)), r"input cover = \(2, 2, 2\) is not a tuple of 2 integers"),
        ((2, 2, 1, default_table(), [2, 2]), r"input cover = \[2, 2\] is not a tuple of 2 integers"),
        ((2, 2, 1, default_table(), ()), r"input cover = \(\) is not a tuple of 2 integers"),
        ((2, 2, 1, default_table(), 2), "input cover = 2 is not a tuple of 2 integers"),
        ((2, 2, 2, default_table(), (8193, 8192)), "input cover has 134234112 elements, more than 134217728"),
    ],
)
def test_impossible_inputs(arguments, message):
    refuse(lambda: InputEncoding(*arguments), message)


GOOD = deep().stages


@pytest.mark.parametrize(
    ("index", "changes", "message"),
    [
        (0, {"name": ""}, "'' is not a name: use 1 to 256 printable characters"),
        (0, {"name": "a\nb"}, r"'a\\nb' is not a name"),
        (0, {"name": "x" * 257}, "is not a name"),
        (0, {"name": 7}, "7 is not a name"),
        (0, {"weights": GOOD[1].weights}, r"conv 1: weights: expected uint64 \[6, 1\], got uint64 \[66, 1\]"),
        (
            2,
            {"weights": GOOD[2].weights[:, :-1]},
            r"dense 1: weights: expected uint64 \[64, 13\], got uint64 \[64, 12\]",
        ),
        (1, {"weights": GOOD[1].weights.astype(np.int64)}, r"conv 2: weights: .* got int64 \[66, 1\]"),
        (1, {"weights": GOOD[1].weights.astype(">u8")}, "conv 2: weights: .* got >u8"),
        (1, {"weights": None}, "conv 2: weights: .* got NoneType"),
        (1, {"weights": changed(GOOD[1].weights, (65, 0), 1 << 12)}, "conv 2: weights have ones beyond the last edge"),
        (2, {"weights": changed(GOOD[2].weights, (0, 12), 1 << 63)}, "dense 1: weights have ones beyond"),
        (0, {"thresholds": GOOD[0].thresholds[:1]}, r"conv 1: thresholds: expected int32 \[4, 6\], got int32 \[1, 6\]"),
        (0, {"thresholds": GOOD[0].thresholds.T}, "conv 1: thresholds"),
        (0, {"thresholds": GOOD[0].thresholds.astype(np.float32)}, r"conv 1: thresholds: .* got float32 \[4, 6\]"),
        (0, {"padding_mode": "reflect"}, "conv 1: padding mode 'reflect' is not one of"),
        (0, {"decisive_bit": GOOD[1].decisive_bit}, r"conv 1: decisive bits: expected uint8 \[6\], got uint8 \[66\]"),
        (
            0,
            {"decisive_bit": np.array([0, 1, 0, 255, 2, 0], np.uint8)},
            "conv 1: decisive bit 255 of channel 3 is neither 0 nor 1",
        ),
        (0, {"pooling": Pooling((11, 1), (1, 1))}, r"conv 1: Pooling\(size=\(11, 1\), .* does not fit a map of"),
        (2, {"geometry": ConvGeometry(1, 1, 792, 64, stride=(2, 1))}, "dense 1: a dense stage needs a plain 1 x 1"),
        (2, {"geometry": ConvGeometry(2, 1, 792, 64)}, "dense 1: a dense stage needs a plain 1 x 1"),
    ],
)
def test_impossible_stages(index, changes, message):
    refuse(lambda: dataclasses.replace(GOOD[index], **changes), message)


OUTPUT = deep().output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "\x00"}, "is not a name"),
        ({"in_features": 0}, r"output: in_features = 0 is not an integer in 1\.\.4194304"),
        ({"in_features": 5.0}, r"output: in_features = 5\.0 is not an integer"),
        ({"in_features": True}, "output: in_features = True is not an integer"),
        ({"in_features": (1 << 22) + 1}, r"output: in_features = 4194305 is not an integer in 1\.\.4194304"),
        ({"in_features": 65}, r"output: weights: expected uint64 \[4, 2\], got uint64 \[4, 1\]"),
        (
            {"weights": OUTPUT.weights[0]},
            r"output: classes \(rows of its weights\) = 0 is not an integer in 1\.\.16777216",
        ),
        ({"weights": OUTPUT.weights[:0]}, r"output: classes \(rows of its weights\) = 0 is not"),
        ({"weights": OUTPUT.weights.tolist()}, r"output: classes \(rows of its weights\) = 0 is not"),
        (
            {"weights": np.broadcast_to(np.uint64(0), ((1 << 24) + 1, 1))},
            r"output: classes \(rows of its weights\) = 16777217 is not",
        ),
        ({"weights": changed(OUTPUT.weights, (3, 0), 32)}, "output: weights have ones beyond"),
        ({"scale": OUTPUT.scale[:3]}, r"output: scale: expected float32 \[4\], got float32 \[3\]"),
        ({"scale": OUTPUT.scale.astype(np.float64)}, r"output: scale: .* got float64 \[4\]"),
        ({"scale": changed(OUTPUT.scale, 2, NAN)}, "output: scale of class 2 is nan: it must be finite"),
        ({"offset": changed(OUTPUT.offset, 0, -INFINITY)}, "output: offset of class 0 is -inf: it must be finite"),
        ({"offset": OUTPUT.offset[:, None]}, r"output: offset: .* got float32 \[4, 1\]"),
    ],
)
def test_impossible_outputs(changes, message):
    refuse(lambda: dataclasses.replace(OUTPUT, **changes), message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "'' is not a name"),
        ({"stages": GOOD[1:]}, "conv 2: its input is integers, but integer_input = False"),
        ({"stages": GOOD[:2] + GOOD[3:]}, r"dense 2: expects a map of \(1, 1, 64\), but gets \(4, 3, 66\)"),
        ({"stages": GOOD[:1] + GOOD[2:]}, r"dense 1: expects a map of \(1, 1, 792\), but gets \(4, 2, 6\)"),
        ({"stages": GOOD[:3]}, r"output: 5 inputs for a map of \(1, 1, 64\)"),
        ({"stages": GOOD[:1] * 1025}, "1025 stages are more than 1024"),
        ({"stages": (*GOOD, GOOD[3])}, "stage names are not unique: 'dense 2' comes 2 times"),
        ({"output": dataclasses.replace(OUTPUT, name="conv 1")}, "stage names are not unique: 'conv 1' comes 2 times"),
        ({"class_names": ("cat", "dog")}, "2 class names for 4 classes"),
        ({"class_names": ("a", "b", 3, "d")}, "class names and metadata are text, not 3"),
        ({"class_names": (b"a", "b", "c", "d")}, "class names and metadata are text, not b'a'"),
        ({"class_names": 3}, "class_names = 3 is not a sequence of texts: pass one name a class, or none"),
        ({"class_names": "abcd"}, "class_names = 'abcd' is not a sequence of texts"),
        ({"metadata": [1]}, r"metadata = \[1\] is not a mapping: pass a dict of text to text"),
        ({"metadata": None}, "metadata = None is not a mapping"),
        ({"metadata": {"accuracy": 0.5}}, r"class names and metadata are text, not 0\.5"),
        ({"metadata": {1: "one"}}, "class names and metadata are text, not 1"),
        ({"metadata": {"source": None}}, "class names and metadata are text, not None"),
        ({"input": InputEncoding(9, 9, 3, deep().input.table)}, r"conv 1: expects a map of \(9, 8, 3\), but gets"),
        (
            {"input": InputEncoding(9, 8, 3, np.array([-1, 1] * 128, np.int16))},
            "conv 1: its input is bits, but integer_input = True",
        ),
        ({"input": InputEncoding(9, 8, 3, np.zeros(256, np.int16))}, THRESHOLD.format("conv 1")),
    ],
)
def test_impossible_networks(changes, message):
    refuse(lambda: dataclasses.replace(deep(), **changes), message)


def test_network_without_hidden_stages_needs_bits():
    plain = networks.plain()
    assert plain.stages == ()
    refuse(lambda: dataclasses.replace(plain, input=InputEncoding(13, 5, 1)), "the output stage reads bits")


@pytest.mark.parametrize("index", range(len(GOOD)))
@pytest.mark.parametrize("end", ["low", "high"])
def test_thresholds_at_the_ends_of_their_range(index, end):
    """The ends are legal and constant; one beyond them is not a network."""
    network = deep()
    stage = network.stages[index]
    magnitude = network.magnitude(stage)
    low, high = stage.score_limits(magnitude)
    ends, step, bit = (low, -1, 1) if end == "low" else (high + 1, 1, 0)
    legal = np.repeat(ends[:, None], stage.geometry.out_channels, axis=1).astype(np.int32)
    for border in range(stage.geometry.class_count):
        thresholds = changed(stage.thresholds, border, legal[border])
        valid = with_stage(index, thresholds=thresholds)
        assert (valid.stages[index].constant(magnitude)[border] == bit).all()
        beyond = changed(thresholds, (border, -1), legal[border, -1] + step)
        message = (
            f"{stage.name}: threshold {beyond[border, -1]} of channel {stage.geometry.out_channels - 1}, "
            f"border class {border}, is outside of {low[border]}..{high[border] + 1}"
        )
        refuse(lambda beyond=beyond: with_stage(index, thresholds=beyond), re.escape(message))


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_constant_by_definition(name):
    network = networks.NETWORKS[name]()
    for stage in network.stages:
        magnitude = network.magnitude(stage)
        constant = stage.constant(magnitude)
        assert constant.dtype == np.int8
        for (border, channel), threshold in np.ndenumerate(stage.thresholds):
            edges = int(stage.geometry.class_masks[border].sum())
            scores = range(-edges * magnitude, edges * magnitude + 1) if stage.integer_input else range(edges + 1)
            bits = {int(score >= threshold) for score in (scores[0], scores[-1])}
            assert constant[border, channel] == (bits.pop() if len(bits) == 1 else -1)


def test_sums_that_overflow():
    table = np.full(256, 32767, np.int16)
    g = ConvGeometry(1, 1, 1 << 17, 1)
    stage = DenseStage(
        name="wide",
        geometry=g,
        weights=np.zeros((1, 1 << 11), np.uint64),
        thresholds=np.zeros((1, 1), np.int32),
        integer_input=True,
    )
    head = OutputStage(
        name="output",
        in_features=1,
        weights=np.zeros((1, 1), np.uint64),
        scale=np.ones(1, np.float32),
        offset=np.zeros(1, np.float32),
    )
    refuse(
        lambda: Network(name="n", input=InputEncoding(1, 1, 1 << 17, table), stages=(stage,), output=head),
        "wide: fan-in 131072 of inputs up to 32767 overflows 32-bit sums",
    )


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks_are_immutable(name):
    network = networks.NETWORKS[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.name = "other"
    with pytest.raises(TypeError):
        network.metadata["a"] = "b"
    arrays = [network.input.table, network.output.weights, network.output.scale, network.output.offset]
    for stage in network.stages:
        arrays += [stage.weights, stage.thresholds]
        arrays += [stage.decisive_bit] if isinstance(stage, ConvStage) else []
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_arrays_are_copied():
    weights = packing.pack(np.ones((4, 5), np.uint8))
    output = dataclasses.replace(OUTPUT, weights=weights)
    weights[...] = 0
    assert output.weight_bits().tolist() == [[1] * 5] * 4


def test_lists_and_dicts_become_immutable():
    stages, texts = list(GOOD), {"source": "here"}
    network = dataclasses.replace(deep(), stages=stages, class_names=["a", "b", "c", "d"], metadata=texts)
    stages.clear()
    texts.clear()
    assert network.stages == GOOD
    assert network.class_names == ("a", "b", "c", "d")
    assert dict(network.metadata) == {"source": "here"}


def test_dense_stage_is_a_convolution_without_pooling():
    dense = GOOD[2]
    assert dense.pooling is None
    assert dense.decisive_bit.tolist() == [1] * 64
    assert dense.in_shape == (1, 1, 792)
    assert dense.out_shape == dense.conv_shape == (1, 1, 64)


@pytest.mark.parametrize("stage", GOOD, ids=lambda stage: stage.name)
def test_weight_bits(stage):
    bits = stage.weight_bits()
    assert bits.shape == (stage.geometry.out_channels, stage.geometry.full_fan_in)
    assert np.array_equal(packing.pack(bits), stage.weights)


@pytest.mark.parametrize(
    ("pooling", "shape"),
    [
        (None, (10, 4)),
        (Pooling((1, 1), (1, 1)), (10, 4)),
        (Pooling((2, 2), (2, 2)), (5, 2)),
        (Pooling((3, 3), (2, 2)), (4, 1)),
        (Pooling((3, 2), (2, 2)), (4, 2)),
        (Pooling((10, 4), (1, 1)), (1, 1)),
        (Pooling((1, 1), (65536, 3)), (1, 2)),
        (Pooling((2, 3), (1, 1)), (9, 2)),
    ],
)
def test_pooled_shapes(pooling, shape):
    stage = dataclasses.replace(GOOD[0], pooling=pooling)
    assert stage.conv_shape == (10, 4, 6)
    assert stage.out_shape == (*shape, 6)


def test_cover_at_its_bound():
    assert InputEncoding(2, 2, 2, default_table(), (8192, 8192)).cover == (8192, 8192)

"""Shapes and border classes, against brute force over every position and every edge."""

import dataclasses
import itertools

import numpy as np
import pytest

from o3bnn.errors import InvalidNetworkError
from o3bnn.model import ConvGeometry, Pooling
from o3bnn.model.geometry import axis_classes, output_size

AXES = [
    (size, kernel, stride, before, after)
    for size, kernel, stride in itertools.product((1, 2, 3, 5, 8), (1, 2, 3, 5, 7), (1, 2, 3, 4))
    for before, after in ((0, 0), (1, 1), (2, 2), (0, 1), (3, 0), (1, 5), (9, 9))
    if size + before + after >= kernel
]


def inside(size, kernel, stride, before, after):
    """Per output index, the kernel indices that fall on the map, found one by one."""
    result = []
    position = 0
    while position * stride + kernel <= size + before + after:
        first = position * stride - before
        result.append([k for k in range(kernel) if 0 <= first + k < size])
        position += 1
    return result


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_axis_classes_by_brute_force(axis):
    seen = inside(*axis)
    classes = axis_classes(*axis)
    assert output_size(*axis) == len(seen) == len(classes.index)
    for kernel_indices, number in zip(seen, classes.index, strict=True):
        assert list(range(*classes.spans[number])) == kernel_indices
    size, _, stride, before, _ = axis
    keys = [(indices, not indices and i * stride < before + size) for i, indices in enumerate(seen)]
    for a, b in itertools.combinations(range(len(keys)), 2):
        assert (classes.index[a] == classes.index[b]) == (keys[a] == keys[b]), "empty windows: before and after differ"
    firsts = [classes.index.index(number) for number in range(len(classes.spans))]
    assert firsts == sorted(firsts), "numbered in order of first appearance"


GEOMETRIES = [
    ConvGeometry(5, 7, 3, 4, (3, 3), (1, 1), (1, 1, 1, 1)),
    ConvGeometry(1, 1, 2, 1, (3, 3), (1, 1), (1, 1, 1, 1)),
    ConvGeometry(6, 5, 4, 2, (3, 2), (2, 1), (2, 0, 1, 1), groups=2),
    ConvGeometry(9, 9, 1, 1, (5, 7), (1, 2), (2, 3, 2, 3)),
    ConvGeometry(4, 4, 6, 9, (2, 4), (1, 3), (0, 3, 1, 0), groups=3),
    ConvGeometry(3, 3, 1, 1, (1, 1), (1, 1), (2, 2, 2, 2)),
    ConvGeometry(8, 8, 2, 2, (3, 3), (2, 2)),
    ConvGeometry(1, 1, 130, 10),
]


@pytest.mark.parametrize("g", GEOMETRIES, ids=range(len(GEOMETRIES)))
def test_border_classes_by_brute_force(g):
    assert g.class_map.shape == (g.out_height, g.out_width)
    assert g.class_masks.shape == (g.class_count, g.full_fan_in)
    for y, x in itertools.product(range(g.out_height), range(g.out_width)):
        mask = []
        for row, column, _ in itertools.product(range(g.kernel[0]), range(g.kernel[1]), range(g.group_channels)):
            r, c = y * g.stride[0] - g.padding[0] + row, x * g.stride[1] - g.padding[1] + column
            mask.append(0 <= r < g.in_height and 0 <= c < g.in_width)
        number = g.class_map[y, x]
        assert g.class_masks[number].tolist() == mask
        assert g.class_fan_in[number] == sum(mask)
    assert set(g.class_map.ravel().tolist()) == set(range(g.class_count)), "every class occurs"
    assert g.class_map[0, 0] == 0


@pytest.mark.parametrize("g", GEOMETRIES, ids=range(len(GEOMETRIES)))
def test_sizes(g):
    assert g.outputs == g.out_height * g.out_width * g.out_channels
    assert g.full_fan_in == g.kernel[0] * g.kernel[1] * g.in_channels // g.groups
    if g.padding == (0, 0, 0, 0):
        assert g.class_count == 1
        assert g.class_fan_in.tolist() == [g.full_fan_in]


def test_geometries_compare_and_hash_by_value():
    assert ConvGeometry(4, 4, 1, 1) == ConvGeometry(4, 4, 1, 1)
    assert len({ConvGeometry(4, 4, 1, 1), ConvGeometry(4, 4, 1, 1), ConvGeometry(4, 4, 1, 2)}) == 2


BASE = ConvGeometry(8, 8, 4, 6, (3, 3), (1, 1), (1, 1, 1, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_height": 0}, r"in_height = 0 is not an integer in 1\.\.16777216"),
        ({"in_width": -3}, "in_width = -3"),
        ({"in_channels": 2.0}, r"in_channels = 2\.0"),
        ({"in_channels": True}, "in_channels = True"),
        ({"out_channels": "6"}, "out_channels = '6'"),
        ({"out_channels": np.int64(6)}, r"out_channels = (np\.int64\()?6"),
        ({"out_channels": (1 << 24) + 1}, "out_channels = 16777217"),
        ({"kernel": (0, 3)}, r"kernel = 0 is not an integer in 1\.\.65536"),
        ({"kernel": (3, 65537)}, "kernel = 65537"),
        ({"stride": (1, 0)}, "stride = 0"),
        ({"padding": (1, 1, -1, 1)}, "padding = -1"),
        ({"padding": (1, 1, 1, None)}, "padding = None"),
        ({"groups": 0}, "groups = 0"),
        ({"groups": 4}, "groups = 4 does not divide 4 input and 6 output channels"),
        ({"groups": 3}, "groups = 3 does not divide 4 input and 6 output channels"),
        ({"kernel": (11, 3)}, r"kernel \(11, 3\) does not fit a map of 8 x 8 with padding \(1, 1, 1, 1\)"),
        ({"kernel": (3, 11)}, r"kernel \(3, 11\) does not fit"),
        ({"in_height": 65537}, "a map of 65537 x 8 is larger than 65536 on a side"),
        ({"kernel": (3,)}, r"kernel = \(3,\) is not a tuple of 2 integers"),
        ({"kernel": [3, 3]}, r"kernel = \[3, 3\] is not a tuple of 2 integers"),
        ({"kernel": 3}, "kernel = 3 is not a tuple of 2 integers"),
        ({"stride": (1, 1, 1)}, r"stride = \(1, 1, 1\) is not a tuple of 2 integers"),
        ({"padding": (1, 1)}, r"padding = \(1, 1\) is not a tuple of 4 integers"),
        ({"padding": "same"}, "padding = 'same' is not a tuple of 4 integers"),
        ({"in_height": 65536, "in_width": 2048}, "padded input map has 537411600 elements, more than 134217728"),
        ({"in_channels": 3, "groups": 3, "padding": (65536,) * 4}, "padded input map has 51545899200 elements"),
        ({"out_channels": 1 << 22}, "output map has 268435456 elements, more than 134217728"),
        (
            {"in_height": 2048, "in_width": 2048, "kernel": (2048, 2048), "padding": (0,) * 4},
            "fan-in 16777216 is above 4194304",
        ),
        (
            {"in_height": 300, "in_width": 300, "kernel": (300, 300), "padding": (150,) * 4, "stride": (1, 1)},
            "90601 border classes of fan-in 360000 are too many: their product is above 67108864",
        ),
    ],
)
def test_impossible_geometries(changes, message):
    with pytest.raises(InvalidNetworkError, match=message):
        dataclasses.replace(BASE, **changes)


def test_padded_map_at_its_bound():
    """16384 rows of 8192 columns, nearly all padding, are the most that a map may have."""
    most = ConvGeometry(1, 1, 1, 1, (1, 1), (16384, 8192), (16383, 8191, 0, 0))
    assert (most.out_height, most.out_width) == (1, 1)
    with pytest.raises(InvalidNetworkError, match="padded input map has 134225920 elements, more than 134217728"):
        dataclasses.replace(most, padding=(16383, 8191, 1, 0))


@pytest.mark.parametrize(
    ("size", "stride", "message"),
    [
        ((0, 2), (2, 2), r"pooling size = 0 is not an integer in 1\.\.65536"),
        ((2, 65537), (2, 2), "pooling size = 65537"),
        ((2, 2), (2, -1), "pooling stride = -1"),
        ((2, 2.0), (2, 2), r"pooling size = 2\.0"),
        ((2,), (2, 2), r"pooling size = \(2,\) is not a tuple of 2 integers"),
        ((2, 2), [2, 2], r"pooling stride = \[2, 2\] is not a tuple of 2 integers"),
        (2, (2, 2), "pooling size = 2 is not a tuple of 2 integers"),
    ],
)
def test_impossible_poolings(size, stride, message):
    with pytest.raises(InvalidNetworkError, match=message):
        Pooling(size, stride)

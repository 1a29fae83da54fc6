"""What an engine accepts, and how it says no."""

import numpy as np
import pytest

from o3bnn import Engine, _native
from o3bnn.errors import InputError
from o3bnn.model import reference
from tests.engine import networks

COLOUR = networks.build(networks.AWKWARD["overlapping windows"])
GREY = networks.build(networks.AWKWARD["windows with gaps"])


@pytest.fixture(scope="module")
def engine():
    return Engine(COLOUR, threads=1)


def calls(engine):
    return (engine.run, engine.predict, engine.sums, engine.activations, engine.profile)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, r"threads = 0 is not an integer in 1\.\.1024: leave it out to use every CPU"),
        ({"threads": 1025}, "threads = 1025"),
        ({"threads": -1}, "threads = -1"),
        ({"threads": 1.0}, r"threads = 1\.0"),
        ({"threads": True}, "threads = True"),
        ({"pruning": "maybe"}, "pruning = 'maybe' is none of 'auto', 'on', 'off'"),
        ({"pruning": True}, "pruning = True"),
        ({"pruning": None}, "pruning = None"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        Engine(COLOUR, **options)


def test_the_network_must_be_a_network():
    with pytest.raises(InputError, match=r"network is a str: pass an o3bnn\.Network, as o3bnn\.load returns"):
        Engine("model.safetensors")


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (np.zeros((2, 11, 10, 3), np.float32), r"images are float32: pass uint8 pixels 0\.\.255"),
        (np.zeros((2, 11, 10, 3), np.int64), "images are int64"),
        (np.zeros((2, 11, 10, 3), bool), "images are bool"),
        (np.zeros((11, 10, 3), np.uint8), r"\(11, 10, 3\) lack the batch axis: pass images\[None\] for a single one"),
        (np.zeros((2, 11, 10), np.uint8), r"shape \(2, 11, 10\), but the network reads \(n, 11, 10, 3\)"),
        (np.zeros((2, 11, 10, 1), np.uint8), r"shape \(2, 11, 10, 1\)"),
        (np.zeros((2, 3, 11, 10), np.uint8), "channels last"),
        (np.zeros((2, 10, 11, 3), np.uint8), r"shape \(2, 10, 11, 3\)"),
        (np.zeros((1, 2, 11, 10, 3), np.uint8), r"shape \(1, 2, 11, 10, 3\)"),
        (np.uint8(3), r"shape \(\)"),
        (None, "images are object"),
        ([[1], [2, 3]], "images are not an array"),
    ],
)
def test_bad_images(engine, pictures, message):
    for call in calls(engine):
        with pytest.raises(InputError, match=message):
            call(pictures)


def test_one_grey_image_lacks_the_batch_axis():
    with pytest.raises(InputError, match="batch axis"):
        Engine(GREY, threads=1).run(np.zeros((12, 13), np.uint8))
    with pytest.raises(InputError, match="batch axis"):
        Engine(GREY, threads=1).run(np.zeros((12, 13, 1), np.uint8))


@pytest.mark.parametrize("word", [0, -1, (1 << 20) + 1, 1.0, True, "64"])
def test_bad_words(engine, word):
    with pytest.raises(InputError, match="word width"):
        engine.profile(networks.images(COLOUR, 1), word=word)


def test_bad_bounds(engine):
    with pytest.raises(InputError, match="bounds 'loose' are neither 'simple' nor 'sharp'"):
        engine.profile(networks.images(COLOUR, 1), bounds="loose")


def test_no_images(engine):
    nothing = np.zeros((0, 11, 10, 3), np.uint8)
    assert engine.run(nothing).shape == (0, 3)
    assert engine.run(nothing).dtype == np.float32
    assert engine.predict(nothing).shape == (0,)
    assert engine.predict(nothing).dtype == np.int64
    assert engine.sums(nothing).shape == (0, 3)
    assert [bits.shape for bits in engine.activations(nothing)] == [(0, *shape) for shape in COLOUR.out_shapes]
    profile = engine.profile(nothing)
    assert profile.images == 0
    assert profile.total().dense == 0
    assert [stage.name for stage in profile.stages] == ["conv0", "conv1", "dense0", "output"]


def test_grey_images_need_no_channel_axis():
    pictures = networks.images(GREY, 4)
    engine = Engine(GREY, threads=1)
    np.testing.assert_array_equal(engine.sums(pictures[..., 0]), engine.sums(pictures))
    assert engine.profile(pictures[..., 0]) == engine.profile(pictures)


@pytest.mark.parametrize("pruning", ["on", "off"])
def test_images_need_not_be_contiguous(pruning):
    engine = Engine(COLOUR, threads=1, pruning=pruning)
    pictures = networks.images(COLOUR, 8)
    expected = reference.run(COLOUR, pictures).sums
    planar = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    assert not planar.flags.c_contiguous
    np.testing.assert_array_equal(engine.sums(planar), expected)
    np.testing.assert_array_equal(engine.sums(pictures[::-2]), expected[::-2])
    pictures.setflags(write=False)
    np.testing.assert_array_equal(engine.sums(pictures), expected)


def test_parts_of_a_call_join_seamlessly(monkeypatch):
    """Calls are cut into parts so that Ctrl-C works; here every part is a few images."""
    pictures = networks.images(COLOUR, 23)
    whole = Engine(COLOUR, threads=1)
    parted = Engine(COLOUR, threads=1)
    monkeypatch.setattr("o3bnn.engine.engine._WORK_PER_LOOK", 1)
    monkeypatch.setattr("o3bnn.engine.engine._IMAGES_PER_LOOK", 5)
    assert len(list(parted._parts(23))) == 5
    expected = reference.run(COLOUR, pictures)
    np.testing.assert_array_equal(parted.sums(pictures), expected.sums)
    for found, wanted in zip(parted.activations(pictures), expected.stages, strict=True):
        np.testing.assert_array_equal(found, wanted.bits)
    profile = parted.profile(pictures, word=7)
    monkeypatch.undo()
    assert len(list(whole._parts(23))) == 1
    assert profile == whole.profile(pictures, word=7)


def test_properties():
    engine = Engine(COLOUR, threads=3, pruning="on")
    assert engine.network is COLOUR
    assert engine.threads == 3
    assert engine.pruning == "on"
    assert engine.isa == _native.available_isas()[0]


def test_the_native_side_checks_shapes_itself(engine):
    """Memory safety rests on these: nothing but a `ValueError` or `TypeError` may come of a misfit."""
    native = engine._native
    pictures = networks.images(COLOUR, 2)
    with pytest.raises(ValueError, match="images have another shape"):
        native.sums(pictures[:, :-1].copy(), np.empty((2, 3), np.int32))
    with pytest.raises(ValueError, match="out has another shape"):
        native.sums(pictures, np.empty((1, 3), np.int32))
    with pytest.raises(ValueError, match="one map for each stage"):
        native.activations(pictures, [])
    with pytest.raises(ValueError, match="word width"):
        native.profile(pictures, 0, False)
    with pytest.raises(TypeError):
        native.sums(pictures.astype(np.int16), np.empty((2, 3), np.int32))
    with pytest.raises(TypeError):
        native.sums(pictures[:, ::-1], np.empty((2, 3), np.int32))
    with pytest.raises(ValueError, match="no output stage"):
        _native.Engine(_native.Plan((1, 1, 1), networks.BITS, True), "scalar", 1, 0)
    with pytest.raises(ValueError, match="'mmx' is not available"):
        plan = _native.Plan((1, 1, 1), networks.BITS, True)
        plan.set_output(1, np.zeros((1, 1), np.uint64))
        _native.Engine(plan, "mmx", 1, 0)


def stage_arguments():
    """One 1 x 1 convolution of 2 channels on a 2 x 2 x 3 map of bits."""
    return {
        "in_shape": (2, 2, 3),
        "conv_shape": (2, 2, 2),
        "kernel": (1, 1),
        "stride": (1, 1),
        "padding": (0, 0),
        "groups": 1,
        "pool_size": (1, 1),
        "pool_stride": (1, 1),
        "integer_input": False,
        "method": "dense",
        "checks": (),
        "magnitude": 1,
        "weights": np.zeros((2, 1), np.uint64),
        "thresholds": np.ones((1, 2), np.int32),
        "constant": np.full((1, 2), -1, np.int8),
        "decisive": np.ones(2, np.uint8),
        "class_map": np.zeros((2, 2), np.int32),
        "exists": np.full((1, 1), 7, np.uint64),
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("in_shape", (2, 2, 4)),
        ("in_shape", (0, 2, 3)),
        ("in_shape", (1 << 40, 1 << 40, 1)),
        ("conv_shape", (2, 2, 3)),
        ("kernel", (0, 1)),
        ("kernel", (9, 9)),
        ("stride", (0, 1)),
        ("groups", 0),
        ("groups", 2),
        ("pool_size", (3, 1)),
        ("pool_stride", (1, 0)),
        ("integer_input", True),
        ("weights", np.zeros((2, 2), np.uint64)),
        ("thresholds", np.ones((2, 2), np.int32)),
        ("constant", np.ones((1, 3), np.int8)),
        ("decisive", np.ones(1, np.uint8)),
        ("class_map", np.full((2, 2), 1, np.int32)),
        ("class_map", np.full((2, 2), -1, np.int32)),
        ("class_map", np.zeros((1, 2), np.int32)),
        ("exists", np.zeros((0, 1), np.uint64)),
    ],
)
def test_the_native_side_refuses_a_stage_that_does_not_fit(field, value):
    _native.Plan((2, 2, 3), networks.BITS, True).add_stage(**stage_arguments())
    with pytest.raises(ValueError):
        _native.Plan((2, 2, 3), networks.BITS, True).add_stage(**{**stage_arguments(), field: value})

"""Larq Compute Engine's .tflite files: the network gives what LCE's own interpreter gave when the file was made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3bnn.compiler.larq import compile_tflite
from o3bnn.compiler.larq.tflite import parse
from o3bnn.errors import UnsupportedGraphError
from o3bnn.model import reference
from tests.interchange.helpers import MODELS

NAMES = ("larq_one_padded", "larq_zero_padded")


@pytest.mark.parametrize("name", NAMES)
def test_same_classes_and_logits(name):
    network = compile_tflite(MODELS / f"{name}.tflite").network
    with np.load(MODELS / f"{name}.npz") as recorded:
        images, logits = recorded["images"], recorded["logits"]
    found = reference.run(network, images)
    np.testing.assert_array_equal(found.classes, logits.argmax(axis=1))
    np.testing.assert_allclose(found.logits, logits, atol=2e-6)
    assert len(set(found.classes.tolist())) > 2
    firing = [trace.bits.mean() for trace in found.stages]
    assert all(0.1 < share < 0.9 for share in firing), firing


def test_stages():
    network = compile_tflite(MODELS / "larq_one_padded.tflite").network
    assert [stage.out_shape for stage in network.stages] == [
        (8, 8, 16),
        (8, 8, 64),
        (2, 2, 32),
        (2, 2, 33),
        (1, 1, 24),
    ]
    assert [getattr(stage, "padding_mode", None) for stage in network.stages] == [
        "zero",
        "plus_one",
        "plus_one",
        "zero",
        None,
    ]
    np.testing.assert_array_equal(network.input.table, 2 * np.arange(256) - 255)
    zero = compile_tflite(MODELS / "larq_zero_padded.tflite").network
    assert zero.input.is_binary
    assert zero.stages[1].geometry.class_count == 9 and zero.stages[1].padding_mode == "zero"


def test_operations_in_the_file():
    names = {
        operation.name for name in NAMES for operation in parse((MODELS / f"{name}.tflite").read_bytes()).operations
    }
    assert names >= {"LceQuantize", "LceBconv2d", "LceBMaxPool2d", "LceDequantize", "CONV_2D", "FULLY_CONNECTED"}


@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_damaged_files(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    content = bytearray((MODELS / "larq_one_padded.tflite").read_bytes())
    tables = len(content) - 9000 if rng.random() < 0.7 else 0  # weights come first, tables last
    for _ in range(int(rng.integers(1, 6))):
        content[int(rng.integers(tables, len(content)))] = int(rng.integers(256))
    if rng.random() < 0.2:
        del content[int(rng.integers(len(content))) :]
    path = tmp_path_factory.mktemp("damaged") / "m.tflite"
    path.write_bytes(bytes(content))
    try:
        compile_tflite(path)
    except UnsupportedGraphError as error:
        assert str(error)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UnsupportedGraphError, match="check the path"):
        compile_tflite(tmp_path / "none.tflite")
    for content in (b"", b"TFL3", b"\0" * 100, b"\x10\0\0\0TFL3" + b"\xff" * 50):
        (tmp_path / "m.tflite").write_bytes(content)
        with pytest.raises(UnsupportedGraphError, match=r"cannot read .*m\.tflite"):
            compile_tflite(tmp_path / "m.tflite")

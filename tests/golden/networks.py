"""The networks behind the golden files, built by arithmetic alone so that no random generator can change them.

`python -m tests.golden.networks` writes the files anew; do that only together with a new format version.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from o3bnn.model import (
    ConvGeometry,
    ConvStage,
    DenseStage,
    InputEncoding,
    Network,
    OutputStage,
    Pooling,
    artifact,
    packing,
)

FOLDER = Path(__file__).parent


def bits(rows, columns, seed):
    """Packed bits that look irregular: uint64 [rows, word_count(columns)]."""
    index = np.arange(rows * columns, dtype=np.uint64).reshape(rows, columns)
    mixed = (index + np.uint64(seed * 7919)) * np.uint64(2654435761) % np.uint64(1 << 32)
    return packing.pack(((mixed ^ mixed >> np.uint64(15)) >> np.uint64(11) & np.uint64(1)).astype(np.uint8))


def thresholds(g, magnitude=None):
    """Thresholds around the middle score, every seventh at an end of the range: int32 [class_count, out_channels]."""
    fan_in = g.class_fan_in[:, None]
    low, high = (0 * fan_in, fan_in) if magnitude is None else (-fan_in * magnitude, fan_in * magnitude)
    step = np.arange(g.class_count * g.out_channels).reshape(g.class_count, g.out_channels)
    near = (low + high) // 2 + (step * 3 % 5 - 2) * (magnitude or 1)
    values = np.where(step % 7 == 6, np.where(step % 2, low, high + 1), near)
    return np.clip(values, low, high + 1).astype(np.int32)


def output(name, features, classes):
    index = np.arange(classes)
    return OutputStage(
        name=name,
        in_features=features,
        weights=bits(classes, features, 4),
        scale=(0.25 * (index + 1)).astype(np.float32),
        offset=(0.5 - index).astype(np.float32),
    )


def tiny():
    """The worked example of docs/format.md: one padded convolution of grey 2 x 2 images."""
    g = ConvGeometry(2, 2, 1, 2, kernel=(3, 3), padding=(1, 1, 1, 1))
    conv = ConvStage(
        name="conv",
        geometry=g,
        weights=bits(2, 9, 0),
        thresholds=np.array([[0, -1020], [100, -100], [300, 50], [1021, 0]], np.int32),
        decisive_bit=np.array([1, 0], np.uint8),
        pooling=Pooling((2, 2), (2, 2)),
        integer_input=True,
    )
    head = replace(output("output", 2, 2), weights=packing.pack(np.array([[1, 0], [1, 1]], np.uint8)))
    return Network(name="tiny", input=InputEncoding(2, 2, 1), stages=(conv,), output=head)


def plain():
    """No hidden stage, one-bit pixels, rows of one bit more than a word, texts beyond ASCII."""
    table = np.where(np.arange(256) < 128, -1, 1).astype(np.int16)
    return Network(
        name="plain \u2013 r\xe9seau",
        input=InputEncoding(13, 5, 1, table, cover=(16, 8)),
        stages=(),
        output=output("logits", 65, 3),
        class_names=("\u732b", 'a "quoted" \\ dog', "line\nbreak"),
        metadata={"source": "tests/golden", "accuracy": "0.5", "": "empty key"},
    )


def deep():
    """Every feature of a stage: groups, oblong kernels, strides, uneven padding, overlapping pools, dense stages."""
    first = ConvGeometry(9, 8, 3, 6, kernel=(3, 2), stride=(1, 2), padding=(1, 0, 2, 1))
    second = ConvGeometry(4, 2, 6, 66, kernel=(2, 2), padding=(1, 1, 0, 1), groups=2)
    third = ConvGeometry(1, 1, 66 * 4 * 3, 64)
    fourth = ConvGeometry(1, 1, 64, 5)
    stages = (
        ConvStage(
            name="conv 1",
            geometry=first,
            weights=bits(6, 18, 1),
            thresholds=thresholds(first, 7),
            decisive_bit=np.array([1, 0, 1, 1, 0, 0], np.uint8),
            pooling=Pooling((3, 2), (2, 2)),
            padding_mode="minus_one",
            integer_input=True,
        ),
        ConvStage(
            name="conv 2",
            geometry=second,
            weights=bits(66, 12, 2),
            thresholds=thresholds(second),
            decisive_bit=(np.arange(66) % 3 == 0).astype(np.uint8),
            padding_mode="plus_one",
        ),
        DenseStage(name="dense 1", geometry=third, weights=bits(64, 792, 3), thresholds=thresholds(third)),
        DenseStage(name="dense 2", geometry=fourth, weights=bits(5, 64, 5), thresholds=thresholds(fourth)),
    )
    table = (np.arange(256) % 15 - 7).astype(np.int16)
    return Network(name="deep", input=InputEncoding(9, 8, 3, table), stages=stages, output=output("output", 5, 4))


NETWORKS = {"tiny": tiny, "plain": plain, "deep": deep}


def path(name):
    return FOLDER / f"{name}.safetensors"


if __name__ == "__main__":
    for name, build in NETWORKS.items():
        artifact.save(build(), path(name))

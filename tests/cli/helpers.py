"""Small networks, and the command line run within this process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result

from o3bnn.cli.entry import app
from o3bnn.model import ConvGeometry, ConvStage, DenseStage, InputEncoding, Network, OutputStage, Pooling, packing

DIGITS = tuple("0123456789")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="o3bnn")


def run_ok(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def run_json(*arguments: object) -> dict[str, Any]:
    """The one JSON document on stdout."""
    document = json.loads(run_ok(*arguments, "--json").stdout)
    assert isinstance(document, dict)
    return document


def error_line(result: Result, code: int = 2) -> str:
    """The one line on stderr of a command that failed, without `error: `."""
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.endswith("\n") and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr[7:-1]


def tiny_network(image: tuple[int, int, int] = (28, 28, 1), class_names: tuple[str, ...] = DIGITS) -> Network:
    """Conv 3x3 (padded, 2x2 pooling, four AND windows of eight), conv 3x3 (3x3/2 pooling), dense 32, 10 classes.

    conv2 has one constant channel. Random weights of a fixed seed.
    """
    rng = np.random.default_rng(11)

    def words(rows: int, columns: int) -> np.ndarray:
        return packing.pack(rng.integers(0, 2, (rows, columns), dtype=np.uint8))

    g1 = ConvGeometry(*image, 8, (3, 3), (1, 1), (1, 1, 1, 1))
    conv1 = ConvStage(
        name="conv1",
        geometry=g1,
        weights=words(8, g1.full_fan_in),
        thresholds=rng.integers(-200, 200, (9, 8), dtype=np.int32),
        integer_input=True,
        decisive_bit=np.array([0, 1] * 4, np.uint8),
        pooling=Pooling((2, 2), (2, 2)),
    )
    g2 = ConvGeometry(*conv1.out_shape, 16, (3, 3))
    thresholds = rng.integers(32, 41, (1, 16), dtype=np.int32)
    thresholds[0, 3] = 0
    conv2 = ConvStage(
        name="conv2",
        geometry=g2,
        weights=words(16, 72),
        thresholds=thresholds,
        decisive_bit=np.ones(16, np.uint8),
        pooling=Pooling((3, 3), (2, 2)),
    )
    features = int(np.prod(conv2.out_shape))
    dense = DenseStage(
        name="dense",
        geometry=ConvGeometry(1, 1, features, 32),
        weights=words(32, features),
        thresholds=rng.integers(features // 2 - 9, features // 2 + 9, (1, 32), dtype=np.int32),
    )
    output = OutputStage(
        name="output",
        in_features=32,
        weights=words(10, 32),
        scale=np.full(10, 0.25, np.float32),
        offset=np.linspace(0, 0.1, 10, dtype=np.float32),
    )
    return Network(
        name="tiny",
        input=InputEncoding(*image),
        stages=(conv1, conv2, dense),
        output=output,
        class_names=class_names,
        metadata={"source": "a test"},
    )


def digits(folder: Path) -> np.ndarray:
    """The test images of `layouts.write_mnist`, as a network reads them: uint8 [n, 28, 28, 1]."""
    from o3bnn.data import open_dataset

    return open_dataset(f"mnist:{folder}").load().images

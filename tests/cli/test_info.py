"""`o3bnn info` describes a model, as text and as JSON."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from o3bnn.cli.info import describe, edge_total, stage_edges, stage_tables
from o3bnn.model import ConvGeometry, ConvStage, InputEncoding, Network, OutputStage, Pooling, edges
from o3bnn.model.artifact import save
from tests import strategies
from tests.cli.helpers import DIGITS, run_json, run_ok, tiny_network


def test_json(model: Path) -> None:
    document = run_json("info", model)
    stages = document.pop("stages")
    assert document == {
        "name": "tiny",
        "file": str(model),
        "file_bytes": model.stat().st_size,
        "input": {
            "height": 28,
            "width": 28,
            "channels": 1,
            "cover": [28, 28],
            "values": "integers",
            "least": -255,
            "greatest": 255,
        },
        "output": {"name": "output", "in_features": 32, "classes": 10, "edges": 320, "weight_bits": 320},
        "class_names": list(DIGITS),
        "totals": {
            "edges": 82 * 82 * 8 + 144 * 72 * 16 + 400 * 32 + 320 - 23 * 72 * 16,
            "binary_edges": 121 * 72 * 16 + 400 * 32,
            "weight_bits": 72 + 72 * 16 + 400 * 32 + 320,
        },
        "metadata": {"source": "a test"},
    }
    assert [stage["name"] for stage in stages] == ["conv1", "conv2", "dense"]
    thresholds = tiny_network().stages[0].thresholds
    assert stages[0] == {
        "name": "conv1",
        "kind": "conv",
        "role": "input",
        "in_shape": [28, 28, 1],
        "conv_shape": [28, 28, 8],
        "out_shape": [14, 14, 8],
        "kernel": [3, 3],
        "stride": [1, 1],
        "padding": [1, 1, 1, 1],
        "padding_mode": "zero",
        "groups": 1,
        "pooling": {"size": [2, 2], "stride": [2, 2]},
        "fan_in": 9,
        "border_classes": 9,
        "edges": 82 * 82 * 8,
        "weight_bits": 72,
        "thresholds": [int(thresholds.min()), int(thresholds.max())],
        "constant_channels": 0,
        "and_windows": 4,
    }
    assert stages[1]["pooling"] == {"size": [3, 3], "stride": [2, 2]}
    assert (stages[1]["role"], stages[1]["constant_channels"], stages[1]["and_windows"]) == ("binary", 1, 0)
    assert (stages[2]["kind"], stages[2]["pooling"], stages[2]["fan_in"]) == ("dense", None, 400)


@pytest.mark.parametrize("seed", range(30))
def test_edges_are_those_that_the_counting_oracle_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides = [int(side) for side in rng.integers(5, 12, 2)]
    geometry = ConvGeometry(
        *(sides[0], sides[1], 3, 4),
        kernel=(int(rng.integers(1, 4)), int(rng.integers(1, 4))),
        stride=(int(rng.integers(1, 3)), 1),
        padding=tuple(int(pad) for pad in rng.integers(0, 2, 4)),  # type: ignore[arg-type]
    )
    stage = ConvStage(
        name="conv",
        geometry=geometry,
        weights=strategies.random_bits(rng, 4, geometry.full_fan_in),
        thresholds=np.repeat(geometry.class_fan_in[:, None], 4, axis=1).astype(np.int32) // 2,
        decisive_bit=np.ones(4, np.uint8),
        pooling=[None, Pooling((2, 2), (2, 2)), Pooling((2, 1), (1, 3)), Pooling((1, 2), (2, 3))][seed % 4],
    )
    features = int(np.prod(stage.out_shape))
    output = OutputStage(
        name="output",
        in_features=features,
        weights=strategies.random_bits(rng, 2, features),
        scale=np.ones(2, np.float32),
        offset=np.zeros(2, np.float32),
    )
    table = np.where(np.arange(256) > 127, 1, -1).astype(np.int16)
    network = Network(name="n", input=InputEncoding(sides[0], sides[1], 3, table), stages=(stage,), output=output)
    images = rng.integers(0, 256, (1, *network.input.shape), dtype=np.uint8)
    counted = edges.count(network, images)
    assert stage_edges(stage) == counted.stages[0].edges.dense
    assert edge_total(network) == counted.total().dense
    assert describe(network)["input"]["values"] == "bits"  # type: ignore[index]


def test_text(model: Path) -> None:
    lines = run_ok("info", model).stdout.splitlines()
    assert lines[0].startswith(f"model     tiny ({model}, ")
    assert lines[1] == "input     28x28x1, integers -255 to 255"
    assert lines[2] == "classes   10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert lines[3] == "source    a test"
    rows = [line.split() for line in lines[5:]]
    assert [row[0] for row in rows] == ["stage", "conv1", "conv2", "dense", "output", "total"]
    assert rows[1][:8] == ["conv1", "(input)", "conv", "28x28x1", "14x14x8", "3x3", "pad", "1"]
    assert rows[1][-6:] == ["0", "of", "8", "4", "of", "8"]
    assert "3x3 stride 2x2" in lines[7]
    assert rows[5][1:] == ["206", "k", "14,344"]


def test_a_narrow_terminal_shows_shapes_and_figures_apart() -> None:
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        for table in stage_tables(tiny_network(), console):
            console.print(table)
    output = capture.get()
    assert "…" not in output
    rows = [line.split() for line in output.splitlines()]
    assert [row[:3] for row in rows if row[:1] == ["conv2"]] == [["conv2", "conv", "14x14x8"], ["conv2", "139", "k"]]
    assert [row[1:] for row in rows if row[:1] == ["total"]] == [["206", "k", "14,344"]]
    assert len(stage_tables(tiny_network(), Console(width=160, force_terminal=True))) == 1


def test_names_are_not_taken_for_markup_or_control_sequences(tmp_path: Path) -> None:
    network = tiny_network(class_names=("[red]x[/red]", ":smile:", *DIGITS[2:]))
    save(network, tmp_path / "a\x1b[31m.safetensors")
    output = run_ok("info", tmp_path / "a\x1b[31m.safetensors").stdout
    assert "[red]x[/red], :smile:, 2" in output
    assert "a\\x1b[31m.safetensors" in output
    assert "\x1b" not in output

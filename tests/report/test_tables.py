"""How figures are written, and the table of edges."""

import io
import math

import pytest
from rich.console import Console

from o3bnn.model.edges import EdgeCounts, PruningProfile, StageEdges
from o3bnn.report import tables, words

PROFILE = PruningProfile(
    64,
    "sharp",
    1,
    (
        StageEdges("first", "conv", "input", EdgeCounts(1000, 1000)),
        StageEdges(
            "second", "conv", "binary", EdgeCounts(20_000_000, 5_000_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000)
        ),
        StageEdges("output", "dense", "output", EdgeCounts(1_000_000, 1_000_000)),
    ),
)


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (tables.percent, 0.17444, "17.4%"),
        (tables.count, 1234567, "1,234,567"),
        (tables.magnitude, 0, "0"),
        (tables.magnitude, 999, "999"),
        (tables.magnitude, 1000, "1.00 k"),
        (tables.magnitude, 21_233_664, "21.2 M"),
        (tables.magnitude, 999_999, "1.00 M"),
        (tables.magnitude, 123_456_789_012, "123 G"),
        (tables.magnitude, 7 * 10**15, "7000 T"),
        (tables.microseconds, 8.314e-6, "8.31 µs"),
        (tables.microseconds, 12.44e-6, "12.4 µs"),
        (tables.microseconds, 1314.4e-6, "1,314 µs"),
        (tables.kilobytes, 92_712, "92.7 kB"),
        (tables.ratio, 1.249, "1.25x"),
    ],
)
def test_figures_as_text(function, value, text):
    assert function(value) == text


def test_ceiling():
    assert tables.speedup_ceiling(EdgeCounts(100, 25)) == 4
    assert tables.speedup_ceiling(EdgeCounts()) == 1
    assert math.isinf(tables.speedup_ceiling(EdgeCounts(100, 0)))


def lines(terminal=False):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    console.print(tables.pruning_table(PROFILE, tables.plain_or_rich(console)))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_in_a_file():
    assert lines() == [
        "Edges at B = 64, sharp bounds, 1 image",
        "                dense                       threshold  threshold",
        "stage           edges  evaluated  constant       high        low  pooling",
        "first (input)  1.00 k     100.0%         -          -          -        -",
        "second         20.0 M      25.0%      5.0%      10.0%      20.0%    40.0%",
        "output         1.00 M     100.0%         -          -          -        -",
        "binary stages  20.0 M      25.0%      5.0%      10.0%      20.0%    40.0%",
        "all stages     21.0 M      28.6%      4.8%       9.5%      19.0%    38.1%",
        "75.0% of the binary stages' edges pruned. Ceiling on the speedup:",
        "4.00x in the binary stages, 3.50x in all stages.",
    ]


def test_the_table_on_a_terminal():
    text = "\n".join(lines(terminal=True))
    assert "\x1b[1m" in text
    assert "───" in text


def model(on, auto, plan):
    speeds = {
        name: {"median": middle, "deciles": [low, high]} for name, (low, middle, high) in (("on", on), ("auto", auto))
    }
    return {"timing": {"plan": plan, "speedup_over_off": speeds}}


def test_a_slower_mode_is_called_slower():
    slower, same = words.speed_words(model((0.5, 0.6, 0.9), (0.9, 1.01, 1.1), ["dense", "dense"]))
    assert str(slower) == (
        "Pruning in every stage is 0.60x as fast as no pruning: slower here (four of five rounds: 0.50x to 0.90x)."
    )
    assert str(same) == (
        "The plan, pruning in 0 of 2 stages, is 1.01x as fast as no pruning, no clear difference "
        "(four of five rounds: 0.90x to 1.10x)."
    )


def test_structure():
    stages = [{"out_shape": [12, 12, 32]}, {"out_shape": [1, 1, 128]}, {"out_shape": [1, 1, 10]}]
    assert words.structure({"in_shape": [28, 28, 1], "stages": stages}) == "28 x 28 → 12 x 12 x 32 → 128 → 10"


def test_a_faster_mode():
    _, faster = words.speed_words(model((1, 1, 1), (1.2, 1.3, 1.4), ["pooling", "dense", "threshold after 9"]))
    assert str(faster) == (
        "The plan, pruning in 2 of 3 stages, is 1.30x as fast as no pruning (four of five rounds: 1.20x to 1.40x)."
    )


def test_what_model_files_say_side_by_side():
    models = [{"metadata": {"data": "CIFAR-10", "seed": "1"}}, {"metadata": {"seed": "2", "teacher": "a"}}]
    assert words.training_rows(models) == [("data", ["CIFAR-10", ""]), ("seed", ["1", "2"]), ("teacher", ["", "a"])]

"""`o3bnn prune` prints the counts of the oracle."""

from functools import cache
from pathlib import Path

import pytest

from o3bnn.cli import prune
from o3bnn.model import edges
from o3bnn.model.edges import Bounds, PruningProfile
from tests.cli.helpers import digits, error_line, run, run_json, run_ok, tiny_network


@cache
def counted(folder: Path, images: int, word: int, bounds: Bounds = "simple") -> PruningProfile:
    """The oracle's counts of the first test images."""
    return edges.count(tiny_network(), digits(folder)[:images], word=word, bounds=bounds)


@pytest.mark.parametrize("bounds", ["simple", "sharp"])
@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_json_has_the_counts_of_the_oracle(
    model: Path, mnist: Path, bounds: Bounds, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "CHUNK_IMAGES", chunk)
    arguments = ("--word", 1, "--word", 16, "--word", 64, "--bounds", bounds, "--limit", 5)
    document = run_json("prune", model, "--data", f"mnist:{mnist}", *arguments)
    assert document == {
        "model": str(model),
        "data": f"mnist:{mnist}",
        "split": "test",
        "images": 5,
        "bounds": bounds,
        "words": [counted(mnist, 5, word, bounds).to_dict() for word in (1, 16, 64)],
    }


def test_json_schema(model: Path, mnist: Path) -> None:
    document = run_json("prune", model, "--data", f"mnist:{mnist}", "--limit", 2)
    assert document["bounds"] == "simple"
    assert [word["word"] for word in document["words"]] == [1, 64]
    causes = {"constant", "threshold_high", "threshold_low", "pooling"}
    for word in document["words"]:
        assert set(word) == {"word", "edges", "all_stages", "stages"}
        assert [stage["role"] for stage in word["stages"]] == ["input", "binary", "binary", "output"]
        assert [stage["kind"] for stage in word["stages"]] == ["conv", "conv", "dense", "dense"]
        for counts in (word["edges"], word["all_stages"], *(stage["edges"] for stage in word["stages"])):
            assert set(counts) == {"dense", "evaluated", "pruned_by"}
            assert set(counts["pruned_by"]) == causes
            assert counts["dense"] == counts["evaluated"] + sum(counts["pruned_by"].values())
        assert word["edges"]["dense"] == sum(stage["edges"]["dense"] for stage in word["stages"][1:3])
        assert word["all_stages"]["dense"] == sum(stage["edges"]["dense"] for stage in word["stages"])
        assert word["stages"][1]["edges"]["pruned_by"]["constant"] > 0


def test_text(model: Path, mnist: Path) -> None:
    arguments = ("--data", f"mnist:{mnist}", "--word", 64, "--word", 1, "--word", 64, "--limit", 5)
    result = run_ok("prune", model, *arguments)
    output = result.stdout
    assert output.count("Edges at B = ") == 2
    assert output.index("Edges at B = 64, simple bounds, 5 images") < output.index("Edges at B = 1, simple bounds")
    binary = counted(mnist, 5, 64).total("binary")
    text = " ".join(output.split())
    assert f"{100 * binary.pruned_share:.1f}% of the binary stages' edges pruned" in text
    assert f"{1 / (1 - binary.pruned_share):.2f}x in the binary stages" in text
    assert result.stderr.splitlines()[-1] == "prune: 5/5 images"
    assert "note:" not in result.stderr


@pytest.mark.parametrize(("bounds", "word", "noted"), [("sharp", 7, True), ("sharp", 8, False), ("simple", 1, False)])
def test_narrow_words_with_sharp_bounds_are_remarked_upon(
    model: Path, mnist: Path, bounds: str, word: int, noted: bool
) -> None:
    arguments = ("--data", f"mnist:{mnist}", "--limit", 1, "--bounds", bounds, "--word", word)
    assert ("note: sharp bounds need the popcount" in run_ok("prune", model, *arguments).stderr) is noted
    assert ("note: sharp bounds need the popcount" in run_ok("prune", model, *arguments, "--json").stderr) is noted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--word", 0), "Invalid value for '--word'"),
        (("--word", 1 << 21), "Invalid value for '--word'"),
        (("--bounds", "sloppy"), "Invalid value for '--bounds'"),
        (("--limit", -3), "Invalid value for '--limit'"),
    ],
)
def test_bad_arguments(model: Path, mnist: Path, arguments: tuple[object, ...], message: str) -> None:
    assert message in error_line(run("prune", model, "--data", f"mnist:{mnist}", *arguments))

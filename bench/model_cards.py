"""Write the model cards: what each shipped model is, how it was made, how good it is, and what its edges cost.

    python bench/model_cards.py

One card for every model of results/models.csv (`python bench/train_models.py ... --measure`) that is shipped, at
docs/model_cards/<model>.md. Nothing is measured here: origin and recipe are what the model file says of itself, and
figures are the table's. Stops where the table's stages are not those of the file.
"""

import argparse
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import o3bnn
from o3bnn.model import Network
from o3bnn.report.document import binary_weights, stage_rows
from o3bnn.report.tables import count, kilobytes, magnitude, percent, ratio
from o3bnn.report.words import CAUSE_TEXTS, structure

ROOT = Path(__file__).parent.parent
WIDTHS = {
    "pruned_b64_simple": "B = 64",
    "pruned_b64_sharp": "B = 64, sharp bounds",
    "pruned_b16_sharp": "B = 16, sharp bounds",
}

Row = dict[str, str]


def card(name: str, path: Path, rows: Sequence[Row]) -> str:
    """The card of a model file as Markdown. rows: its part of results/models.csv, the total last."""
    network, octets = o3bnn.load(path), path.read_bytes()
    stages = [row["stage"] for row in rows[:-1]]
    if [*stages, "all"] != [*(stage["name"] for stage in stage_rows(network)), rows[-1]["stage"]]:
        raise SystemExit(f"{name}: the table holds the stages {', '.join(stages)}, not those of {path}: measure again")
    sections = (
        f"# {name}",
        "Written by `python bench/model_cards.py` from the model file and `results/models.csv`; changes belong there.",
        _table(("", ""), [(key, value) for key, value in _facts(network, octets, path.name).items()]),
        "## How it was made",
        f"By the recipe `{name}` of `bench/train_models.py` ([training.md](../training.md) says how the shipped runs "
        "were made). What the file says of its origin:",
        _table(("key", "value"), sorted(network.metadata.items())),
        "## Accuracy",
        _table(("path", "images", "accuracy"), [_accuracy(rows[0])]),
        "## Edges that need no evaluation",
        f"Shares of each stage's edges that are pruned, over the first {count(_counted(rows[0]))} test images; the "
        "causes are those at B = 1 with simple bounds ([pruning.md](../pruning.md) defines them all).",
        _edges(rows),
        f"Of the binary stages' edges, {percent(float(rows[-1]['pruned_b1_simple']))} are pruned at B = 1 and "
        f"{percent(float(rows[-1]['pruned_b64_simple']))} at B = 64. The ceiling on the speedup from pruning alone is "
        f"{_ceiling(rows[-1]['pruned_b1_simple'])} and {_ceiling(rows[-1]['pruned_b64_simple'])} there.",
        f"Measured by `{rows[0]['command']}` with o3bnn {rows[0]['o3bnn']}, commit {rows[0]['commit']}, on "
        f"{rows[0]['host']}.",
        "## What it is for",
        "To show and to measure what pruning edges does on a trained binarized network. It tells the classes above "
        "apart on pictures like those that it was trained on, as often as the accuracy says; of any other picture, "
        "too, it says that it shows one of them. No decision should rest on it.",
    )
    return "\n\n".join(sections) + "\n"


def _counted(row: Row) -> int:
    """Test images whose edges are counted; the table had no such column when all of them were."""
    return int(row.get("pruned_images") or row["images"])


def _facts(network: Network, octets: bytes, file: str) -> dict[str, str]:
    shapes = {"in_shape": network.input.shape, "stages": stage_rows(network)}
    return {
        "file": f"`{file}`, {kilobytes(len(octets))}",
        "SHA-256": f"`{hashlib.sha256(octets).hexdigest()}`",
        "network": structure(shapes),
        "one-bit weights": count(binary_weights(network)),
        "classes": ", ".join(network.class_names),
    }


def _accuracy(row: Row) -> tuple[str, str, str]:
    return row["accuracy_path"], count(int(row["images"])), f"{100 * float(row['accuracy']):.2f}%"


def _edges(rows: Sequence[Row]) -> str:
    """The table of pruned shares, a row a stage and the total of the binary stages."""
    headings = ("stage", "role", "edges an image", "B = 1", *CAUSE_TEXTS.values(), *WIDTHS.values())
    keys = ("pruned_b1_simple", *(f"{cause}_b1" for cause in CAUSE_TEXTS), *WIDTHS)
    lines = []
    for row in rows:
        name = "**binary stages**" if row is rows[-1] else row["stage"]
        role = "" if row is rows[-1] else row["role"]
        lines.append((name, role, magnitude(int(row["dense_edges"])), *(percent(float(row[key])) for key in keys)))
    return _table(headings, lines)


def _ceiling(pruned: str) -> str:
    evaluated = 1 - float(pruned)
    return ratio(1 / evaluated) if evaluated else "unbounded"


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell, which would end it, is escaped."""
    cells = [headings, ["---"] * len(headings), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "models.csv", help="table of the models")
    parser.add_argument("--models", type=Path, default=ROOT / "src" / "o3bnn" / "shipped", help="folder of model files")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "model_cards", help="folder of the cards")
    arguments = parser.parse_args()
    with arguments.results.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(row["model"] for row in rows):
        path = arguments.models / f"{name}.safetensors"
        if not path.is_file():
            print(f"{name} is not shipped: no card")
            continue
        text = card(name, path, [row for row in rows if row["model"] == name])
        (arguments.out / f"{name}.md").write_text(text)
        print(arguments.out / f"{name}.md")


if __name__ == "__main__":
    main()

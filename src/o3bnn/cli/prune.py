"""`o3bnn prune`: how many edges a data set lets a model skip, and why."""

from collections.abc import Sequence
from typing import Annotated

import typer

from o3bnn.cli.console import note, print_json, progress, results
from o3bnn.cli.info import edge_total
from o3bnn.cli.options import (
    BoundsName,
    DataName,
    JsonOption,
    LimitOption,
    ModelFile,
    SplitName,
    SplitOption,
    ThreadsOption,
)
from o3bnn.data import Dataset, open_dataset
from o3bnn.engine import Engine
from o3bnn.model.artifact import load
from o3bnn.model.edges import MAX_WORD, Bounds, PruningProfile
from o3bnn.report.tables import plain_or_rich, pruning_table

CHUNK_IMAGES = 64
CHUNK_EDGES = 4_000_000_000  # some seconds of counting, so that progress moves
WORDS = (1, 64)
NARROW_WORD = 8

Words = Annotated[
    list[int] | None,
    typer.Option("--word", min=1, max=MAX_WORD, metavar="B", help="Edge word width; repeatable. Default: 1 and 64."),
]


def prune_command(
    model: ModelFile,
    data: DataName,
    word: Words = None,
    bounds: Annotated[
        BoundsName, typer.Option("--bounds", help="Bounds on what remains of a neuron.")
    ] = BoundsName.SIMPLE,
    split: SplitOption = SplitName.TEST,
    limit: LimitOption = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Count the edges that a data set lets a model skip."""
    network = load(model)
    dataset = open_dataset(data, split.value, limit, network.input)
    engine = Engine(network, threads=threads)
    words = tuple(dict.fromkeys(word or WORDS))
    chunk = max(1, min(CHUNK_IMAGES, CHUNK_EDGES // edge_total(network)))
    if bounds is BoundsName.SHARP and min(words) < NARROW_WORD:
        note(
            f"sharp bounds need the popcount of every edge word beforehand: at words narrower than {NARROW_WORD} edges "
            "that costs as much as the edges themselves"
        )
    profiles = count_edges(engine, dataset, words, bounds.value, chunk)
    if json:
        head = {"model": str(model), "data": data, "split": split.value, "images": len(dataset), "bounds": bounds.value}
        print_json(head | {"words": [profile.to_dict() for profile in profiles]})
        return
    console = results()
    for index, profile in enumerate(profiles):
        if index:
            console.print()
        console.print(pruning_table(profile, plain_or_rich(console)))


def count_edges(
    engine: Engine, dataset: Dataset, words: Sequence[int], bounds: Bounds, chunk: int
) -> list[PruningProfile]:
    """Profiles of a whole data set, one a word width, counted `chunk` images at a time."""
    totals: list[PruningProfile] = []
    with progress("prune", len(dataset)) as advance:
        for images, _ in dataset.batches(chunk):
            parts = [engine.profile(images, word=word, bounds=bounds) for word in words]
            totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else parts
            advance(len(images))
    return totals

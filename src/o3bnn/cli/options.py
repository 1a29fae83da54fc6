"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class PruningMode(StrEnum):
    """Whether the engine prunes: where a plan says so (auto), in every stage (on), or nowhere (off)."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class SplitName(StrEnum):
    """Which part of a data set."""

    TEST = "test"
    TRAIN = "train"


class BoundsName(StrEnum):
    """How closely pruning bounds what remains of a neuron; see `o3bnn.model.edges`."""

    SIMPLE = "simple"
    SHARP = "sharp"


ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file, as written by o3bnn compile.")]
DataName = Annotated[
    str, typer.Option("--data", metavar="NAME:DIR", help="Data set: cifar10:DIR, mnist:DIR or folder:DIR.")
]
SplitOption = Annotated[SplitName, typer.Option("--split", help="Part of the data set.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="Use the first N images only.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, metavar="N", help="Threads to run on; default: every core.")
]
PruningOption = Annotated[
    PruningMode, typer.Option("--pruning", help="Prune edges where a plan says so, everywhere, or nowhere.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

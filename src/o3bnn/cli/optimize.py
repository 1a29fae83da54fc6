"""`o3bnn optimize`: sort a model's channels so that those that lie side by side are decided together."""

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from o3bnn.cli.console import print_json, printable, results
from o3bnn.cli.options import DataName, JsonOption, ModelFile, SplitName, SplitOption
from o3bnn.compiler.order import order_channels
from o3bnn.data import open_dataset
from o3bnn.engine import Engine
from o3bnn.engine.checks import LANES, tile_share
from o3bnn.errors import InputError
from o3bnn.model import Network
from o3bnn.model.artifact import load, save
from o3bnn.model.files import check_writable
from o3bnn.report.equality import check_same_logits
from o3bnn.report.tables import percent

WORD = 64


def optimize_command(
    model: ModelFile,
    data: DataName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Model file to write.")],
    split: SplitOption = SplitName.TRAIN,
    limit: Annotated[int, typer.Option("--limit", min=1, max=4096, metavar="N", help="Calibration images.")] = 32,
    json: JsonOption = False,
) -> None:
    """Sort channels by when they are decided; logits stay the same."""
    network = load(model)
    if output.exists() and output.samefile(model):
        raise InputError(f"{output} is the model itself: give the sorted one another name")
    check_writable(output)
    images = open_dataset(data, split.value, limit, network.input).load().images
    ordered = order_channels(network, images, lambda same, pictures: Engine(same).activations(pictures))
    check_same_logits(ordered, Engine(network), Engine(ordered), images)
    before, after = (_shares(candidate, images) for candidate in (network, ordered))
    save(ordered, output)
    if json:
        document = {"model": str(model), "output": str(output), "data": data, "split": split.value}
        print_json(document | {"images": len(images), "before": before, "after": after})
        return
    console = results()
    for name, share in before.items():
        console.print(f"{TEXTS[name]}  {percent(share)} -> {percent(after[name])}")
    console.print(printable(f"wrote {output}: the same logits; `o3bnn plan` finds what it gains"), soft_wrap=True)


TEXTS = {
    "pruned_share": f"edges of the binary stages pruned at B = {WORD}     ",
    "tile_share": f"words that tiles of {LANES[0]} channels read until decided",
}


def _shares(network: Network, images: npt.NDArray[np.uint8]) -> dict[str, float]:
    """What sorting is to change: the pruned share at B = 64, and how much tiles of neighbours read."""
    engine = Engine(network)
    return {
        "pruned_share": engine.profile(images, word=WORD).total("binary").pruned_share,
        "tile_share": tile_share(network, images, engine.activations(images), LANES[0]),
    }

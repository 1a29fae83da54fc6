"""`o3bnn verify`: a source model and its compiled network, side by side."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
import typer

from o3bnn.cli.console import print_json, printable, progress, results
from o3bnn.cli.imports import DivisorOption, ImportOptions, MeanOption, StdOption
from o3bnn.cli.options import JsonOption, LimitOption, SplitName, SplitOption, ThreadsOption
from o3bnn.data import open_dataset
from o3bnn.engine import Engine
from o3bnn.errors import ArtifactError
from o3bnn.model import Network
from o3bnn.model.artifact import load

if TYPE_CHECKING:
    from o3bnn.compiler.onnx.verify import Report

DIFFERENT = 3
BATCH = 100


def verify_command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="The ONNX file that was compiled.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file that o3bnn compile made of it.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME:DIR", help="Images to compare on; default: random pixels.")
    ] = None,
    split: SplitOption = SplitName.TEST,
    limit: LimitOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random pixels.")] = 0,
    threads: ThreadsOption = None,
    divisor: DivisorOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    json: JsonOption = False,
) -> None:
    """Compare a source model with its compiled network, exactly."""
    network = load(model)
    if not source.is_file():
        raise ArtifactError(f"{source} is not a file: SRC is the ONNX file that was compiled")
    from o3bnn.compiler.onnx import require_onnx

    require_onnx()
    from o3bnn.compiler.onnx.verify import verify

    preprocessing = ImportOptions(None, divisor, mean, std).preprocessing()
    total, batches = _images(network, data, split.value, limit, seed)
    with progress("verify", total) as advance:
        report = verify(
            source, network, Engine(network, threads=threads), _told(batches, advance), preprocessing=preprocessing
        )
    if json:
        print_json({"source": str(source), "model": str(model), "data": data, "equal": report.equal, **asdict(report)})
    else:
        _print(report, source)
    if not report.equal:
        raise typer.Exit(DIFFERENT)


def _images(
    network: Network, data: str | None, split: str, limit: int | None, seed: int
) -> tuple[int, Iterator[npt.NDArray[np.uint8]]]:
    """How many images there are, and these in batches."""
    if data is not None:
        dataset = open_dataset(data, "train" if split == "train" else "test", limit, network.input)
        return len(dataset), (batch.images for batch in dataset.batches(BATCH))
    generator, total = np.random.default_rng(seed), limit or BATCH
    sizes = (min(BATCH, total - start) for start in range(0, total, BATCH))
    return total, (generator.integers(0, 256, (size, *network.input.shape), dtype=np.uint8) for size in sizes)


def _told(batches: Iterator[npt.NDArray[np.uint8]], advance: object) -> Iterator[npt.NDArray[np.uint8]]:
    assert callable(advance)
    for images in batches:
        yield images
        advance(len(images))


def _print(report: "Report", source: Path) -> None:
    console = results()

    def line(text: str) -> None:
        console.print(printable(text), soft_wrap=True)

    line(f"{source}: {report.images} images compared, {'no difference' if report.equal else 'DIFFERENT'}")
    line(f"classes   {report.classes} differ" + (f", {report.ties} ties told apart by rounding" if report.ties else ""))
    kind = "bit by bit" if report.exact_logits else "up to rounding (the source rounds in another order)"
    line(f"logits    differ in {report.logits} images, compared {kind}; largest difference {report.largest:.3g}")
    for stage in report.stages:
        where = ""
        if stage.first is not None:
            image, row, column, channel = stage.first
            where = f", first: image {image}, row {row}, column {column}, channel {channel}"
        found = f"{stage.bits} bits differ in {stage.images} images"
        line(f"stage     {stage.name} (tensor {stage.tensor!r}): {found}{where}")

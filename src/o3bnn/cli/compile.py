"""`o3bnn compile`: a trained checkpoint to a model file."""

from pathlib import Path
from typing import Annotated

import typer

from o3bnn.cli.console import printable, results
from o3bnn.cli.info import edge_total
from o3bnn.errors import ArtifactError, InputError, MissingExtraError
from o3bnn.model import Network
from o3bnn.model.artifact import save
from o3bnn.report.tables import kilobytes, magnitude


def compile_command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Checkpoint, as written by o3bnn.train.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Model file to write (.safetensors).")],
) -> None:
    """Compile a trained checkpoint to an exact integer network."""
    network = _compile(source, output)
    save(network, output)
    size = output.stat().st_size
    height, width, channels = network.input.shape
    results().print(
        printable(
            f"wrote {output}: {network.name}, {height} x {width} x {channels} -> {network.output.classes} classes, "
            f"{len(network.stages) + 1} stages, {magnitude(edge_total(network))} edges an image, {kilobytes(size)}"
        ),
        soft_wrap=True,
    )


def _compile(source: Path, output: Path) -> Network:
    if source.suffix.lower() == ".onnx":
        raise InputError(f"{source}: ONNX files cannot be compiled yet; SRC is a checkpoint of o3bnn.train")
    if not source.is_file():
        raise ArtifactError(f"{source} is not a file: SRC is a checkpoint of o3bnn.train")
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the checkpoint itself: give the model file another name")
    try:
        from o3bnn.compiler import compile_checkpoint

        return compile_checkpoint(source)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise MissingExtraError("compiling needs PyTorch: pip install 'o3bnn[train]'") from error

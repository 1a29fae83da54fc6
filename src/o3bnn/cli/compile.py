"""`o3bnn compile`: a trained checkpoint, or a file of another tool, to a model file."""

from pathlib import Path
from typing import Annotated

import typer

from o3bnn.cli.console import print_json, printable, results
from o3bnn.cli.imports import (
    IMPORTED,
    DivisorOption,
    ImageOption,
    ImportOptions,
    MeanOption,
    StdOption,
    import_file,
)
from o3bnn.cli.info import edge_total
from o3bnn.cli.options import JsonOption
from o3bnn.errors import ArtifactError, InputError, MissingExtraError
from o3bnn.model import Network
from o3bnn.model.artifact import save
from o3bnn.report.tables import kilobytes, magnitude


def compile_command(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Checkpoint of o3bnn.train, or a .onnx or (Larq) .tflite file.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Model file to write (.safetensors).")],
    image: ImageOption = None,
    divisor: DivisorOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    own: Annotated[
        str | None,
        typer.Option(
            "--network", metavar="MODULE:FUNCTION", help="Your own network's code, where the checkpoint is of one."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compile a trained model to an exact integer network."""
    options = ImportOptions(image, divisor, mean, std)
    network = _compile(source, output, options, own)
    save(network, output)
    size = output.stat().st_size
    height, width, channels = network.input.shape
    if json:
        print_json(
            {
                "output": str(output),
                "model": network.name,
                "input": [height, width, channels],
                "classes": network.output.classes,
                "stages": len(network.stages) + 1,
                "edges": edge_total(network),
                "bytes": size,
            }
        )
        return
    results().print(
        printable(
            f"wrote {output}: {network.name}, {height} x {width} x {channels} -> {network.output.classes} classes, "
            f"{len(network.stages) + 1} stages, {magnitude(edge_total(network))} edges an image, {kilobytes(size)}"
        ),
        soft_wrap=True,
    )


def _compile(source: Path, output: Path, options: ImportOptions, own: str | None) -> Network:
    if not source.is_file():
        raise ArtifactError(f"{source} is not a file: SRC is a checkpoint of o3bnn.train, or a .onnx or .tflite file")
    if output.exists() and output.samefile(source):
        raise InputError(f"{output} is the source itself: give the model file another name")
    if source.suffix.lower() in IMPORTED:
        if own is not None:
            raise InputError(f"{source} is no checkpoint: --network is for checkpoints of o3bnn train")
        return import_file(source, options)
    if options != ImportOptions():
        raise InputError(f"{source} is a checkpoint: --image and --input-* are for {' and '.join(IMPORTED)} files")
    try:
        from o3bnn.compiler import compile_checkpoint

        return compile_checkpoint(source, network=own)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise MissingExtraError("compiling needs PyTorch: pip install 'o3bnn[train]'") from error

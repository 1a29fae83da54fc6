"""What `compile` and `verify` share: options about the input of a file of another tool, and reading it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from o3bnn.cli.console import note
from o3bnn.compiler.onnx.preprocessing import Preprocessing
from o3bnn.errors import InputError
from o3bnn.model import Network

IMPORTED = (".onnx", ".tflite")

ImageOption = Annotated[
    str | None,
    typer.Option("--image", metavar="HxWxC", help="Image size, where the file leaves it open, such as 28x28x1."),
]
DivisorOption = Annotated[
    float | None,
    typer.Option("--input-divisor", metavar="D", help="Pixels enter as p / D: 255 (default) for 0..1, 1 for 0..255."),
]
MeanOption = Annotated[
    str | None, typer.Option("--input-mean", metavar="M[,M,M]", help="Then M is subtracted (default 0).")
]
StdOption = Annotated[
    str | None, typer.Option("--input-std", metavar="S[,S,S]", help="Then it is divided by S (default 1).")
]


@dataclass(frozen=True)
class ImportOptions:
    """The options as given on the command line."""

    image: str | None = None
    divisor: float | None = None
    mean: str | None = None
    std: str | None = None

    def image_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channels), or None."""
        if self.image is None:
            return None
        match = re.fullmatch(r"(\d{1,6})x(\d{1,6})x(\d{1,6})", self.image)
        if match is None:
            raise InputError(f"--image {self.image!r} is not HEIGHTxWIDTHxCHANNELS, such as 28x28x1")
        return int(match[1]), int(match[2]), int(match[3])

    def preprocessing(self) -> Preprocessing | None:
        """How pixels enter the graph, or None to leave it to the file."""
        if (self.divisor, self.mean, self.std) == (None, None, None):
            return None
        divisor = 255.0 if self.divisor is None else self.divisor
        return Preprocessing(divisor, _numbers("--input-mean", self.mean, 0.0), _numbers("--input-std", self.std, 1.0))


def _numbers(option: str, text: str | None, default: float) -> tuple[float, ...]:
    try:
        return (default,) if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not a number, or numbers separated by commas") from error


def import_file(source: Path, options: ImportOptions) -> Network:
    """The network of a .onnx or .tflite file; what a user should know about it goes to stderr."""
    from o3bnn.compiler.larq import compile_tflite
    from o3bnn.compiler.onnx import compile_onnx

    compile_file = compile_tflite if source.suffix.lower() == ".tflite" else compile_onnx
    imported = compile_file(source, image=options.image_shape(), preprocessing=options.preprocessing())
    for text in imported.notes:
        note(text)
    return imported.network

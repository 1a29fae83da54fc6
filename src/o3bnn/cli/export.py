"""`o3bnn export`: a model file to an ONNX graph."""

from pathlib import Path
from typing import Annotated

import typer

from o3bnn.cli.console import printable, results
from o3bnn.cli.options import ModelFile
from o3bnn.model.artifact import load
from o3bnn.report.tables import kilobytes


def export_command(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="ONNX file to write (.onnx).")],
    qonnx: Annotated[
        bool, typer.Option("--qonnx", help="Write BipolarQuant nodes for the QONNX tools, not standard operators.")
    ] = False,
) -> None:
    """Write a model as an ONNX graph that computes the same logits."""
    network = load(model)
    from o3bnn.compiler.onnx import require_onnx

    require_onnx()
    from o3bnn.compiler.onnx.export import export_onnx

    export_onnx(network, output, qonnx=qonnx)
    form = "QONNX" if qonnx else "standard operators"
    size = kilobytes(output.stat().st_size)
    results().print(printable(f"wrote {output}: {network.name}, {form}, {size}"), soft_wrap=True)

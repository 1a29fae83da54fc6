"""Larq Compute Engine's .tflite files to the integer network. Needs the extra `onnx`: it shares the graph importer."""

from pathlib import Path
from typing import TYPE_CHECKING

from o3bnn.compiler.onnx import require_onnx

if TYPE_CHECKING:
    from o3bnn.compiler.onnx.preprocessing import Preprocessing
    from o3bnn.compiler.onnx.result import Imported

__all__ = ["compile_tflite"]


def compile_tflite(
    path: str | Path,
    *,
    image: tuple[int, int, int] | None = None,
    preprocessing: "Preprocessing | None" = None,
    name: str | None = None,
) -> "Imported":
    """Compile a .tflite file that Larq Compute Engine has converted, to an exact integer network.

    Options as of `o3bnn.compiler.onnx.compile_onnx`.

    Raises:
        UnsupportedGraphError: the file is damaged, or an operation has no exact integer form; the message names it.
        MissingExtraError: onnx is not installed.
    """
    require_onnx()
    from o3bnn.compiler.larq.tflite import read_tflite
    from o3bnn.compiler.larq.translate import graph_of
    from o3bnn.compiler.onnx.importer import import_graph

    path = Path(path)
    graph = graph_of(read_tflite(path), path.stem)
    return import_graph(graph, image=image, preprocessing=preprocessing, name=name)

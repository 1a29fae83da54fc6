"""ONNX files to and from the integer network, and their comparison. Needs the extra `onnx`.

imported = compile_onnx("model.onnx")
imported.network, imported.notes
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from o3bnn.errors import MissingExtraError

if TYPE_CHECKING:
    from o3bnn.compiler.onnx.preprocessing import Preprocessing
    from o3bnn.compiler.onnx.result import Imported

__all__ = ["compile_onnx", "require_onnx"]


def require_onnx() -> None:
    """Raise `MissingExtraError` unless the package onnx is installed."""
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading and writing ONNX needs the package onnx: pip install 'o3bnn[onnx]'") from error


def compile_onnx(
    path: str | Path,
    *,
    image: tuple[int, int, int] | None = None,
    preprocessing: "Preprocessing | None" = None,
    name: str | None = None,
    class_names: Sequence[str] = (),
    cover: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> "Imported":
    """Compile an ONNX file, plain or QONNX, to an exact integer network.

    The network gives the same bits at every stage as ONNX Runtime or the QONNX executor, wherever the graph's own
    float32 sums are exact; see docs/interchange.md for what is read and what exact means.

    image: (height, width, channels), where the file leaves it open. preprocessing: how 8-bit pixels enter the graph; by
    default p / 255, or p where its input is an integer tensor or annotated as UINT8. cover: see `InputEncoding`.

    Raises:
        UnsupportedGraphError: the file is damaged, or part of its graph has no exact integer form; the message names
        the node, its operator and attributes, and what would be accepted. MissingExtraError: onnx is not installed.
    """
    require_onnx()
    from o3bnn.compiler.onnx.graph import read_graph
    from o3bnn.compiler.onnx.importer import import_graph

    return import_graph(
        read_graph(Path(path)),
        image=image,
        preprocessing=preprocessing,
        name=name,
        class_names=class_names,
        cover=cover,
        metadata=metadata,
    )

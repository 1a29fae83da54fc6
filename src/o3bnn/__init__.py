"""Binarized neural networks that skip the edges that no longer matter.

    import o3bnn
    network = o3bnn.load("model.safetensors")
    classes = o3bnn.Engine(network).predict(images)

Importing the package imports neither torch nor any HDL tool; `o3bnn.compile` needs the `train` extra when it is called.
"""

from typing import TYPE_CHECKING

from o3bnn.engine import Engine
from o3bnn.errors import MissingExtraError, O3bnnError
from o3bnn.model import Network
from o3bnn.model.artifact import load, save

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

__version__ = "0.1.0"
__all__ = ["Engine", "Network", "O3bnnError", "__version__", "compile", "load", "save"]


def compile(  # noqa: A001  (the field's word for this step)
    module: "nn.Module",
    *,
    image: tuple[int, int, int],
    name: str = "network",
    class_names: "Sequence[str]" = (),
    cover: tuple[int, int] | None = None,
    metadata: "Mapping[str, str] | None" = None,
) -> Network:
    """Compile a PyTorch module of binary layers to an exact integer network; see `o3bnn.compiler.compile`.

    image: (height, width, channels) that the module reads.

    Raises:
        UnsupportedModuleError: part of the module has no exact integer form. MissingExtraError: PyTorch is missing.
    """
    try:
        from o3bnn.compiler import compile as compile_module
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise MissingExtraError("o3bnn.compile needs PyTorch: pip install 'o3bnn[train]'") from error
    return compile_module(module, image=image, name=name, class_names=class_names, cover=cover, metadata=metadata)

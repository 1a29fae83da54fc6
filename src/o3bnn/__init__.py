"""Binarized neural networks that skip the edges that no longer matter.

    import o3bnn
    network = o3bnn.load("model.safetensors")
    classes = o3bnn.Engine(network).predict(images)

Importing the package imports neither torch nor any HDL tool; `o3bnn.compile` needs the `train` extra when it is called.
"""

TYPE_CHECKING = False  # not typing's: nothing is imported here, so that Ctrl-C always finds `o3bnn.cli.main` at work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from o3bnn.engine import Engine
    from o3bnn.errors import O3bnnError
    from o3bnn.model import Network
    from o3bnn.model.artifact import load, save

__version__ = "0.1.0"
__all__ = ["Engine", "Network", "O3bnnError", "__version__", "compile", "load", "save"]

_LAZY = {
    "Engine": "o3bnn.engine",
    "Network": "o3bnn.model",
    "O3bnnError": "o3bnn.errors",
    "load": "o3bnn.model.artifact",
    "save": "o3bnn.model.artifact",
}
_PACKAGES = frozenset({"engine", "errors", "model"})

if not TYPE_CHECKING:  # a type checker would take it that every name exists

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used, so that the command line starts at once (PEP 562)."""
        from importlib import import_module

        if name in _PACKAGES:
            return import_module(f"o3bnn.{name}")
        if name not in _LAZY:
            raise AttributeError(f"module 'o3bnn' has no attribute {name!r}", name=name)
        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def compile(  # noqa: A001  (the field's word for this step)
    module: "nn.Module",
    *,
    image: tuple[int, int, int],
    name: str = "network",
    class_names: "Sequence[str]" = (),
    cover: tuple[int, int] | None = None,
    metadata: "Mapping[str, str] | None" = None,
) -> "Network":
    """Compile a PyTorch module of binary layers to an exact integer network; see `o3bnn.compiler.compile`.

    image: (height, width, channels) that the module reads.

    Raises:
        UnsupportedModuleError: part of the module has no exact integer form. InputError: an argument has the wrong type
            or value. MissingExtraError: PyTorch is missing.
    """
    from o3bnn.errors import MissingExtraError

    try:
        from o3bnn.compiler import compile as compile_module
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise MissingExtraError("o3bnn.compile needs PyTorch: pip install 'o3bnn[train]'") from error
    return compile_module(module, image=image, name=name, class_names=class_names, cover=cover, metadata=metadata)

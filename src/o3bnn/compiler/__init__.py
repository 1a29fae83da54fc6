"""From PyTorch modules, and the files of other tools, to the exact integer network.

What needs PyTorch is loaded when it is asked for, so that `o3bnn.compiler.onnx` works without it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from o3bnn.compiler.checkpoint import compile_checkpoint
    from o3bnn.compiler.lower import compile  # noqa: A004  (the field's word for this step)

__all__ = ["compile", "compile_checkpoint"]


def __getattr__(name: str) -> object:
    if name == "compile":
        from o3bnn.compiler.lower import compile  # noqa: A004

        return compile
    if name == "compile_checkpoint":
        from o3bnn.compiler.checkpoint import compile_checkpoint

        return compile_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""From PyTorch modules to the exact integer network."""

from o3bnn.compiler.checkpoint import compile_checkpoint
from o3bnn.compiler.lower import compile  # noqa: A004  (the field's word for this step)

__all__ = ["compile", "compile_checkpoint"]

"""The integer network and everything that defines it; imports nothing else of the project."""

from o3bnn.model.geometry import ConvGeometry, Pooling
from o3bnn.model.network import (
    ConvStage,
    DenseStage,
    InputEncoding,
    Network,
    OutputStage,
    PaddingMode,
    Stage,
    default_table,
)

__all__ = [
    "ConvGeometry",
    "ConvStage",
    "DenseStage",
    "InputEncoding",
    "Network",
    "OutputStage",
    "PaddingMode",
    "Pooling",
    "Stage",
    "default_table",
]

"""What reading a graph yields: the network, and how it relates to the graph."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.graph import Node
from o3bnn.compiler.onnx.preprocessing import Preprocessing
from o3bnn.compiler.onnx.symbolic import Symbol
from o3bnn.model import Network


@dataclass(frozen=True)
class Tail:
    """What follows the logits and does not change the class: a softmax, an argmax."""

    logits: Symbol
    node: Node


@dataclass(frozen=True, eq=False)
class StageOrigin:
    """Where a stage's bits are in the graph: bit = (tensor == high), rearranged by index.

    index: int64, of one sample's elements: their position in the stage's (row, column, channel) map, -1 on padding.
    """

    tensor: str
    high: float
    index: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Imported:
    """A network, and how it relates to the graph that it came from.

    origins: one a stage. logits: name of the tensor of the logits; order: which element of it each class is.
    exact_logits: whether they are the graph's to the last bit. notes: what a user should know. layout: of the input.
    """

    network: Network
    origins: tuple[StageOrigin, ...]
    logits: str
    order: npt.NDArray[np.int64]
    exact_logits: bool
    notes: tuple[str, ...]
    preprocessing: Preprocessing
    layout: str

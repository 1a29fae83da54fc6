"""TensorFlow Lite files: tensors and operations of the one graph in it, as plain data.

Field numbers are those of TensorFlow's schema.fbs (version 3, identifier TFL3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.larq.flatbuffer import Table
from o3bnn.errors import UnsupportedGraphError

MAX_FILE = 1 << 30
TYPES: dict[int, str] = {0: "<f4", 2: "<i4", 3: "u1", 4: "<i8", 9: "i1"}
BUILTIN = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    17: "MAX_POOL_2D",
    18: "MUL",
    19: "RELU",
    20: "RELU_N1_TO_1",
    21: "RELU6",
    22: "RESHAPE",
    25: "SOFTMAX",
    41: "SUB",
    42: "DIV",
    114: "QUANTIZE",
}
ACTIVATIONS = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}
PADDINGS = {0: "SAME", 1: "VALID"}
CUSTOM = 32

# Per options: name -> (field, layout, default).
_OPTIONS: dict[str, dict[str, tuple[int, str, int]]] = {
    "CONV_2D": {
        "padding": (0, "b", 0),
        "stride_width": (1, "i", 0),
        "stride_height": (2, "i", 0),
        "fused_activation_function": (3, "b", 0),
        "dilation_width_factor": (4, "i", 1),
        "dilation_height_factor": (5, "i", 1),
    },
    "MAX_POOL_2D": {
        "padding": (0, "b", 0),
        "stride_width": (1, "i", 0),
        "stride_height": (2, "i", 0),
        "filter_width": (3, "i", 0),
        "filter_height": (4, "i", 0),
        "fused_activation_function": (5, "b", 0),
    },
    "FULLY_CONNECTED": {"fused_activation_function": (0, "b", 0), "weights_format": (1, "b", 0)},
    **{name: {"fused_activation_function": (0, "b", 0)} for name in ("ADD", "MUL", "SUB", "DIV")},
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: shape with None for an open batch; the value of a constant."""

    name: str
    shape: tuple[int | None, ...]
    type: int
    value: npt.NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation: name of a builtin or custom operator, tensor indices (-1: left out), and its options."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Model:
    """The one graph of a file."""

    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    input: int
    output: int


def read_tflite(path: Path) -> Model:
    """Read a .tflite file.

    Raises:
        UnsupportedGraphError: it is missing, damaged, or holds anything but one graph of one input and one output.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise UnsupportedGraphError(f"{path}: the file is larger than {MAX_FILE} octets")
        return parse(path.read_bytes())
    except OSError as error:
        raise UnsupportedGraphError(f"cannot read {path}: {error.strerror or error}: check the path") from error
    except UnsupportedGraphError as error:
        raise UnsupportedGraphError(f"cannot read {path}: {error}") from error


def parse(data: bytes) -> Model:
    """The graph in the octets of a .tflite file; see `read_tflite`."""
    root = Table.root(data, b"TFL3")
    graphs = root.tables(2)
    if len(graphs) != 1:
        raise UnsupportedGraphError(f"it holds {len(graphs)} graphs, not one")
    graph, buffers, codes = graphs[0], root.tables(4), root.tables(1)
    tensors = tuple(_tensor(table, buffers) for table in graph.tables(0))
    operations = tuple(_operation(table, codes, len(tensors)) for table in graph.tables(3))
    ends = [graph.integers(field).tolist() for field in (1, 2)]
    if [len(end) for end in ends] != [1, 1]:
        raise UnsupportedGraphError(f"it has {len(ends[0])} inputs and {len(ends[1])} outputs: it needs one of each")
    if not all(0 <= end[0] < len(tensors) for end in ends):
        raise UnsupportedGraphError("the file is damaged: its input or output is no tensor")
    return Model(tensors, operations, ends[0][0], ends[1][0])


def _tensor(table: Table, buffers: list[Table]) -> Tensor:
    shape, name, kind = table.integers(0).tolist(), table.text(3), table.integer(1, "b")
    signature = table.integers(7).tolist()
    index = table.integer(2, "I")
    if index >= len(buffers):
        raise UnsupportedGraphError(f"tensor {name!r}: the file is damaged: buffer {index} does not exist")
    content = buffers[index].octets(0)
    value = None
    if content:
        dtype = TYPES.get(kind)
        if dtype is None:
            raise UnsupportedGraphError(
                f"tensor {name!r} is of type {kind}: float32, int8, uint8, int32, int64 are read"
            )
        items = int(np.prod([max(0, size) for size in shape], dtype=np.float64))
        if len(content) != items * np.dtype(dtype).itemsize:
            raise UnsupportedGraphError(f"tensor {name!r}: {len(content)} octets do not fit its shape {shape}")
        value = np.frombuffer(content, dtype).reshape(shape)
    opened = [
        None if len(signature) == len(shape) and s == -1 else size
        for size, s in zip(shape, signature or shape, strict=False)
    ]
    return Tensor(name, tuple(opened), kind, value)


def _operation(table: Table, codes: list[Table], tensors: int) -> Operation:
    index = table.integer(0, "I")
    if index >= len(codes):
        raise UnsupportedGraphError(f"the file is damaged: operator code {index} does not exist")
    number = max(codes[index].integer(0, "b"), codes[index].integer(3, "i"))
    name = codes[index].text(1) if number == CUSTOM else BUILTIN.get(number, f"operator {number}")
    inputs, outputs = (tuple(table.integers(field).tolist()) for field in (1, 2))
    if any(not -1 <= tensor < tensors for tensor in inputs + outputs) or not outputs:
        raise UnsupportedGraphError(f"{name}: the file is damaged: an input or output is no tensor")
    if number == CUSTOM:
        return Operation(name, inputs, outputs, _custom_options(name, table.octets(5)))
    options, wanted = table.table(4), _OPTIONS.get(name, {})
    if options is None:
        return Operation(name, inputs, outputs, {key: default for key, (_, _, default) in wanted.items()})
    return Operation(name, inputs, outputs, {key: options.integer(*place) for key, place in wanted.items()})


def _custom_options(name: str, content: bytes) -> dict[str, int]:
    """The options of a custom operator: a FlexBuffers map of integers."""
    if not content:
        return {}
    from flatbuffers import flexbuffers  # type: ignore[import-untyped]

    try:
        found = flexbuffers.Loads(content)
        return {str(key): int(value) for key, value in found.items()}
    except Exception as error:  # the package raises whatever its indexing into damaged data gives
        raise UnsupportedGraphError(f"{name}: its options are damaged") from error

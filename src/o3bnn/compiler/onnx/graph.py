"""Reads an ONNX file into plain nodes and NumPy arrays: the part of the graph that its output depends on.

Nothing in the file is executed. Domains that mean QONNX are one here: Brevitas, QONNX and FINN name the same operators
`onnx.brevitas`, `qonnx.custom_op.general` and `finn.custom_op.general`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import checker, helper, inliner, numpy_helper

from o3bnn.errors import UnsupportedGraphError

Array = npt.NDArray[Any]

QONNX = "qonnx"
DOMAINS = {
    "": "",
    "ai.onnx": "",
    "onnx.brevitas": QONNX,
    "qonnx.custom_op.general": QONNX,
    "finn.custom_op.general": QONNX,
}
OPSETS = range(9, 22)
MAX_FILE = 1 << 31
MAX_NODES = 100_000
MAX_SHOWN = 160


@dataclass(frozen=True, eq=False)
class Node:
    """One operation: inputs and outputs are tensor names, "" where an optional one is left out."""

    name: str
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        label = f"{self.domain}:{self.operator}" if self.domain else self.operator
        listed = ", ".join(f"{key}={_short(value)}" for key, value in self.attributes.items())
        return f"node {self.name!r} ({label}{': ' + listed if listed else ''})"

    def error(self, problem: object) -> UnsupportedGraphError:
        """An error about this node: its name, operator and attributes, then the problem."""
        return UnsupportedGraphError(f"{self}: {problem}")


@dataclass(frozen=True, eq=False)
class Graph:
    """What an ONNX file computes, from its one input to one output.

    nodes: in an order in which every tensor exists before it is read; only those that the output depends on.
    constants: initializers by name. input_shape: None for a size that the file leaves open.
    input_is_integer: whether the input is an integer type, or annotated as one by QONNX (datatype UINT8).
    properties: metadata of the file; `o3bnn export` writes some.
    """

    name: str
    opset: int
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    input: str
    input_shape: tuple[int | None, ...]
    input_type: np.dtype[Any]
    input_is_integer: bool
    output: str
    producer: str
    properties: Mapping[str, str]


def read_graph(path: Path) -> Graph:
    """Read and check an ONNX file.

    Raises:
        UnsupportedGraphError: the file is missing, damaged, or of a form that no graph here can have.
    """
    return graph_of(read_model(path), path.stem)


def read_model(path: Path) -> onnx.ModelProto:
    """The protobuf message of an ONNX file, external data included, local functions inlined."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise UnsupportedGraphError(f"{path}: the file is larger than {MAX_FILE} octets")
        model = onnx.load(path, format="protobuf")
        return inliner.inline_local_functions(model) if model.functions else model
    except OSError as error:
        raise UnsupportedGraphError(f"cannot read {path}: {error.strerror or error}: check the path") from error
    except (DecodeError, ValueError, TypeError, RuntimeError, checker.ValidationError) as error:
        raise UnsupportedGraphError(f"cannot read {path}: it is not an ONNX file, or damaged ({error})") from error


def graph_of(model: onnx.ModelProto, name: str = "network") -> Graph:
    """The plain form of a model that is already in memory; see `read_graph`."""
    if not model.HasField("graph") or not model.graph.node:
        raise UnsupportedGraphError(f"{name}: the file holds no graph: it is not an ONNX model, or damaged")
    proto = model.graph
    opset = _opset(model)
    if proto.sparse_initializer:
        raise UnsupportedGraphError("the graph has sparse initializers: store them densely")
    if len(proto.node) > MAX_NODES:
        raise UnsupportedGraphError(f"the graph has {len(proto.node)} nodes, more than {MAX_NODES}")
    constants = {tensor.name: _tensor(tensor, f"initializer {tensor.name!r}") for tensor in proto.initializer}
    source = _input(proto, constants)
    nodes = [_node(node, index) for index, node in enumerate(proto.node)]
    output = _output(proto)
    ordered = _needed(nodes, set(constants) | {source.name}, output)
    _check_schemas(proto, ordered, opset)
    shape, dtype = _type_of(source)
    return Graph(
        name=name,
        opset=opset,
        nodes=tuple(ordered),
        constants=constants,
        input=source.name,
        input_shape=shape,
        input_type=dtype,
        input_is_integer=dtype.kind in "iu" or _annotated_as_pixels(proto, source.name),
        output=output,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        properties={entry.key: entry.value for entry in model.metadata_props},
    )


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if DOMAINS.get(entry.domain) == ""]
    opset = int(versions[0]) if versions else 0
    if opset not in OPSETS:
        raise UnsupportedGraphError(
            f"the graph uses opset {opset or 'none'}: {OPSETS[0]} to {OPSETS[-1]} are read here "
            f"(onnx.version_converter converts others)"
        )
    return opset


def _tensor(tensor: onnx.TensorProto, where: str) -> Array:
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError) as error:
        raise UnsupportedGraphError(f"{where}: its data do not fit its type and shape ({error})") from error


def _input(proto: onnx.GraphProto, constants: Mapping[str, Array]) -> onnx.ValueInfoProto:
    """The one input that is no initializer (old exporters list initializers among the inputs)."""
    sources = [value for value in proto.input if value.name not in constants]
    if len(sources) != 1:
        names = ", ".join(repr(value.name) for value in sources) or "none"
        raise UnsupportedGraphError(
            f"the graph has {len(sources)} inputs without a value ({names}): it needs exactly one, the image "
            f"(a missing initializer shows up here too)"
        )
    source: onnx.ValueInfoProto = sources[0]
    return source


def _type_of(value: onnx.ValueInfoProto) -> tuple[tuple[int | None, ...], np.dtype[Any]]:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise UnsupportedGraphError(f"input {value.name!r} is not a tensor of known rank")
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except (KeyError, ValueError) as error:
        raise UnsupportedGraphError(f"input {value.name!r} has no known element type") from error
    if dtype not in (np.float32, np.uint8, np.int8, np.int32, np.int64):
        raise UnsupportedGraphError(f"input {value.name!r} is {dtype}: it must be float32 or an integer type")
    shape = (int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)
    return tuple(shape), np.dtype(dtype)


def _annotated_as_pixels(proto: onnx.GraphProto, name: str) -> bool:
    return any(
        entry.key == "finn_datatype" and entry.value == "UINT8"
        for annotation in proto.quantization_annotation
        if annotation.tensor_name == name
        for entry in annotation.quant_parameter_tensor_names
    )


def _output(proto: onnx.GraphProto) -> str:
    if len(proto.output) != 1:
        names = ", ".join(repr(value.name) for value in proto.output) or "none"
        raise UnsupportedGraphError(f"the graph has {len(proto.output)} outputs ({names}): it needs one, the logits")
    return str(proto.output[0].name)


def _node(node: onnx.NodeProto, index: int) -> Node:
    name = node.name or (node.output[0] if node.output else f"#{index}")
    if node.domain not in DOMAINS:
        known = ", ".join(repr(domain or "ai.onnx") for domain in DOMAINS if domain != "ai.onnx")
        raise UnsupportedGraphError(
            f"node {name!r} ({node.op_type}): its domain {node.domain!r} is unknown: read are {known}"
        )
    attributes: dict[str, Any] = {}
    for attribute in node.attribute:
        where = f"node {name!r} ({node.op_type}), attribute {attribute.name!r}"
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise UnsupportedGraphError(f"{where}: control flow is not read here: export the model without it")
        if attribute.type == onnx.AttributeProto.TENSOR:
            attributes[attribute.name] = _tensor(attribute.t, where)
            continue
        try:
            value = helper.get_attribute_value(attribute)
        except ValueError as error:
            raise UnsupportedGraphError(f"{where}: {error}") from error
        attributes[attribute.name] = _text(value) if isinstance(value, bytes) else value
    return Node(name, node.op_type, DOMAINS[node.domain], tuple(node.input), tuple(node.output), attributes)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _needed(nodes: Sequence[Node], given: set[str], output: str) -> list[Node]:
    """The nodes that the output depends on, sorted so that every tensor exists before it is read."""
    producer: dict[str, Node] = {}
    for node in nodes:
        for name in filter(None, node.outputs):
            if name in producer or name in given:
                raise node.error(f"it writes tensor {name!r}, which already has a value")
            producer[name] = node
    ordered: list[Node] = []
    state: dict[int, bool] = {}  # False while a node's inputs are visited, True when done
    if output not in producer:
        raise UnsupportedGraphError(f"no node computes the output {output!r}")
    stack = [producer[output]]
    while stack:
        node = stack[-1]
        if id(node) in state:
            stack.pop()
            if not state[id(node)]:
                state[id(node)] = True
                ordered.append(node)
            continue
        state[id(node)] = False
        stack.extend(_unvisited(node, producer, given, state))
    return ordered


def _unvisited(node: Node, producer: Mapping[str, Node], given: set[str], state: Mapping[int, bool]) -> list[Node]:
    found = []
    for name in filter(None, node.inputs):
        if name in given:
            continue
        before = producer.get(name)
        if before is None:
            raise node.error(f"its input {name!r} has no value: a node or an initializer is missing")
        if state.get(id(before)) is False:
            raise node.error(f"its input {name!r} depends on its own output: the graph has a cycle")
        if id(before) not in state:
            found.append(before)
    return found


def _check_schemas(proto: onnx.GraphProto, nodes: Sequence[Node], opset: int) -> None:
    """Check the standard nodes against ONNX's schemas: known operators, attributes, numbers of inputs and outputs."""
    context = checker.C.CheckerContext()
    context.ir_version = 10
    context.opset_imports = {"": opset}
    needed = {output for node in nodes for output in node.outputs if output}
    for index, node in enumerate(proto.node):
        if DOMAINS[node.domain] or not needed & set(node.output):
            continue
        try:
            plain = onnx.NodeProto()
            plain.CopyFrom(node)
            plain.domain = ""
            checker.check_node(plain, context)
        except (checker.ValidationError, RuntimeError) as error:
            first = str(error).strip().splitlines()
            raise _node(node, index).error(f"invalid in opset {opset}: {first[0] if first else error}") from error


def _short(value: object) -> str:
    text = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."

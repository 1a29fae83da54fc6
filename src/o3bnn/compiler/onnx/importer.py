"""Walks over an ONNX graph and turns it into the integer network: `import_graph`."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from o3bnn.compiler.onnx import moving
from o3bnn.compiler.onnx.arithmetic import SUPPORTED_ELEMENTWISE, Prepared, prepare
from o3bnn.compiler.onnx.arithmetic import Operand as Elementwise
from o3bnn.compiler.onnx.chain import Chain
from o3bnn.compiler.onnx.graph import QONNX, Array, Graph, Node
from o3bnn.compiler.onnx.operators import LAYERS, TAILS
from o3bnn.compiler.onnx.pixels import exported_classes, exported_image, image_shape, pixel_symbol
from o3bnn.compiler.onnx.preprocessing import Preprocessing
from o3bnn.compiler.onnx.result import Imported, Tail
from o3bnn.compiler.onnx.symbolic import MAX_ELEMENTS, MapShape, Symbol
from o3bnn.errors import InputError, InvalidNetworkError, O3bnnError, UnsupportedGraphError
from o3bnn.model import ConvGeometry

Value = Symbol | Array

TAIL_PASSES = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten")


def import_graph(
    graph: Graph,
    *,
    image: MapShape | None = None,
    preprocessing: Preprocessing | None = None,
    name: str | None = None,
    class_names: Sequence[str] = (),
    cover: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Imported:
    """The integer network of a graph; see `o3bnn.compiler.onnx.compile_onnx`.

    Raises:
        UnsupportedGraphError: part of the graph has no exact integer form; the message names the node and the remedy.
    """
    if preprocessing is None:
        preprocessing = Preprocessing(divisor=1.0 if graph.input_is_integer else 255.0)
    try:
        shape, layout = image_shape(graph, image or exported_image(graph))
        ConvGeometry(*shape, 1)  # its limits, before arrays of this size are made
        symbol = pixel_symbol(graph, shape, layout)
        walk = _Walk(graph, symbol, preprocessing)
        result = walk.run()
        return walk.chain.finish(
            result,
            walk.last,
            layout=layout,
            name=name or graph.properties.get("o3bnn.name") or graph.name or "network",
            class_names=tuple(class_names) or exported_classes(graph),
            cover=cover,
            metadata={"source": f"ONNX, opset {graph.opset}, {graph.producer}".rstrip(", "), **(metadata or {})},
        )
    except InvalidNetworkError as error:
        raise UnsupportedGraphError(f"the network breaks a limit: {error}") from error
    except MemoryError as error:
        raise UnsupportedGraphError("the network does not fit in the free memory") from error


class _Walk:
    """Evaluates the nodes one after the other, on constants and symbols."""

    def __init__(self, graph: Graph, symbol: Symbol, preprocessing: Preprocessing) -> None:
        self.graph = graph
        self.values: dict[str, Value | Tail] = {**graph.constants, graph.input: symbol}
        self.chain = Chain(preprocessing, graph.input_type)
        self.last = graph.nodes[-1]

    def run(self) -> Symbol | Tail:
        for node in self.graph.nodes:
            self.values[node.outputs[0]] = self._guarded(node)
            if isinstance(self.values[node.outputs[0]], Tail):
                self.values.update({name: self.values[node.outputs[0]] for name in node.outputs if name})
        result = self.values[self.graph.output]
        if isinstance(result, np.ndarray):
            raise UnsupportedGraphError(f"the output {self.graph.output!r} does not depend on the image")
        return result

    def _guarded(self, node: Node) -> Value | Tail:
        try:
            return self._evaluate(node)
        except (InvalidNetworkError, InputError) as error:
            raise node.error(error) from error
        except O3bnnError:
            raise
        except MemoryError as error:
            raise node.error("it does not fit in the free memory") from error
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            raise node.error(str(error) or type(error).__name__) from error

    def _evaluate(self, node: Node) -> Value | Tail:
        for name in node.inputs:
            if name and name not in self.values:
                raise node.error(f"its input {name!r} is an output that is not read here")
        inputs = [self.values[name] if name else None for name in node.inputs]
        tail = next((value for value in inputs if isinstance(value, Tail)), None)
        if tail is not None:
            return self._after_tail(node, tail)
        values = [value for value in inputs if not isinstance(value, Tail)]
        symbols = [value for value in values if isinstance(value, Symbol)]
        operands = [None if v is None else Elementwise(v.shape, None if isinstance(v, Symbol) else v) for v in values]
        prepared = prepare(node, operands, self.graph.opset)
        if symbols:
            return self._symbolic(node, values, symbols, prepared)
        constants = [value for value in values if not isinstance(value, Symbol)]
        if prepared is not None:
            return _fold(prepared.function, [constants[a] if isinstance(a, int) else a for a in prepared.arguments])
        if node.operator in moving.MOVING and not node.domain and constants and constants[0] is not None:
            return moving.MOVING[node.operator](node, constants[0], constants)
        if node.operator not in moving.SUPPORTED_ON_CONSTANTS or node.domain:
            raise node.error(_unsupported(node))
        return moving.fold(node, constants)

    def _symbolic(
        self, node: Node, values: Sequence[Value | None], symbols: Sequence[Symbol], prepared: Prepared | None
    ) -> Value | Tail:
        if prepared is not None:
            return symbols[0].apply(node, prepared, values)
        key = (node.domain, node.operator)
        if key in LAYERS:
            return LAYERS[key](self.chain, node, values)
        first = values[0]
        if not node.domain and node.operator in moving.MOVING and isinstance(first, Symbol):
            constants = [None if isinstance(value, Symbol) else value for value in values]
            return first.moved(node.outputs[0], moving.MOVING[node.operator](node, first.index, constants))
        if key == ("", "Shape"):
            return moving.shape_of(node, symbols[0].shape)
        if key == ("", "Size"):
            return np.array(symbols[0].index.size, np.int64)
        if key in (("", "Gather"), ("", "GatherND")) and isinstance(first, np.ndarray):
            return _look_up(node, first, symbols[0])
        if key in TAILS and isinstance(first, Symbol):
            TAILS[key](node, first, values)
            return Tail(first, node)
        raise node.error(_unsupported(node))

    def _after_tail(self, node: Node, tail: Tail) -> Tail:
        if node.domain or node.operator not in TAIL_PASSES:
            raise node.error(f"it follows {tail.node.operator}, which ends a network: nothing may be computed from it")
        return tail


def _fold(function: Any, arguments: Sequence[Array | None]) -> Array:
    shape = np.broadcast_shapes(*(argument.shape for argument in arguments if argument is not None))
    if prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"its result would have {prod(shape)} elements: {MAX_ELEMENTS} are the limit")
    with np.errstate(all="ignore"):
        return np.asarray(function(*arguments))


def _look_up(node: Node, table: Array, symbol: Symbol) -> Symbol:
    """A table indexed by pixels."""
    if table.ndim != 1 or node.attributes.get("axis", 0) != 0 or symbol.source.node is not None:
        raise node.error("only a look-up of pixels in a table of one axis is read here")
    if node.operator == "GatherND":
        if symbol.shape[-1:] != (1,) or node.attributes.get("batch_dims", 0):
            raise node.error("its indices must be [..., 1], its batch_dims 0")
        symbol = symbol.moved(symbol.name, symbol.index[..., 0])

    def look_up(indices: Array) -> Array:
        if indices.dtype not in (np.int32, np.int64):
            raise ValueError(f"its indices are {indices.dtype}")
        return table[indices]

    return symbol.apply(node, Prepared(look_up, (1,)), [None, symbol])


def _unsupported(node: Node) -> str:
    domain = "QONNX" if node.domain == QONNX else "ONNX"
    layers = sorted({operator for _, operator in LAYERS})
    return (
        f"the {domain} operator {node.operator} has no integer form here. Read on data: {', '.join(layers)}, "
        f"{', '.join(sorted(moving.MOVING))}, and elementwise {', '.join(sorted(SUPPORTED_ELEMENTWISE))}; on constants "
        f"also {', '.join(sorted(moving.SUPPORTED_ON_CONSTANTS))}"
    )

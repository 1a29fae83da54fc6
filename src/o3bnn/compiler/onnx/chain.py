"""The line of layers that a graph amounts to: each is finished, to a stage, when the next one reads it."""

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.decide import Decision, decide
from o3bnn.compiler.onnx.graph import Array, Node
from o3bnn.compiler.onnx.layers import Layer
from o3bnn.compiler.onnx.logits import Logits, fit
from o3bnn.compiler.onnx.operands import Operand
from o3bnn.compiler.onnx.pixels import bit_operand, encoding, packed, pixel_operand
from o3bnn.compiler.onnx.preprocessing import Preprocessing
from o3bnn.compiler.onnx.result import Imported, StageOrigin, Tail
from o3bnn.compiler.onnx.symbolic import (
    MAX_ELEMENTS,
    PADDED,
    MapShape,
    Parameter,
    Source,
    Step,
    Symbol,
    batch_index,
    planar_index,
)
from o3bnn.errors import UnsupportedGraphError
from o3bnn.model import ConvGeometry, ConvStage, DenseStage, Network, OutputStage, PaddingMode, Pooling, Stage

MAX_NAME = 256


class Chain:
    """What has been found of a network so far."""

    def __init__(self, preprocessing: Preprocessing, input_type: np.dtype[np.generic]) -> None:
        self.preprocessing = preprocessing
        self.input_type = input_type
        self.image: MapShape = (1, 1, 1)
        self.table: npt.NDArray[np.int16] | None = None
        self.stages: list[Stage] = []
        self.origins: list[StageOrigin] = []
        self.notes: list[str] = []
        self.finished: list[Source] = []

    def layer(
        self,
        node: Node,
        x: Symbol,
        geometry: ConvGeometry,
        signs: npt.NDArray[np.int8],
        magnitudes: npt.NDArray[np.float32],
        *,
        padding: float = 0.0,
        dense: bool,
        bias: Array | None = None,
        popcount: bool = False,
        out_shape: tuple[int, ...] = (),
    ) -> Symbol:
        """Append a layer that reads `x`, which finishes the layer before; returns the symbol of its sums.

        popcount: whether it counts matches of the bits 0 and 1, rather than to sum up signed products.
        out_shape: of its output tensor, where it is dense.
        """
        operand = self._read(x, node, padding)
        if popcount:
            operand = _zero_and_one(operand, x, node)
        source = Layer(
            node,
            (geometry.out_height, geometry.out_width, geometry.out_channels),
            geometry.class_map,
            name=self._name(node),
            geometry=geometry,
            signs=signs,
            magnitudes=magnitudes,
            operand=operand,
            dense=dense,
            bias=bias,
        )
        if dense:
            first = np.arange(geometry.out_channels).reshape(out_shape[1:])
            index = batch_index(first, x.shape[0], geometry.out_channels)
        else:
            index = batch_index(planar_index(source.shape), x.shape[0], geometry.outputs)
        return Symbol(node.outputs[0], source, 0, 0, index)

    def step(self, node: Node, symbol: Symbol, function: Callable[..., Array], *constants: Array) -> Symbol:
        """A part of a layer's own arithmetic that comes after its sums: constants have one value a channel."""
        parameters = (Parameter(np.asarray(constant).reshape(1, -1)) for constant in constants)
        symbol.source.steps.append(Step(function, (symbol.step, *parameters), node))
        return Symbol(symbol.name, symbol.source, len(symbol.source.steps) - 1, 0, symbol.index)

    def pad(self, node: Node, x: Symbol, widths: list[tuple[int, int]], value: float) -> Symbol:
        """The map with a border of a constant, for the convolution that follows."""
        if any(before < 0 or after < 0 for before, after in widths):
            raise node.error("its pads are negative: cutting a map is not supported")
        if x.padding is not None and x.padding != value:
            raise node.error(f"it pads with {value:g} what is padded with {x.padding:g} already")
        if len(x.shape) != 4 or any(any(pair) for pair in widths[:2]):
            raise node.error("only the height and width of [images, channels, height, width] can be padded")
        if not any(any(pair) for pair in widths):
            return x.moved(node.outputs[0], x.index)
        if prod(size + before + after for size, (before, after) in zip(x.shape, widths, strict=True)) > MAX_ELEMENTS:
            raise node.error(f"its result would have more than {MAX_ELEMENTS} elements")
        index = np.pad(x.index, widths, constant_values=PADDED)
        return Symbol(node.outputs[0], x.source, x.step, x.level, index, value)

    def finish(
        self,
        result: Symbol | Tail,
        last: Node,
        *,
        layout: str,
        name: str,
        class_names: tuple[str, ...],
        cover: tuple[int, int] | None,
        metadata: Mapping[str, str],
    ) -> Imported:
        """The network that ends in `result`; see `import_graph`."""
        symbol, node = (result.logits, result.node) if isinstance(result, Tail) else (result, last)
        output, logits, order = self._output(symbol, node)
        if isinstance(result, Tail):
            self.notes.append(f"the network ends in the logits {symbol.name!r}, before {node}")
        assert self.table is not None
        network = Network(
            name=_printable(name),
            input=encoding(self.image, self.table, cover),
            stages=tuple(self.stages),
            output=output,
            class_names=class_names,
            metadata={**metadata, **self._metadata(logits)},
        )
        return Imported(
            network,
            tuple(self.origins),
            symbol.name,
            order,
            logits.exact,
            tuple(self.notes),
            self.preprocessing,
            layout,
        )

    def _metadata(self, logits: Logits) -> dict[str, str]:
        found = {
            "pixel": self.preprocessing.describe(self.input_type),
            "preprocessing": self.preprocessing.to_json(),
            "logits": "exact" if logits.exact else "rounded in another order than in the source",
        }
        return {**found, "notes": "; ".join(self.notes)} if self.notes else found

    def _read(self, x: Symbol, node: Node, padding: float) -> Operand:
        """The operand that a layer gets from `x`: the image, or the layer before, which becomes a stage."""
        if x.source in self.finished:
            raise node.error(f"{x.name!r} comes from a layer that another layer reads too: branches are not supported")
        self.finished.append(x.source)
        if not isinstance(x.source, Layer):
            if x.source.pools:
                raise node.error("the image is pooled before the first layer: that has no form in a binary network")
            self.image = x.source.shape
            operand, self.table = pixel_operand(x, node, padding, self.preprocessing, self.input_type)
            return operand
        decision = decide(x, node)
        low, high = decision.values
        self.stages.append(_stage(x.source, decision, node))
        self._note_sensitive(x.source, decision)
        self._note_origin(x, high, node)
        return bit_operand(node, low, high, padding)

    def _note_sensitive(self, layer: Layer, decision: Decision) -> None:
        if decision.sensitive:
            self.notes.append(
                f"{layer.name}: {decision.sensitive} of {layer.channels} channels decide within the rounding of the "
                f"source's float sums; here the sums are exact"
            )

    def _note_origin(self, x: Symbol, high: float, node: Node) -> None:
        self.origins.append(StageOrigin(x.name, high, x.samples(node)))

    def _output(self, symbol: Symbol, node: Node) -> tuple[OutputStage, Logits, npt.NDArray[np.int64]]:
        layer = symbol.source
        if not isinstance(layer, Layer):
            raise UnsupportedGraphError("the graph has no layer: no Conv, MatMul or Gemm is on the way to its output")
        g = layer.geometry
        whole = (g.in_height, g.in_width) == g.kernel and not any(g.padding) and g.groups == 1
        if not (layer.dense or whole) or layer.pools or symbol.level:
            raise node.error(
                f"the output {symbol.name!r} is a map of {layer.map_shape(len(layer.pools))}: the last layer must be "
                f"dense (or a convolution that covers its whole input), and not be pooled"
            )
        if layer.operand.table is not None:
            raise node.error("the only layer reads integers: the output layer must read bits")
        order = symbol.features(node)
        found = fit(symbol, layer, node)
        self._note_logits(layer, found)
        output = OutputStage(
            name=layer.name,
            in_features=g.full_fan_in,
            weights=packed(layer.signs[order]),
            scale=found.scale[order],
            offset=found.offset[order],
        )
        return output, found, order

    def _note_logits(self, layer: Layer, found: Logits) -> None:
        if found.exact:
            return
        self.notes.append(f"{layer.name}: the source rounds its logits in another order; they differ in the last bits")
        if not layer.sums_exactly:
            self.notes.append(
                f"{layer.name}: the source's float sums round (a scale that is no power of two, or a bias): two "
                f"classes with equal logits may be told apart there by rounding alone"
            )
        if found.disordered is None:
            self.notes.append(f"{layer.name}: too many classes to compare the order of all logits with the source")
        elif found.disordered:
            self.notes.append(
                f"{layer.name}: {found.disordered} pairs of logits that are equal up to rounding in the source compare "
                f"differently: an image that meets one as its best two may get the other class"
            )

    def _name(self, node: Node) -> str:
        used = {stage.name for stage in self.stages}
        plain = _printable(node.name)
        return plain if plain not in used else f"{plain[: MAX_NAME - 8]}#{len(self.stages)}"


def _zero_and_one(operand: Operand, x: Symbol, node: Node) -> Operand:
    """The operand of a layer that counts matches: bits 0 and 1, read as -1 and +1."""
    if operand.table is not None or (operand.low, operand.high) != (0, 1) or operand.quantum != 1:
        raise node.error(f"its input {x.name!r} must be of the values 0 and 1")
    return Operand(operand.quantum, 0, True)


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)[:MAX_NAME] or "layer"


def _stage(layer: Layer, decision: Decision, node: Node) -> Stage:
    signs = np.where(decision.flipped[:, None], -layer.signs, layer.signs)
    integers = layer.operand.table is not None
    thresholds = _scores(layer, decision)
    if layer.dense:
        return DenseStage(
            name=layer.name,
            geometry=layer.geometry,
            weights=packed(signs),
            thresholds=thresholds,
            integer_input=integers,
        )
    return ConvStage(
        name=layer.name,
        geometry=layer.geometry,
        weights=packed(signs),
        thresholds=thresholds,
        integer_input=integers,
        decisive_bit=decision.decisive_bit,
        pooling=_pooling(layer, node),
        padding_mode=_padding_mode(layer.operand),
    )


def _scores(layer: Layer, decision: Decision) -> npt.NDArray[np.int32]:
    """Thresholds on the scores of the contract (matches, or integer sums): int32 [classes, channels]."""
    fan_in, theta = layer.geometry.class_fan_in[:, None], decision.thresholds
    if layer.operand.table is None:
        low, high, theta = 0 * fan_in, fan_in, -((-(theta + fan_in)) // 2)
    else:
        magnitude = int(np.abs(layer.operand.table).max())
        low, high = -fan_in * magnitude, fan_in * magnitude
    theta = np.where(decision.constant == 1, low, np.where(decision.constant == 0, high + 1, theta))
    return theta.astype(np.int32)


def _padding_mode(operand: Operand) -> PaddingMode:
    if operand.table is None and operand.padding == operand.low:
        return "minus_one"
    return "plus_one" if operand.table is None and operand.padding == operand.high else "zero"


def _pooling(layer: Layer, node: Node) -> Pooling | None:
    """The one window that a layer's max-pools amount to."""
    size, stride = (1, 1), (1, 1)
    for pool in layer.pools:
        (rows, columns), (down, right) = pool.pooling.size, pool.pooling.stride
        if (stride[0] > size[0] and rows > 1) or (stride[1] > size[1] and columns > 1):
            raise pool.node.error("it pools the output of a pool that skips positions: use one pool")
        size = ((rows - 1) * stride[0] + size[0], (columns - 1) * stride[1] + size[1])
        stride = (stride[0] * down, stride[1] * right)
    return Pooling(size, stride) if layer.pools else None

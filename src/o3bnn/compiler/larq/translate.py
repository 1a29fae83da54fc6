"""Turns a Larq Compute Engine graph into the plain graph that the ONNX importer reads.

LCE's maps are [n, height, width, channels]; a bit 1 of its packed words stands for -1, 32 channels a word, the lowest
bit first. `LceBconv2d` sums s = K - 2 * mismatches and yields

    floats:  activation(s) * multiplier + bias
    bits:    -1 where mismatches > threshold, so +1 where s >= K - 2 * threshold

`LceQuantize` gives -1 where x < 0; `pad_values` 1 pads with +1, 0 with nothing.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.larq.tflite import ACTIVATIONS, PADDINGS, Model, Operation
from o3bnn.compiler.onnx.graph import Array, Graph, Node
from o3bnn.errors import UnsupportedGraphError

OPSET = 17
WORD = 32
FLOAT32, INT32 = 0, 2


def graph_of(model: Model, name: str) -> Graph:
    """The graph of a .tflite file; UnsupportedGraphError names the operation that has no place in it."""
    return _Translator(model).run(name)


class _Translator:
    """Collects nodes; tensor i of the file is called t<i>, what is in between t<i>.<what>."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.current = ""

    def run(self, name: str) -> Graph:
        source = self.model.tensors[self.model.input]
        if source.type != FLOAT32:
            raise UnsupportedGraphError(
                f"the input {source.name!r} is not float32: convert with inference_input_type=tf.float32"
            )
        self._constant_tensors()
        for index, operation in enumerate(self.model.operations):
            self.current = f"#{index} {operation.name} {self.model.tensors[operation.outputs[0]].name[:80]!r}"
            handler = _HANDLERS.get(operation.name)
            if handler is None:
                raise self.error(f"this operator has no integer form here. Read are {', '.join(sorted(_HANDLERS))}")
            handler(self, operation)
        output = f"t{self.model.output}"
        return Graph(
            name=name,
            opset=OPSET,
            nodes=self._needed(output),
            constants=self.constants,
            input=f"t{self.model.input}",
            input_shape=source.shape,
            input_type=np.dtype(np.float32),
            input_is_integer=False,
            output=output,
            producer="Larq Compute Engine",
            properties={},
        )

    def error(self, problem: str) -> UnsupportedGraphError:
        return UnsupportedGraphError(f"operation {self.current}: {problem}")

    def _constant_tensors(self) -> None:
        for index, tensor in enumerate(self.model.tensors):
            if tensor.value is not None:
                self.constants[f"t{index}"] = tensor.value

    def _needed(self, output: str) -> tuple[Node, ...]:
        """The nodes that the output depends on; TensorFlow Lite lists them in order of execution."""
        wanted, found = {output}, []
        for node in reversed(self.nodes):
            if wanted & set(node.outputs):
                wanted |= set(node.inputs)
                found.append(node)
        known = {f"t{self.model.input}", *self.constants}
        for node in reversed(found):
            for name in node.inputs:
                if name not in known:
                    raise node.error(f"its input {name!r} has no value: an operation is missing, or comes later")
            known |= set(node.outputs)
        if output not in known:
            raise UnsupportedGraphError("no operation computes the output")
        return tuple(reversed(found))

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(Node(self.current, operator, "", tuple(inputs), (output,), attributes))
        return output

    def constant(self, output: str, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        self.constants[output] = np.asarray(value, dtype)
        return output

    def value(self, operation: Operation, index: int, what: str) -> Array:
        """A constant input."""
        tensor = self.optional(operation, index)
        if tensor is None:
            raise self.error(f"its {what} (input {index}) is missing or not constant")
        return tensor

    def optional(self, operation: Operation, index: int) -> Array | None:
        place = operation.inputs[index] if index < len(operation.inputs) else -1
        return None if place < 0 else self.model.tensors[place].value

    def data(self, operation: Operation, index: int = 0) -> str:
        if index >= len(operation.inputs) or operation.inputs[index] < 0:
            raise self.error(f"its input {index} is missing")
        return f"t{operation.inputs[index]}"

    def activation(self, operation: Operation, tensor: str, output: str) -> str:
        """A fused activation."""
        name = ACTIVATIONS.get(operation.options.get("fused_activation_function", 0), "unknown")
        limits = {"NONE": None, "RELU": (0.0, None), "RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0)}
        if name not in limits:
            raise self.error(f"its fused activation {name} is not read: {', '.join(limits)} are")
        limit = limits[name]
        if limit is None:
            return self.node("Identity", [tensor], output)
        ends = ["" if end is None else self.constant(f"{output}.{i}", end) for i, end in enumerate(limit)]
        return self.node("Clip", [tensor, *ends], output)

    def convolution(self, operation: Operation, weights: Array, groups: int, output: str) -> str:
        """A convolution of [n, height, width, channels] with weights [out, rows, columns, in]."""
        o = operation.options
        if (o.get("dilation_width_factor", 1), o.get("dilation_height_factor", 1)) != (1, 1):
            raise self.error("dilation is not supported")
        planar = self.node("Transpose", [self.data(operation)], f"{output}.planar", perm=[0, 3, 1, 2])
        strides = [o.get("stride_height", 0), o.get("stride_width", 0)]
        padding, kernel = PADDINGS.get(o.get("padding", -1)), weights.shape[1:3]
        if padding is None or min(strides) < 1:
            raise self.error(f"its padding or strides {strides} are not known")
        pads = self.same_padding(operation, kernel, strides) if padding == "SAME" else [0, 0, 0, 0]
        if o.get("pad_values", 0) == 1 and any(pads):
            amounts = self.constant(f"{output}.pads", [0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
            value = self.constant(f"{output}.one", 1.0)
            planar = self.node("Pad", [planar, amounts, value], f"{output}.padded")
            pads = [0, 0, 0, 0]
        kernels = self.constant(f"{output}.weights", weights.transpose(0, 3, 1, 2))
        attributes = {"strides": strides, "pads": pads, "group": groups, "kernel_shape": list(kernel)}
        sums = self.node("Conv", [planar, kernels], f"{output}.sums", **attributes)
        return self.node("Transpose", [sums], f"{output}.map", perm=[0, 2, 3, 1])

    def same_padding(self, operation: Operation, kernel: Sequence[int], strides: Sequence[int]) -> list[int]:
        """Padding (top, left, bottom, right) such that there are ceil(size / stride) outputs."""
        sizes = self.model.tensors[operation.inputs[0]].shape[1:3]
        before, after = [], []
        for size, width, stride in zip(sizes, kernel, strides, strict=True):
            if size is None or size < 1:
                raise self.error("its padding SAME needs a map of known size")
            total = max((-(-size // stride) - 1) * stride + width - size, 0)
            before.append(total // 2)
            after.append(total - total // 2)
        return [*before, *after]


def _conv(self: _Translator, operation: Operation) -> None:
    output, weights = f"t{operation.outputs[0]}", self.value(operation, 1, "weights")
    if weights.ndim != 4:
        raise self.error(f"its weights have shape {list(weights.shape)}")
    sums = self.convolution(operation, weights, 1, output)
    _biased(self, operation, sums, output)


def _biased(self: _Translator, operation: Operation, sums: str, output: str) -> None:
    bias = self.optional(operation, 2)
    if bias is not None:
        sums = self.node("Add", [sums, self.constant(f"{output}.bias", bias)], f"{output}.biased")
    self.activation(operation, sums, output)


def _fully_connected(self: _Translator, operation: Operation) -> None:
    output, weights = f"t{operation.outputs[0]}", self.value(operation, 1, "weights")
    if weights.ndim != 2 or operation.options.get("weights_format", 0):
        raise self.error(
            f"its weights have shape {list(weights.shape)} or another format: plain [outputs, inputs] are read"
        )
    flat = self.node(
        "Reshape",
        [self.data(operation), self.constant(f"{output}.shape", [-1, weights.shape[1]], np.int64)],
        f"{output}.flat",
    )
    sums = self.node("MatMul", [flat, self.constant(f"{output}.weights", weights.T)], f"{output}.sums")
    _biased(self, operation, sums, output)


def _bconv(self: _Translator, operation: Operation) -> None:
    output, packed = f"t{operation.outputs[0]}", self.value(operation, 1, "filter")
    channels = operation.options.get("channels_in", 0)
    if packed.ndim != 4 or packed.dtype != np.int32 or channels < 1 or packed.shape[3] < 1:
        raise self.error(f"its filter is {packed.dtype} {list(packed.shape)} for {channels} channels")
    words = -(-channels // WORD)
    groups = words // packed.shape[3]
    if groups < 1 or groups * packed.shape[3] != words or channels % groups or (groups > 1 and channels % WORD):
        raise self.error(f"its filter {list(packed.shape)} does not fit {channels} channels")
    if operation.options.get("pad_values", 0) not in (0, 1):
        raise self.error("its pad_values is neither 0 nor 1")
    bits = np.unpackbits(np.ascontiguousarray(packed, "<i4").view(np.uint8), axis=-1, bitorder="little")
    weights = 1 - 2 * bits[..., : channels // groups].astype(np.float32)
    sums = self.convolution(operation, weights, groups, output)
    if self.model.tensors[operation.outputs[0]].type == INT32:
        _thresholds(self, operation, sums, weights[0].size, output)
        return
    scaled = self.activation(operation, sums, f"{output}.activated")
    for index, (name, operator) in enumerate((("multiplier", "Mul"), ("offset", "Add")), 2):
        factor = self.value(operation, index, f"post-activation {name}")
        end = output if index == 3 else f"{output}.scaled"
        scaled = self.node(operator, [scaled, self.constant(f"{output}.{name}", factor)], end)


def _thresholds(self: _Translator, operation: Operation, sums: str, fan_in: int, output: str) -> None:
    limits = self.value(operation, 4, "output thresholds").astype(np.int64)
    least = fan_in - 2 * np.clip(limits, -1, fan_in)
    fires = self.node("GreaterOrEqual", [sums, self.constant(f"{output}.least", least)], f"{output}.fires")
    _bits(self, fires, output)


def _bits(self: _Translator, condition: str, output: str) -> None:
    one, minus = self.constant(f"{output}.plus", 1.0), self.constant(f"{output}.minus", -1.0)
    self.node("Where", [condition, one, minus], output)


def _quantize(self: _Translator, operation: Operation) -> None:
    output = f"t{operation.outputs[0]}"
    if self.model.tensors[operation.inputs[0]].type != FLOAT32:
        raise self.error("its input is not float32: int8 models are not read")
    fires = self.node("GreaterOrEqual", [self.data(operation), self.constant(f"{output}.zero", 0.0)], f"{output}.fires")
    _bits(self, fires, output)


def _same(self: _Translator, operation: Operation) -> None:
    if self.model.tensors[operation.outputs[0]].type != FLOAT32:
        raise self.error("its output is not float32: int8 models are not read")
    self.node("Identity", [self.data(operation)], f"t{operation.outputs[0]}")


def _max_pool(self: _Translator, operation: Operation) -> None:
    output, o = f"t{operation.outputs[0]}", operation.options
    padding = PADDINGS.get(o.get("padding", -1))
    size, strides = ([o.get(f"{kind}_{side}", 0) for side in ("height", "width")] for kind in ("filter", "stride"))
    if padding is None or min(*size, *strides) < 1:
        raise self.error(f"its padding, window {size} or strides {strides} are not known")
    planar = self.node("Transpose", [self.data(operation)], f"{output}.planar", perm=[0, 3, 1, 2])
    attributes = {"kernel_shape": size, "strides": strides, "auto_pad": "SAME_UPPER" if padding == "SAME" else "VALID"}
    pooled = self.node("MaxPool", [planar], f"{output}.pooled", **attributes)
    self.activation(operation, self.node("Transpose", [pooled], f"{output}.map", perm=[0, 2, 3, 1]), output)


def _elementwise(operator: str) -> Callable[[_Translator, Operation], None]:
    def translate(self: _Translator, operation: Operation) -> None:
        output = f"t{operation.outputs[0]}"
        result = self.node(operator, [self.data(operation), self.data(operation, 1)], f"{output}.value")
        self.activation(operation, result, output)

    return translate


def _clip(low: float, high: float | None) -> Callable[[_Translator, Operation], None]:
    def translate(self: _Translator, operation: Operation) -> None:
        output = f"t{operation.outputs[0]}"
        ends = [self.constant(f"{output}.low", low), "" if high is None else self.constant(f"{output}.high", high)]
        self.node("Clip", [self.data(operation), *ends], output)

    return translate


def _reshape(self: _Translator, operation: Operation) -> None:
    output, shape = f"t{operation.outputs[0]}", self.optional(operation, 1)
    if shape is None:
        shape = np.array([-1 if size is None else size for size in self.model.tensors[operation.outputs[0]].shape])
    target = self.constant(f"{output}.shape", shape.reshape(-1), np.int64)
    self.node("Reshape", [self.data(operation), target], output)


def _softmax(self: _Translator, operation: Operation) -> None:
    self.node("Softmax", [self.data(operation)], f"t{operation.outputs[0]}")


_HANDLERS: dict[str, Callable[[_Translator, Operation], None]] = {
    "ADD": _elementwise("Add"),
    "SUB": _elementwise("Sub"),
    "MUL": _elementwise("Mul"),
    "DIV": _elementwise("Div"),
    "CONV_2D": _conv,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _max_pool,
    "RELU": _clip(0.0, None),
    "RELU_N1_TO_1": _clip(-1.0, 1.0),
    "RELU6": _clip(0.0, 6.0),
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "LceBconv2d": _bconv,
    "LceBMaxPool2d": _max_pool,
    "LceQuantize": _quantize,
    "LceDequantize": _same,
}

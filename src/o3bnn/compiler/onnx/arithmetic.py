"""Elementwise operators in NumPy, rounding exactly as ONNX Runtime and the QONNX executor do.

Every operator is prepared once (attributes and constant parameters checked) into a function of arrays that broadcast
against each other. The same function folds constants and runs on symbolic values.

Float32 results are those of one IEEE operation after the other. Two operators need a remark, both measured against
ONNX Runtime 1.31 with `==`:

    BatchNormalization   y = x * a + b in two roundings, with r = 1 / sqrt(var + eps), a = scale * r, b = B - mean * a
    Quant                y = x / scale + zero point; clamp; round; minus the zero point; times scale: five roundings
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from onnx import helper

from o3bnn.compiler.onnx.graph import QONNX, Array, Node

Function = Callable[..., Array]
F32 = np.float32


class Operand(NamedTuple):
    """An input of an elementwise operator: its shape, and its value where that is constant."""

    shape: tuple[int, ...]
    constant: Array | None


class Prepared(NamedTuple):
    """A function of arrays, and its arguments: an index into the node's inputs, or a constant array."""

    function: Function
    arguments: tuple[int | Array, ...]


Preparer = Callable[[Node, Sequence[Operand | None], int], Prepared]


def prepare(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared | None:
    """The elementwise function of a node, or None where its operator is of another kind.

    Raises ValueError where attributes, types or constant inputs do not suit.
    """
    table = _QONNX if node.domain == QONNX else _STANDARD
    preparer = table.get(node.operator)
    return None if preparer is None else preparer(node, inputs, opset)


def constant(inputs: Sequence[Operand | None], index: int, what: str) -> Array | None:
    """The value of an optional constant input; ValueError where it is computed from the image."""
    operand = inputs[index] if index < len(inputs) else None
    if operand is None:
        return None
    if operand.constant is None:
        raise ValueError(f"its {what} depends on the image: it must be constant")
    return operand.constant


def required(inputs: Sequence[Operand | None], index: int, what: str) -> Array:
    """The value of a constant input that must be there."""
    value = constant(inputs, index, what)
    if value is None:
        raise ValueError(f"it has no {what} (input {index})")
    return value


def _same_type(*arrays: Array) -> None:
    kinds = {array.dtype for array in arrays}
    if len(kinds) > 1 or np.dtype(np.bool_) in kinds:
        raise ValueError(f"it combines {', '.join(sorted(map(str, kinds)))}: ONNX needs one numeric type")


def _binary(function: Callable[[Array, Array], Array]) -> Preparer:
    def apply(a: Array, b: Array) -> Array:
        _same_type(a, b)
        return function(a, b)

    return lambda node, inputs, opset: Prepared(apply, _all(node, inputs, 2, 2))


def _unary(function: Callable[[Array], Array]) -> Preparer:
    return lambda node, inputs, opset: Prepared(function, (_all(node, inputs, 1, 1)[0],))


def _all(node: Node, inputs: Sequence[Operand | None], least: int, most: int) -> tuple[int, ...]:
    if not least <= len(inputs) <= most or any(operand is None for operand in inputs):
        raise ValueError(f"it has {len(inputs)} inputs, not {least if least == most else f'{least} to {most}'}")
    return tuple(range(len(inputs)))


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu":
        if np.any(b == 0):
            raise ValueError("it divides by zero")
        return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), a.dtype)
    return a / b


def _power(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    def apply(a: Array, b: Array) -> Array:
        if opset < 12:
            _same_type(a, b)
        if a.dtype != F32 or b.dtype.kind not in "fi":
            raise ValueError(f"it raises {a.dtype} to a power of {b.dtype}: float32 is read here")
        return np.asarray(np.power(a.astype(np.float64), b.astype(np.float64)), a.dtype)

    return Prepared(apply, _all(node, inputs, 2, 2))


def _extreme(function: Callable[[Array, Array], Array]) -> Preparer:
    def apply(*arrays: Array) -> Array:
        _same_type(*arrays)
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result

    return lambda node, inputs, opset: Prepared(apply, _all(node, inputs, 1, 64))


def _where(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    def apply(condition: Array, a: Array, b: Array) -> Array:
        _truth(condition)
        _same_type(a, b)
        return np.where(condition, a, b)

    return Prepared(apply, _all(node, inputs, 3, 3))


def _truth(*arrays: Array) -> None:
    if any(array.dtype != np.bool_ for array in arrays):
        raise ValueError("a condition must be of type bool")


def _logical(function: Callable[..., Array]) -> Preparer:
    def apply(*arrays: Array) -> Array:
        _truth(*arrays)
        return function(*arrays)

    return lambda node, inputs, opset: Prepared(apply, _all(node, inputs, 1, 2))


def _clip(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    if opset < 11:
        low, high = (
            F32(node.attributes.get("min", np.finfo(F32).min)),
            F32(node.attributes.get("max", np.finfo(F32).max)),
        )
        return Prepared(lambda x: np.minimum(np.maximum(x, low), high), (0,))
    limits = [constant(inputs, 1, "minimum"), constant(inputs, 2, "maximum")]

    def apply(x: Array) -> Array:
        if limits[0] is not None:
            _same_type(x, limits[0])
            x = np.maximum(x, limits[0])
        if limits[1] is not None:
            _same_type(x, limits[1])
            x = np.minimum(x, limits[1])
        return x

    if any(limit is not None and limit.size != 1 for limit in limits):
        raise ValueError("its limits must be scalars")
    limits = [None if limit is None else limit.reshape(()) for limit in limits]
    return Prepared(apply, (0,))


def _cast(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    dtype = helper.tensor_dtype_to_np_dtype(int(node.attributes["to"]))
    if dtype.kind not in "fiub" or dtype in (np.float16, np.dtype("V2")):
        raise ValueError(f"a cast to {dtype} is not read here: use float32, bool or an integer type")
    return Prepared(lambda x: x.astype(dtype), (0,))


def _leaky_relu(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    alpha = F32(node.attributes.get("alpha", 0.01))
    return Prepared(lambda x: np.where(x >= 0, x, alpha * x), (0,))


def _p_relu(x: Array, slope: Array) -> Array:
    return np.where(x >= 0, x, x * slope)


def _dropout(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    training = constant(inputs, 2, "training mode")
    if training is not None and np.any(training):
        raise ValueError("it is in training mode: export the model in eval mode")
    if any(node.outputs[1:]):
        raise ValueError("its mask output is not read here")
    return Prepared(lambda x: x, (0,))


def _batch_norm(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    if node.attributes.get("training_mode", 0) or any(node.outputs[1:]):
        raise ValueError("it is in training mode: export the model in eval mode")
    operand = inputs[0]
    if operand is None or len(operand.shape) < 2:
        raise ValueError("it needs an input of rank 2 or more")
    names = ("scale", "bias", "mean", "variance")
    values = [required(inputs, index, name) for index, name in enumerate(names, 1)]
    for name, value in zip(names, values, strict=True):
        if value.dtype != F32 or value.shape != (operand.shape[1],):
            raise ValueError(f"its {name} is {value.dtype} {list(value.shape)}, not float32 [{operand.shape[1]}]")
        bad = np.flatnonzero(~np.isfinite(value))
        if len(bad):
            raise ValueError(f"its {name} is {value[bad[0]]} in channel {bad[0]}")
    scale, bias, mean, variance = values
    with np.errstate(all="ignore"):
        factor = scale * (F32(1) / np.sqrt(variance + F32(node.attributes.get("epsilon", 1e-5))))
        offset = bias - mean * factor
    bad = np.flatnonzero(~np.isfinite(factor) | ~np.isfinite(offset))
    if len(bad):
        raise ValueError(f"its variance {variance[bad[0]]} in channel {bad[0]} gives no finite scale")
    per_channel = (-1, *(1,) * (len(operand.shape) - 2))
    return Prepared(_scale_shift, (0, factor.reshape(per_channel), offset.reshape(per_channel)))


def _scale_shift(x: Array, factor: Array, offset: Array) -> Array:
    _same_type(x, factor)
    return x * factor + offset


def _bipolar_quant(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    _all(node, inputs, 2, 2)
    scale = _positive(required(inputs, 1, "scale"))

    def apply(x: Array, scale: Array) -> Array:
        _same_type(x, scale)
        return np.where(x >= 0, F32(1), F32(-1)) * scale

    return Prepared(apply, (0, scale))


def _positive(scale: Array) -> Array:
    if scale.dtype != F32 or not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        raise ValueError("its scale must be float32, positive and finite")
    return scale


_ROUNDING: dict[str, Callable[[Array], Array]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + F32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - F32(0.5)),
}


def _quant(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    _all(node, inputs, 4, 4)
    scale, zero = _positive(required(inputs, 1, "scale")), required(inputs, 2, "zero point")
    width = required(inputs, 3, "bit width")
    if zero.dtype != F32 or not np.all(np.isfinite(zero)):
        raise ValueError("its zero point must be float32 and finite")
    if width.dtype not in (F32, np.int32, np.int64):
        raise ValueError(f"its bit width is {width.dtype}, not float32")
    bits = float(width.reshape(-1)[0]) if width.size == 1 else 0
    if bits != int(bits) or not 1 <= bits <= 16:
        raise ValueError(f"its bit width must be one integer in 1..16, not {width.reshape(-1)[:4].tolist()}")
    if "signed" not in node.attributes or "narrow" not in node.attributes:
        raise ValueError("it needs the attributes signed and narrow")
    signed, narrow = (bool(node.attributes[key]) for key in ("signed", "narrow"))
    mode = str(node.attributes.get("rounding_mode", "ROUND")).upper()
    if mode not in _ROUNDING:
        raise ValueError(f"its rounding mode {mode!r} is none of {', '.join(_ROUNDING)}")
    if bits == 1 and signed:
        return Prepared(lambda x, s, z: (np.where(x / s + z >= 0, F32(1), F32(-1)) - z) * s, (0, scale, zero))
    half = 2.0 ** (bits - 1)
    low = F32(-half + narrow if signed else 0)
    high = F32(half - 1 if signed else 2 * half - 1 - narrow)

    def apply(x: Array, scale: Array, zero: Array) -> Array:
        _same_type(x, scale)
        return (_ROUNDING[mode](np.maximum(np.minimum(x / scale + zero, high), low)) - zero) * scale

    return Prepared(apply, (0, scale, zero))


_CHANNEL_AXIS = {"NCHW": 1, "NHWC": 3, "NC": 1, "NCW": 1, "NWC": 2}


def _multi_threshold(node: Node, inputs: Sequence[Operand | None], opset: int) -> Prepared:
    _all(node, inputs, 2, 2)
    thresholds, operand = required(inputs, 1, "thresholds"), inputs[0]
    assert operand is not None
    rank = len(operand.shape)
    layout = str(node.attributes.get("data_layout", "")) or {2: "NC", 3: "NWC", 4: "NCHW"}.get(rank, "")
    axis = _CHANNEL_AXIS.get(layout, -1)
    if len(layout) != rank or axis < 0:
        raise ValueError(f"its layout {layout!r} does not suit an input of rank {rank}")
    channels = operand.shape[axis]
    if thresholds.ndim != 2 or thresholds.dtype != F32 or thresholds.shape[0] not in (1, channels):
        raise ValueError(f"its thresholds are {thresholds.dtype} {list(thresholds.shape)}, not float32 [{channels}, n]")
    if np.any(np.isnan(thresholds)):
        raise ValueError("a threshold is not a number")
    if not 1 <= thresholds.shape[1] <= 255:
        raise ValueError(f"it has {thresholds.shape[1]} thresholds a channel: 1 to 255 are read here")
    scale, bias = (F32(node.attributes.get(key, default)) for key, default in (("out_scale", 1.0), ("out_bias", 0.0)))

    def apply(x: Array, *limits: Array) -> Array:
        reached = np.zeros(np.broadcast_shapes(x.shape, limits[0].shape), x.dtype)
        for limit in limits:
            _same_type(x, limit)
            reached += x >= limit
        return scale * reached + bias

    shape = (-1, *(1,) * (rank - 1 - axis))
    return Prepared(apply, (0, *(column.reshape(shape) for column in thresholds.T)))


_STANDARD: dict[str, Preparer] = {
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _binary(_divide),
    "Pow": _power,
    "Max": _extreme(np.maximum),
    "Min": _extreme(np.minimum),
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Sqrt": _unary(np.sqrt),
    "Reciprocal": _unary(lambda x: F32(1) / x),
    "Relu": _unary(lambda x: np.maximum(x, x.dtype.type(0))),
    "LeakyRelu": _leaky_relu,
    "PRelu": lambda node, inputs, opset: Prepared(_p_relu, _all(node, inputs, 2, 2)),
    "Sign": _unary(np.sign),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Round": _unary(np.round),
    "Identity": _unary(lambda x: x),
    "Not": _logical(np.logical_not),
    "And": _logical(np.logical_and),
    "Or": _logical(np.logical_or),
    "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal),
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
    "Equal": _binary(np.equal),
    "Where": _where,
    "Clip": _clip,
    "Cast": _cast,
    "Dropout": _dropout,
    "BatchNormalization": _batch_norm,
}
_QONNX: dict[str, Preparer] = {
    "BipolarQuant": _bipolar_quant,
    "Quant": _quant,
    "IntQuant": _quant,
    "MultiThreshold": _multi_threshold,
}
SUPPORTED_ELEMENTWISE = (*_STANDARD, *_QONNX)

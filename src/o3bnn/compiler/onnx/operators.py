"""Layers and pools: from an ONNX node and its constants to a `Layer` of the chain."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from o3bnn.compiler.onnx.chain import Chain
from o3bnn.compiler.onnx.graph import QONNX, Array, Node
from o3bnn.compiler.onnx.layers import binary_weights
from o3bnn.compiler.onnx.symbolic import Symbol, max_pool
from o3bnn.model import ConvGeometry, Pooling

Value = Symbol | Array
Pads = tuple[int, int, int, int]


def _conv(chain: Chain, node: Node, values: Sequence[Value | None]) -> Symbol:
    x, weights = _data(node, values), _constant(node, values, 1, "weights")
    bias = _constant(node, values, 2, "bias") if len(values) > 2 and values[2] is not None else None
    if weights.ndim != 4:
        raise node.error(f"its weights have shape {list(weights.shape)}: only 2-D convolutions are read")
    outputs, group_channels, *kernel = weights.shape
    groups = int(node.attributes.get("group", 1))
    _no_dilation(node, 2)
    if list(node.attributes.get("kernel_shape", kernel)) != list(kernel):
        raise node.error(f"its kernel_shape does not fit its weights {list(weights.shape)}")
    inner, (height, width, channels) = x.planes(node), x.map_shape
    if group_channels * groups != channels:
        raise node.error(f"its weights {list(weights.shape)} in {groups} groups do not fit {channels} channels")
    strides = _ints(node, "strides", [1, 1], 2)
    own = _pads(node, (height + inner[0] + inner[2], width + inner[1] + inner[3]), kernel, strides)
    padding = x.padding if any(inner) and x.padding is not None else 0.0
    if any(own) and padding != 0:
        raise node.error(f"it pads with 0 what a Pad before it has padded with {padding:g}")
    pads = (inner[0] + own[0], inner[1] + own[1], inner[2] + own[2], inner[3] + own[3])
    geometry = ConvGeometry(
        height, width, channels, outputs, (kernel[0], kernel[1]), (strides[0], strides[1]), pads, groups
    )
    signs, magnitudes = binary_weights(node, weights.transpose(0, 2, 3, 1).reshape(outputs, -1))
    symbol = chain.layer(node, x, geometry, signs, magnitudes, padding=padding, dense=False)
    if bias is None:
        return symbol
    _check_vector(node, bias, outputs, "bias")
    return chain.step(node, symbol, lambda sums, b: sums + b, bias)


def _matmul(chain: Chain, node: Node, values: Sequence[Value | None]) -> Symbol:
    x, weights = _data(node, values), _constant(node, values, 1, "weights")
    if weights.ndim != 2:
        raise node.error(f"its weights have shape {list(weights.shape)}, not [features, outputs]")
    return _dense(chain, node, x, weights.T)


def _gemm(chain: Chain, node: Node, values: Sequence[Value | None]) -> Symbol:
    x, weights = _data(node, values), _constant(node, values, 1, "weights")
    if node.attributes.get("transA", 0) or node.attributes.get("transB", 0) not in (0, 1):
        raise node.error("it needs transA = 0 and transB = 0 or 1")
    if weights.ndim != 2 or len(x.shape) != 2:
        raise node.error(f"it needs matrices, not {list(x.shape)} and {list(weights.shape)}")
    weights = weights if node.attributes.get("transB", 0) else weights.T
    alpha, beta = (float(node.attributes.get(key, 1.0)) for key in ("alpha", "beta"))
    if not np.isfinite(alpha) or not np.isfinite(beta) or alpha == 0:
        raise node.error("its alpha and beta must be finite, alpha not 0")
    bias = np.zeros(len(weights), np.float32)
    if len(values) > 2 and values[2] is not None:
        given = _constant(node, values, 2, "bias")
        if given.dtype != np.float32 or given.ndim > 2 or (given.ndim == 2 and given.shape[0] != 1):
            raise node.error(f"its bias is {given.dtype} {list(given.shape)}, not float32 [{len(weights)}]")
        bias = np.broadcast_to(given.reshape(-1) * np.float32(beta), bias.shape)
    symbol = _dense(chain, node, x, weights, bias)
    _check_vector(node, bias, len(weights), "bias")
    return chain.step(node, symbol, lambda s, b: (s.astype(np.float64) * alpha + b).astype(np.float32), bias)


def _xnor_popcount(chain: Chain, node: Node, values: Sequence[Value | None]) -> Symbol:
    x, weights = _data(node, values), _constant(node, values, 1, "weights")
    if weights.ndim != 2 or not np.isin(weights, (0, 1)).all():
        raise node.error("its weights must be a matrix of 0 and 1")
    symbol = _dense(chain, node, x, (2 * weights - 1).astype(np.float32).T, popcount=True)
    half, fan_in = np.float32(0.5), np.float32(len(weights))
    return chain.step(node, symbol, lambda sums: (sums + fan_in) * half)


def _dense(
    chain: Chain, node: Node, x: Symbol, weights: Array, bias: Array | None = None, popcount: bool = False
) -> Symbol:
    """A dense layer; weights [outputs, features] in the order of the graph's features."""
    if len(x.shape) < 2 or any(size != 1 for size in x.shape[1:-1]):
        raise node.error(f"its input has shape {list(x.shape)}: it needs [images, features] (flatten it first)")
    order = x.features(node)
    outputs, features = weights.shape
    if features != len(order):
        raise node.error(f"its weights are for {features} features, but its input has {len(order)}")
    signs, magnitudes = binary_weights(node, weights)
    arranged = np.empty_like(signs)
    arranged[:, order] = signs
    geometry = ConvGeometry(1, 1, features, outputs)
    lead = (*x.shape[:-1], outputs)
    return chain.layer(
        node, x, geometry, arranged, magnitudes, dense=True, bias=bias, popcount=popcount, out_shape=lead
    )


def _max_pool(chain: Chain, node: Node, values: Sequence[Value | None]) -> Symbol:
    x = _data(node, values)
    if any(node.outputs[1:]):
        raise node.error("its indices output is not read here")
    if len(x.shape) != 4:
        raise node.error(f"its input has shape {list(x.shape)}: only 2-D pools are read")
    _no_dilation(node, 2)
    size = _ints(node, "kernel_shape", None, 2)
    strides = _ints(node, "strides", [1, 1], 2)
    sides = x.shape[2:]
    if any(_pads(node, (sides[0], sides[1]), size, strides)):
        raise node.error("its windows reach beyond the map: only pools without padding are read")
    ragged = any((side - k) % s for side, k, s in zip(sides, size, strides, strict=True))
    if node.attributes.get("ceil_mode", 0) and ragged:
        raise node.error(f"ceil_mode = 1 adds a partial window on a map of {sides[0]} x {sides[1]}: use ceil_mode = 0")
    return max_pool(x, node, Pooling((size[0], size[1]), (strides[0], strides[1])))


def _global_max_pool(chain: Chain, node: Node, values: Sequence[Value | None]) -> Symbol:
    x = _data(node, values)
    if len(x.shape) != 4:
        raise node.error(f"its input has shape {list(x.shape)}: only 2-D pools are read")
    sides = (x.shape[2], x.shape[3])
    return max_pool(x, node, Pooling(sides, sides))


def _pad(chain: Chain, node: Node, values: Sequence[Value | None]) -> Symbol:
    x = _data(node, values)
    if node.attributes.get("mode", "constant") != "constant":
        raise node.error("only padding with a constant is read")
    if "pads" in node.attributes:
        amounts, value = list(node.attributes["pads"]), float(node.attributes.get("value", 0.0))
    else:
        amounts = _constant(node, values, 1, "pads").reshape(-1).tolist()
        given = values[2] if len(values) > 2 else None
        value = 0.0 if given is None else float(_constant(node, values, 2, "value").reshape(-1)[0])
    rank = len(x.shape)
    axes = _constant(node, values, 3, "axes").tolist() if len(values) > 3 and values[3] is not None else range(rank)
    widths = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        widths[axis] = (int(amounts[position]), int(amounts[position + len(amounts) // 2]))
    return chain.pad(node, x, widths, value)


def _check_tail(node: Node, x: Symbol, values: Sequence[Value | None]) -> None:
    """A softmax or argmax over the classes, which changes nothing about the class."""
    axis = int(node.attributes.get("axis", 0 if node.operator == "ArgMax" else -1))
    if len(x.shape) != 2 or axis not in (1, -1):
        raise node.error(f"on an input of shape {list(x.shape)} it must work along the classes, axis 1")
    if not node.attributes.get("largest", 1) or node.attributes.get("select_last_index", 0):
        raise node.error("it must choose the greatest logit, the first on ties")


def _data(node: Node, values: Sequence[Value | None]) -> Symbol:
    if not values or not isinstance(values[0], Symbol):
        raise node.error("its first input must be the data, the others constants")
    return values[0]


def _constant(node: Node, values: Sequence[Value | None], index: int, what: str) -> Array:
    value = values[index] if index < len(values) else None
    if not isinstance(value, np.ndarray):
        state = "is missing" if value is None else "depends on the image"
        raise node.error(f"its {what} (input {index}) {state}: it must be constant")
    return value


def _check_vector(node: Node, values: Array, size: int, what: str) -> None:
    if values.dtype != np.float32 or values.shape != (size,):
        raise node.error(f"its {what} is {values.dtype} {list(values.shape)}, not float32 [{size}]")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise node.error(f"its {what} is {values[bad[0]]} in channel {bad[0]}")


def _ints(node: Node, key: str, default: list[int] | None, count: int) -> list[int]:
    value: Any = node.attributes.get(key, default)
    if value is None or len(value) != count:
        raise node.error(f"its {key} must be {count} integers")
    return [int(size) for size in value]


def _no_dilation(node: Node, count: int) -> None:
    if any(step != 1 for step in _ints(node, "dilations", [1] * count, count)):
        raise node.error("dilation is not supported: only dilations of 1 are read")


def _pads(node: Node, sides: tuple[int, int], kernel: Sequence[int], strides: Sequence[int]) -> Pads:
    """Padding (top, left, bottom, right) of a node, from pads or auto_pad."""
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = _ints(node, "pads", [0] * 4, 4)
        return pads[0], pads[1], pads[2], pads[3]
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.error(f"its auto_pad {mode!r} is not known")
    before, after = [], []
    for side, size, stride in zip(sides, kernel, strides, strict=True):
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before[0], before[1], after[0], after[1]


LAYERS: dict[tuple[str, str], Callable[[Chain, Node, Sequence[Value | None]], Symbol]] = {
    ("", "Conv"): _conv,
    ("", "MatMul"): _matmul,
    ("", "Gemm"): _gemm,
    (QONNX, "XnorPopcountMatMul"): _xnor_popcount,
    ("", "MaxPool"): _max_pool,
    ("", "GlobalMaxPool"): _global_max_pool,
    ("", "Pad"): _pad,
}
TAILS: dict[tuple[str, str], Callable[[Node, Symbol, Sequence[Value | None]], None]] = {
    ("", operator): _check_tail for operator in ("Softmax", "LogSoftmax", "ArgMax", "TopK")
}

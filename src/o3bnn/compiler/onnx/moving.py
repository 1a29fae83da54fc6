"""Operators that move elements, and those that only constants go through."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from o3bnn.compiler.onnx.graph import Array, Node
from o3bnn.compiler.onnx.symbolic import MAX_ELEMENTS

Constants = Sequence[Array | None]


def _axes(node: Node, constants: Constants, key: str = "axes") -> list[int] | None:
    """Axes as an attribute (before opset 13) or as the second input."""
    if key in node.attributes:
        return [int(axis) for axis in node.attributes[key]]
    value = constants[1] if len(constants) > 1 else None
    if value is not None and (value.dtype != np.int64 or value.ndim != 1):
        raise ValueError(f"its axes are {value.dtype} {list(value.shape)}, not an int64 vector")
    return None if value is None else [int(axis) for axis in value.reshape(-1)]


def _reshape(node: Node, x: Array, constants: Constants) -> Array:
    target = constants[1]
    if target is None or target.dtype != np.int64 or target.ndim != 1:
        raise ValueError("its shape must be a constant int64 vector")
    sizes = [int(size) for size in target]
    if not node.attributes.get("allowzero", 0):
        if any(size == 0 and axis >= x.ndim for axis, size in enumerate(sizes)):
            raise ValueError(f"its shape {sizes} copies an axis that the input does not have")
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    if any(size < -1 for size in sizes):
        raise ValueError(f"its shape {sizes} has a negative size")
    return x.reshape(sizes)


def _flatten(node: Node, x: Array, constants: Constants) -> Array:
    axis = int(node.attributes.get("axis", 1))
    if not -x.ndim <= axis <= x.ndim:
        raise ValueError(f"its axis {axis} is outside of the input's {x.ndim} axes")
    axis += x.ndim if axis < 0 else 0
    return x.reshape(prod(x.shape[:axis]), -1)


def _transpose(node: Node, x: Array, constants: Constants) -> Array:
    order = node.attributes.get("perm")
    if order is not None and sorted(order) != list(range(x.ndim)):
        raise ValueError(f"its perm {list(order)} is no order of {x.ndim} axes")
    return x.transpose(order)


def _squeeze(node: Node, x: Array, constants: Constants) -> Array:
    axes = _axes(node, constants)
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def _unsqueeze(node: Node, x: Array, constants: Constants) -> Array:
    axes = _axes(node, constants)
    if axes is None:
        raise ValueError("its axes must be constant")
    return np.expand_dims(x, tuple(axes))


MOVING: dict[str, Callable[[Node, Array, Constants], Array]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}


def shape_of(node: Node, shape: Sequence[int]) -> Array:
    """What Shape yields."""
    start, end = int(node.attributes.get("start", 0)), node.attributes.get("end")
    return np.array(shape[start : None if end is None else int(end)], np.int64)


def fold(node: Node, constants: Constants) -> Array:
    """The value of an operator that is neither elementwise nor moving, on constants only.

    Raises ValueError where it is not supported or its inputs do not suit.
    """
    operation = _FOLDING.get(node.operator)
    if operation is None:
        raise ValueError("this operator is not read here, not even on constants")
    return np.asarray(operation(node, constants))


def _needed(constants: Constants, index: int) -> Array:
    value = constants[index] if index < len(constants) else None
    if value is None:
        raise ValueError(f"its input {index} is missing")
    return value


def _constant(node: Node, constants: Constants) -> Array:
    kinds = {
        "value": None,
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    for key, dtype in kinds.items():
        if key in node.attributes:
            return np.asarray(node.attributes[key], dtype)
    raise ValueError("only dense numeric constants are read here")


def _constant_of_shape(node: Node, constants: Constants) -> Array:
    sizes = [int(size) for size in _needed(constants, 0)]
    _check_size(prod(sizes))
    value = node.attributes.get("value", np.zeros(1, np.float32))
    return np.full(sizes, value.reshape(-1)[0], value.dtype)


def _check_size(elements: int) -> None:
    if not 0 <= elements <= MAX_ELEMENTS:
        raise ValueError(f"its result would have {elements} elements: {MAX_ELEMENTS} are the limit")


def _expand(node: Node, constants: Constants) -> Array:
    x = _needed(constants, 0)
    shape = np.broadcast_shapes(x.shape, tuple(int(size) for size in _needed(constants, 1)))
    _check_size(prod(shape))
    return np.broadcast_to(x, shape)


def _gather(node: Node, constants: Constants) -> Array:
    x, indices = _needed(constants, 0), _needed(constants, 1)
    _check_size(x.size * max(1, indices.size))
    return np.take(x, indices, axis=int(node.attributes.get("axis", 0)))


def _concat(node: Node, constants: Constants) -> Array:
    parts = [_needed(constants, index) for index in range(len(constants))]
    if len({part.dtype for part in parts}) > 1:
        raise ValueError("its inputs have different types")
    return np.concatenate(parts, axis=int(node.attributes["axis"]))


def _slice(node: Node, constants: Constants) -> Array:
    x = _needed(constants, 0)
    if "starts" in node.attributes:
        starts, ends = list(node.attributes["starts"]), list(node.attributes["ends"])
        axes, steps = list(node.attributes.get("axes", range(len(starts)))), [1] * len(starts)
    else:
        starts, ends = (_needed(constants, index).reshape(-1).tolist() for index in (1, 2))
        axes = constants[3].tolist() if len(constants) > 3 and constants[3] is not None else list(range(len(starts)))
        steps = constants[4].tolist() if len(constants) > 4 and constants[4] is not None else [1] * len(starts)
    if any(step == 0 for step in steps):
        raise ValueError("its step is 0")
    slices = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        before = step < 0 and end < -x.shape[axis]  # an end before the first element, when it goes backwards
        slices[axis] = slice(int(start), None if before else int(end), int(step))
    return np.asarray(x[tuple(slices)])


def _range(node: Node, constants: Constants) -> Array:
    start, limit, delta = (_needed(constants, index).reshape(-1)[0] for index in range(3))
    if delta == 0:
        raise ValueError("its step is 0")
    _check_size(max(0, int(-((start - limit) // delta))))
    return np.arange(start, limit, delta, dtype=_needed(constants, 0).dtype)


def _reduce_product(node: Node, constants: Constants) -> Array:
    axes = _axes(node, constants)
    keep = bool(node.attributes.get("keepdims", 1))
    x = _needed(constants, 0)
    return np.asarray(np.prod(x, axis=None if axes is None else tuple(axes), keepdims=keep, dtype=x.dtype))


_FOLDING: dict[str, Callable[[Node, Constants], Array]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Shape": lambda node, constants: shape_of(node, _needed(constants, 0).shape),
    "Size": lambda node, constants: np.array(_needed(constants, 0).size, np.int64),
    "Expand": _expand,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Range": _range,
    "ReduceProd": _reduce_product,
}
SUPPORTED_ON_CONSTANTS = tuple(_FOLDING)

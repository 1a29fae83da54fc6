"""Shapes of a sliding window over a feature map, and the border classes that padding creates.

A padded edge does not exist, so near the border a neuron has fewer edges. Output rows that see the same range of kernel
rows form a row class, and likewise columns; a border class is a pair of both:

    class = row_class * len(column_classes) + column_class

Classes are numbered in order of first appearance from the top (left). Without padding there is one class, 0.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from o3bnn.errors import InvalidNetworkError

MAX_SIDE = 1 << 16
MAX_CHANNELS = 1 << 24
MAX_MAP = 1 << 27
MAX_FAN_IN = 1 << 22
MAX_CLASS_EDGES = 1 << 26

Span = tuple[int, int]


@dataclass(frozen=True)
class AxisClasses:
    """Border classes along one axis.

    spans: per class, the half-open range of kernel indices that fall inside the map.
    index: per output index, its class.
    """

    spans: tuple[Span, ...]
    index: tuple[int, ...]


def output_size(size: int, kernel: int, stride: int, before: int = 0, after: int = 0) -> int:
    """Number of window positions along an axis (floor mode); zero or less where the window does not fit."""
    return (size + before + after - kernel) // stride + 1


def axis_classes(size: int, kernel: int, stride: int, before: int, after: int) -> AxisClasses:
    """Border classes of the output indices along one axis of length `size`."""
    spans: dict[Span, int] = {}
    index: list[int] = []
    for position in range(output_size(size, kernel, stride, before, after)):
        first = position * stride - before
        low = min(max(0, -first), kernel)
        high = max(min(kernel, size - first), low)
        index.append(spans.setdefault((low, high), len(spans)))
    return AxisClasses(tuple(spans), tuple(index))


@dataclass(frozen=True)
class ConvGeometry:
    """Shape of a convolution over an NHWC map. A dense layer is a 1 x 1 kernel on a 1 x 1 map.

    kernel, stride: (rows, columns). padding: (top, left, bottom, right). groups divides both channel counts.
    """

    in_height: int
    in_width: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        for field in ("in_height", "in_width", "in_channels", "out_channels", "groups"):
            check_range(field, getattr(self, field), 1, MAX_CHANNELS)
        for field, length, low in (("kernel", 2, 1), ("stride", 2, 1), ("padding", 4, 0)):
            check_sides(field, getattr(self, field), length, low)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise InvalidNetworkError(
                f"groups = {self.groups} does not divide {self.in_channels} input "
                f"and {self.out_channels} output channels"
            )
        if self.in_height > MAX_SIDE or self.in_width > MAX_SIDE:
            raise InvalidNetworkError(
                f"a map of {self.in_height} x {self.in_width} is larger than {MAX_SIDE} on a side"
            )
        if self.out_height < 1 or self.out_width < 1:
            raise InvalidNetworkError(
                f"kernel {self.kernel} does not fit a map of {self.in_height} x {self.in_width} "
                f"with padding {self.padding}"
            )
        check_map("padded input map", self._padded_elements)
        check_map("output map", self.outputs)
        if self.full_fan_in > MAX_FAN_IN:
            raise InvalidNetworkError(f"fan-in {self.full_fan_in} is above {MAX_FAN_IN}")
        if self.class_count * self.full_fan_in > MAX_CLASS_EDGES:
            raise InvalidNetworkError(
                f"{self.class_count} border classes of fan-in {self.full_fan_in} are too many: "
                f"their product is above {MAX_CLASS_EDGES}"
            )

    @property
    def _padded_elements(self) -> int:
        top, left, bottom, right = self.padding
        return (self.in_height + top + bottom) * (self.in_width + left + right) * self.in_channels

    @property
    def out_height(self) -> int:
        return output_size(self.in_height, self.kernel[0], self.stride[0], self.padding[0], self.padding[2])

    @property
    def out_width(self) -> int:
        return output_size(self.in_width, self.kernel[1], self.stride[1], self.padding[1], self.padding[3])

    @property
    def outputs(self) -> int:
        """Number of neurons: out_height * out_width * out_channels."""
        return self.out_height * self.out_width * self.out_channels

    @property
    def group_channels(self) -> int:
        """Input channels that one neuron reads."""
        return self.in_channels // self.groups

    @property
    def full_fan_in(self) -> int:
        """Edges of a neuron away from every border: kernel rows * kernel columns * group_channels."""
        return self.kernel[0] * self.kernel[1] * self.group_channels

    @cached_property
    def row_classes(self) -> AxisClasses:
        return axis_classes(self.in_height, self.kernel[0], self.stride[0], self.padding[0], self.padding[2])

    @cached_property
    def column_classes(self) -> AxisClasses:
        return axis_classes(self.in_width, self.kernel[1], self.stride[1], self.padding[1], self.padding[3])

    @property
    def class_count(self) -> int:
        return len(self.row_classes.spans) * len(self.column_classes.spans)

    @cached_property
    def class_map(self) -> npt.NDArray[np.int64]:
        """Border class of every output position: int64 [out_height, out_width]."""
        rows, columns = np.array(self.row_classes.index), np.array(self.column_classes.index)
        return np.asarray(rows[:, None] * len(self.column_classes.spans) + columns[None, :], np.int64)

    @cached_property
    def class_masks(self) -> npt.NDArray[np.bool_]:
        """Which edges exist in each class: bool [class_count, full_fan_in], edges in (row, column, channel) order."""
        masks = np.zeros((self.class_count, *self.kernel, self.group_channels), np.bool_)
        for r, (top, bottom) in enumerate(self.row_classes.spans):
            for c, (left, right) in enumerate(self.column_classes.spans):
                masks[r * len(self.column_classes.spans) + c, top:bottom, left:right] = True
        return masks.reshape(self.class_count, -1)

    @cached_property
    def class_fan_in(self) -> npt.NDArray[np.int64]:
        """Fan-in K of each border class: int64 [class_count]."""
        rows = np.array([high - low for low, high in self.row_classes.spans])
        columns = np.array([high - low for low, high in self.column_classes.spans])
        return np.asarray((rows[:, None] * columns[None, :]).reshape(-1) * self.group_channels, np.int64)


@dataclass(frozen=True)
class Pooling:
    """A max-pool over bits, without padding, floor mode: a window is settled by its decisive bit.

    size, stride: (rows, columns). Neurons that no window reads (remainder rows and columns) are not part of the
    network.
    """

    size: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        for field in ("size", "stride"):
            check_sides(f"pooling {field}", getattr(self, field), 2, 1)


def check_sides(field: str, sides: object, length: int, low: int) -> None:
    """Raise `InvalidNetworkError` unless `sides` is a tuple of `length` integers in low..MAX_SIDE."""
    if not isinstance(sides, tuple) or len(sides) != length:
        raise InvalidNetworkError(f"{field} = {sides!r} is not a tuple of {length} integers")
    for value in sides:
        check_range(field, value, low, MAX_SIDE)


def check_map(field: str, elements: int) -> None:
    """Raise `InvalidNetworkError` where a map has more than `MAX_MAP` elements."""
    if elements > MAX_MAP:
        raise InvalidNetworkError(f"{field} has {elements} elements, more than {MAX_MAP}")


def check_range(field: str, value: object, low: int, high: int) -> None:
    """Raise `InvalidNetworkError` unless `value` is an integer in low..high."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidNetworkError(f"{field} = {value!r} is not an integer in {low}..{high}")

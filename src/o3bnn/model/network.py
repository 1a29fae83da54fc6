"""The integer network: the one contract between compiler, engine, simulator and RTL.

A network is an input encoding, a chain of stages that turn bits into bits, and an output stage that turns bits into
logits. Everything is integer or bit but the output scale and offset. `reference.py` defines what each part computes;
this module says which networks exist.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from o3bnn.errors import InvalidNetworkError
from o3bnn.model import packing
from o3bnn.model.geometry import (
    MAX_CHANNELS,
    MAX_FAN_IN,
    ConvGeometry,
    Pooling,
    check_map,
    check_range,
    check_sides,
    output_size,
)

PaddingMode = Literal["zero", "minus_one", "plus_one"]
PADDING_MODES: tuple[PaddingMode, ...] = ("zero", "minus_one", "plus_one")
MapShape = tuple[int, int, int]

MAX_STAGES = 1024
MAX_SUM = (1 << 31) - 1


def default_table() -> npt.NDArray[np.int16]:
    """The usual input encoding, x = 2p - 255: int16 [256]."""
    return (2 * np.arange(256) - 255).astype(np.int16)


@dataclass(frozen=True, eq=False)
class InputEncoding:
    """How an image becomes the first stage's operand.

    height, width, channels: the image that the network reads (channels 1: grey, 3: RGB).
    table: int16 [256], the integer that each 8-bit pixel value stands for. A table of only -1 and +1 yields bits.
    cover: (height, width) that an image of another size is scaled to cover, keeping its aspect ratio, before the centre
        height x width is cut out; by default the image's own size.
    """

    height: int
    width: int
    channels: int
    table: npt.NDArray[np.int16] = field(default_factory=default_table)
    cover: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        ConvGeometry(self.height, self.width, self.channels, 1)
        _check_array("input table", self.table, np.int16, (256,))
        cover = (self.height, self.width) if self.cover is None else self.cover
        check_sides("input cover", cover, 2, 1)
        if cover[0] < self.height or cover[1] < self.width:
            raise InvalidNetworkError(f"input cover {cover} does not cover {self.height} x {self.width}")
        check_map("input cover", cover[0] * cover[1] * self.channels)
        object.__setattr__(self, "cover", cover)
        _freeze(self, "table")

    @property
    def shape(self) -> MapShape:
        return self.height, self.width, self.channels

    @cached_property
    def is_binary(self) -> bool:
        """Whether the table yields bits (-1 and +1 only), so that the first stage is a binary one."""
        return bool(np.all(np.abs(self.table.astype(np.int32)) == 1))

    @cached_property
    def magnitude(self) -> int:
        """Largest absolute value in the table."""
        return int(np.abs(self.table.astype(np.int32)).max())


@dataclass(frozen=True, eq=False, kw_only=True)
class _Stage:
    """What convolution and dense stages share; see `ConvStage`."""

    name: str
    geometry: ConvGeometry
    weights: npt.NDArray[np.uint64]
    thresholds: npt.NDArray[np.int32]
    integer_input: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        g = self.geometry
        _check_weights(self.name, self.weights, g.out_channels, g.full_fan_in)
        _check_array(f"{self.name}: thresholds", self.thresholds, np.int32, (g.class_count, g.out_channels))
        _freeze(self, "weights", "thresholds")

    @property
    def in_shape(self) -> MapShape:
        g = self.geometry
        return g.in_height, g.in_width, g.in_channels

    @property
    def conv_shape(self) -> MapShape:
        """Shape of the neurons' bits, before pooling."""
        g = self.geometry
        return g.out_height, g.out_width, g.out_channels

    def weight_bits(self) -> npt.NDArray[np.uint8]:
        """Weights as bits: uint8 [out_channels, full_fan_in], edges in (kernel row, kernel column, channel) order."""
        return packing.unpack(self.weights, self.geometry.full_fan_in)

    def score_limits(self, magnitude: int = 1) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Least and greatest score of a neuron in each border class: int64 [class_count] each.

        A score is the number of matches m (bits in), or the sum of weight times input (integers in, of at most
        `magnitude`).
        """
        fan_in = self.geometry.class_fan_in
        return (-fan_in * magnitude, fan_in * magnitude) if self.integer_input else (0 * fan_in, fan_in)

    def constant(self, magnitude: int = 1) -> npt.NDArray[np.int8]:
        """Neurons decided before their first edge: int8 [class_count, out_channels], the bit, or -1 where open."""
        low, high = self.score_limits(magnitude)
        open_or_one = np.where(self.thresholds <= low[:, None], 1, -1)
        return np.where(self.thresholds > high[:, None], 0, open_or_one).astype(np.int8)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvStage(_Stage):
    """A binary convolution with thresholds, and an optional max-pool over its bits.

    name: unique, not empty. geometry: shapes. weights: uint64 [out_channels, word_count(full_fan_in)], one row of
    packed edges a channel in (kernel row, kernel column, channel) order, bit 1 for weight +1.
    thresholds: int32 [class_count, out_channels]. A neuron of border class b fires iff its score >=
        thresholds[b, channel]; the score counts existing edges only: matches m (bits in, 0 <= t <= K + 1) or the signed
        sum (integers in). Padding of value -1 or +1 is already folded into the thresholds.
    decisive_bit: uint8 [out_channels], the bit that settles a window: 1 for an OR window (max), 0 for an AND window.
    pooling: windows over the neurons' bits, or None.
    padding_mode: the value that the padding had in the trained model; of no effect on what the stage computes.
    integer_input: whether the stage reads the encoded integers of the input rather than bits.
    """

    decisive_bit: npt.NDArray[np.uint8]
    pooling: Pooling | None = None
    padding_mode: PaddingMode = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.padding_mode not in PADDING_MODES:
            raise InvalidNetworkError(f"{self.name}: padding mode {self.padding_mode!r} is not one of {PADDING_MODES}")
        _check_array(f"{self.name}: decisive bits", self.decisive_bit, np.uint8, (self.geometry.out_channels,))
        wrong = np.flatnonzero(self.decisive_bit > 1)
        if len(wrong):
            raise InvalidNetworkError(
                f"{self.name}: decisive bit {self.decisive_bit[wrong[0]]} of channel {wrong[0]} is neither 0 nor 1"
            )
        _freeze(self, "decisive_bit")
        height, width, _ = self.out_shape
        if height < 1 or width < 1:
            raise InvalidNetworkError(f"{self.name}: {self.pooling} does not fit a map of {self.conv_shape}")

    @property
    def out_shape(self) -> MapShape:
        height, width, channels = self.conv_shape
        if self.pooling is None:
            return height, width, channels
        (rows, columns), (down, right) = self.pooling.size, self.pooling.stride
        return output_size(height, rows, down), output_size(width, columns, right), channels


@dataclass(frozen=True, eq=False, kw_only=True)
class DenseStage(_Stage):
    """A binary fully connected layer: a 1 x 1 convolution on the flattened (row, column, channel) input map.

    geometry: 1 x 1 kernel on a 1 x 1 map of in_features channels. weights and thresholds: as in `ConvStage`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        g = self.geometry
        if g != ConvGeometry(1, 1, g.in_channels, g.out_channels):
            raise InvalidNetworkError(f"{self.name}: a dense stage needs a plain 1 x 1 geometry, not {g}")

    @property
    def out_shape(self) -> MapShape:
        return self.conv_shape

    @property
    def pooling(self) -> None:
        return None

    @cached_property
    def decisive_bit(self) -> npt.NDArray[np.uint8]:
        return np.ones(self.geometry.out_channels, np.uint8)


Stage = ConvStage | DenseStage


@dataclass(frozen=True, eq=False, kw_only=True)
class OutputStage:
    """The last layer: integer sums and logits = float32(float32(sum) * scale) + offset, two roundings.

    weights: uint64 [classes, word_count(in_features)] on the flattened map. scale, offset: float32 [classes].
    """

    name: str
    in_features: int
    weights: npt.NDArray[np.uint64]
    scale: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_name(self.name)
        classes = len(self.weights) if isinstance(self.weights, np.ndarray) and self.weights.ndim == 2 else 0
        check_range(f"{self.name}: in_features", self.in_features, 1, MAX_FAN_IN)
        check_range(f"{self.name}: classes (rows of its weights)", classes, 1, MAX_CHANNELS)
        _check_weights(self.name, self.weights, classes, self.in_features)
        for field_name, array in (("scale", self.scale), ("offset", self.offset)):
            _check_array(f"{self.name}: {field_name}", array, np.float32, (classes,))
            wrong = np.flatnonzero(~np.isfinite(array))
            if len(wrong):
                raise InvalidNetworkError(
                    f"{self.name}: {field_name} of class {wrong[0]} is {array[wrong[0]]}: it must be finite"
                )
        _freeze(self, "weights", "scale", "offset")

    @property
    def classes(self) -> int:
        return int(self.weights.shape[0])

    def weight_bits(self) -> npt.NDArray[np.uint8]:
        """Weights as bits: uint8 [classes, in_features]."""
        return packing.unpack(self.weights, self.in_features)


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A whole network, validated once, immutable.

    name: of the model. stages: in order; the first reads the encoded image. class_names: one a class, or empty.
    metadata: free text about the model (source, data, accuracy), kept in the artifact.
    """

    name: str
    input: InputEncoding
    stages: tuple[Stage, ...]
    output: OutputStage
    class_names: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "class_names", _check_class_names(self.class_names))
        object.__setattr__(self, "metadata", _check_metadata(self.metadata))
        if len(self.stages) > MAX_STAGES:
            raise InvalidNetworkError(f"{len(self.stages)} stages are more than {MAX_STAGES}")
        names = [stage.name for stage in self.stages] + [self.output.name]
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise InvalidNetworkError(f"stage names are not unique: {name!r} comes {count} times")
        if self.class_names and len(self.class_names) != self.output.classes:
            raise InvalidNetworkError(f"{len(self.class_names)} class names for {self.output.classes} classes")
        shape = self.input.shape
        for index, stage in enumerate(self.stages):
            self._check_stage(index, stage, shape)
            shape = stage.out_shape
        if self.output.in_features != shape[0] * shape[1] * shape[2]:
            raise InvalidNetworkError(f"{self.output.name}: {self.output.in_features} inputs for a map of {shape}")
        if not self.stages and not self.input.is_binary:
            raise InvalidNetworkError("the output stage reads bits: add a hidden stage or an input table of -1 and +1")

    def _check_stage(self, index: int, stage: Stage, shape: MapShape) -> None:
        integers = index == 0 and not self.input.is_binary
        if stage.integer_input != integers:
            operand = "integers" if integers else "bits"
            raise InvalidNetworkError(
                f"{stage.name}: its input is {operand}, but integer_input = {stage.integer_input}"
            )
        flat = (1, 1, shape[0] * shape[1] * shape[2])
        if stage.in_shape != (flat if isinstance(stage, DenseStage) else shape):
            raise InvalidNetworkError(f"{stage.name}: expects a map of {stage.in_shape}, but gets {shape}")
        magnitude = self.input.magnitude if integers else 1
        if stage.geometry.full_fan_in * magnitude >= MAX_SUM:
            raise InvalidNetworkError(
                f"{stage.name}: fan-in {stage.geometry.full_fan_in} of inputs up to {magnitude} overflows 32-bit sums"
            )
        low, high = stage.score_limits(magnitude)
        outside = np.argwhere((stage.thresholds < low[:, None]) | (stage.thresholds > high[:, None] + 1))
        if len(outside):
            border, channel = outside[0]
            raise InvalidNetworkError(
                f"{stage.name}: threshold {stage.thresholds[border, channel]} of channel {channel}, "
                f"border class {border}, is outside of {low[border]}..{high[border] + 1}"
            )

    @property
    def out_shapes(self) -> tuple[MapShape, ...]:
        """Shape of every stage's output map."""
        return tuple(stage.out_shape for stage in self.stages)

    def magnitude(self, stage: Stage) -> int:
        """Largest absolute value of a stage's operand: the input table's for an integer stage, else 1."""
        return self.input.magnitude if stage.integer_input else 1


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name or len(name) > 256 or not name.isprintable():
        raise InvalidNetworkError(f"{name!r} is not a name: use 1 to 256 printable characters")


def _check_array(what: str, array: object, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
        found: Any = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InvalidNetworkError(f"{what}: expected {np.dtype(dtype)} {list(shape)}, got {found}")


def _check_weights(name: str, weights: object, rows: int, fan_in: int) -> None:
    _check_array(f"{name}: weights", weights, np.uint64, (rows, packing.word_count(fan_in)))
    assert isinstance(weights, np.ndarray)
    if not packing.padding_is_zero(weights, fan_in):
        raise InvalidNetworkError(f"{name}: weights have ones beyond the last edge of a row")


def _freeze(owner: object, *fields: str) -> None:
    """Replace array fields by read-only copies, so that nobody else holds a writable view."""
    for name in fields:
        array = np.array(getattr(owner, name), order="C")
        array.setflags(write=False)
        object.__setattr__(owner, name, array)


def _check_class_names(names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InvalidNetworkError(f"class_names = {names!r} is not a sequence of texts: pass one name a class, or none")
    found = tuple(names)
    for name in found:
        _check_text(name)
    return found


def _check_metadata(metadata: object) -> Mapping[str, str]:
    if not isinstance(metadata, Mapping):
        raise InvalidNetworkError(f"metadata = {metadata!r} is not a mapping: pass a dict of text to text")
    for text in (*metadata, *metadata.values()):
        _check_text(text)
    return MappingProxyType(dict(metadata))


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidNetworkError(f"class names and metadata are text, not {text!r}")

"""Hypothesis strategies for random networks, shared by every property test.

Shapes are drawn by hypothesis, so that failures shrink; weights, thresholds and pixels come from a NumPy generator
seeded by a drawn integer, so that examples stay small and reproducible.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from o3bnn.model import (
    ConvGeometry,
    ConvStage,
    DenseStage,
    InputEncoding,
    Network,
    OutputStage,
    Pooling,
    default_table,
    packing,
)
from o3bnn.model.network import PADDING_MODES, MapShape

CHANNELS = (1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 97, 128, 130)
KERNELS = (1, 2, 3, 5, 7, 11)
STRIDES = (1, 2, 4)
WHOLE_WORDS = ((128, 2), (192, 3))  # channels and groups of 64 channels each
POOLS = (None, ((2, 2), (2, 2)), ((3, 3), (2, 2)))


@dataclass(frozen=True)
class ConvSpec:
    """One random convolution: what both the integer network and the PyTorch module are built from."""

    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    padding_mode: str
    pool: tuple[tuple[int, int], tuple[int, int]] | None
    pool_first: bool
    groups: int
    bias: bool


@dataclass(frozen=True)
class Spec:
    """One random network."""

    image: MapShape
    encoding: str
    convs: tuple[ConvSpec, ...]
    dense: tuple[int, ...]
    classes: int
    seed: int


def out_shape(shape: MapShape, conv: ConvSpec) -> MapShape | None:
    """Shape after a convolution and its pool, or None where one of them does not fit."""
    sides = []
    for axis in (0, 1):
        side = (shape[axis] + 2 * conv.padding[axis] - conv.kernel[axis]) // conv.stride[axis] + 1
        if conv.pool is not None and side >= 1:
            side = (side - conv.pool[0][axis]) // conv.pool[1][axis] + 1
        if side < 1:
            return None
        sides.append(side)
    return sides[0], sides[1], conv.channels


@st.composite
def conv_specs(
    draw: st.DrawFn, in_channels: int, kernel: int | None, pool: object, small: bool, groups: int | None
) -> ConvSpec:
    side = draw(st.sampled_from(KERNELS)) if kernel is None else kernel
    square = draw(st.integers(0, 3)) > 0
    sides = (side, side if square else draw(st.sampled_from((1, 2, 3))))
    channels = draw(st.sampled_from(CHANNELS[:9] if small else CHANNELS)) if groups is None else in_channels
    divisors = [g for g in (1, 2, 3, 5) if in_channels % g == 0 and channels % g == 0]
    if groups is None:
        groups = draw(st.sampled_from(divisors)) if draw(st.integers(0, 3)) == 0 else 1
    stride = draw(st.sampled_from(STRIDES))
    return ConvSpec(
        channels=channels,
        kernel=sides,
        stride=(stride, stride if draw(st.booleans()) else draw(st.sampled_from(STRIDES))),
        padding=(draw(st.integers(0, sides[0] // 2)), draw(st.integers(0, sides[1] // 2))),
        padding_mode=draw(st.sampled_from(PADDING_MODES)),
        pool=draw(st.sampled_from(POOLS)) if pool == "any" else pool,  # type: ignore[arg-type]
        pool_first=draw(st.booleans()),
        groups=groups,
        bias=draw(st.integers(0, 3)) == 0,
    )


@st.composite
def specs(draw: st.DrawFn, kernel: int | None = None, pool: object = "any", small: bool = False) -> Spec:
    """Random networks; `kernel` and `pool` fix those of the first convolution, `small` keeps channels to 64.

    One in six, of those that are not small, has convolutions in groups of 64 channels only.
    """
    reach = 3 if kernel is None else kernel
    channels, groups = draw(st.sampled_from(CHANNELS[:4] if small else CHANNELS)), None
    if not small and draw(st.integers(0, 5)) == 0:
        channels, groups = draw(st.sampled_from(WHOLE_WORDS))
    image = (
        draw(st.integers(max(1, reach - 2), reach + 8)),
        draw(st.integers(max(1, reach - 2), reach + 8)),
        channels,
    )
    convs: list[ConvSpec] = []
    shape = image
    for index in range(draw(st.integers(0 if kernel is None else 1, 2))):
        first = index == 0
        conv = draw(conv_specs(shape[2], kernel if first else None, pool if first else "any", small, groups))
        after = out_shape(shape, conv)
        if after is None and first and kernel is not None:
            conv = ConvSpec(**{**conv.__dict__, "stride": (1, 1), "padding": tuple(k // 2 for k in conv.kernel)})
            grow = 2 if conv.pool is None else 4
            image = shape = (max(shape[0], reach + grow), max(shape[1], reach + grow), shape[2])
            after = out_shape(shape, conv)
        if after is None:
            break
        convs.append(conv)
        shape = after
    dense = tuple(draw(st.lists(st.sampled_from(CHANNELS), max_size=2)))
    encodings = ["pixel", "table", "bits"] if convs or dense else ["bits"]
    return Spec(image, draw(st.sampled_from(encodings)), tuple(convs), dense, draw(st.integers(1, 12)), draw(seeds()))


def seeds() -> st.SearchStrategy[int]:
    return st.integers(0, 2**32 - 1)


def table(spec: Spec, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """The input table of a network: the default one, small integers, or bits."""
    if spec.encoding == "pixel":
        return default_table()
    if spec.encoding == "bits":
        return np.where(np.arange(256) >= 128, 1, -1).astype(np.int16)
    return np.sort(rng.integers(-7, 9, 256)).astype(np.int16)


def random_bits(rng: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.uint64]:
    return packing.pack(rng.integers(0, 2, (rows, columns), dtype=np.uint8))


def random_thresholds(
    rng: np.random.Generator, g: ConvGeometry, integer: bool, magnitude: int
) -> npt.NDArray[np.int32]:
    """Mostly near the mean score, so that both bits occur; now and then constant, at or next to a limit."""
    fan_in = g.class_fan_in[:, None]
    low, high = (-fan_in * magnitude, fan_in * magnitude) if integer else (0 * fan_in, fan_in)
    spread = np.sqrt(fan_in) * (magnitude * 0.6 if integer else 0.5)
    middle = np.rint((low + high) / 2 + spread * rng.normal(0, 1.2, (1, g.out_channels)))
    edge = rng.choice([0, 1, 2], (1, g.out_channels))
    sort = rng.random((1, g.out_channels))
    values = np.where(sort < 0.06, low + edge, np.where(sort > 0.94, high + 1 - edge, middle))
    return np.clip(values, low, high + 1).astype(np.int32)


def build(spec: Spec) -> Network:
    """An integer network with random weights and thresholds (no PyTorch involved)."""
    rng = np.random.default_rng(spec.seed)
    encoding = InputEncoding(*spec.image, table=table(spec, rng))
    stages: list[ConvStage | DenseStage] = []
    shape = spec.image
    for conv in spec.convs:
        pads = (conv.padding[0], conv.padding[1], conv.padding[0], conv.padding[1])
        g = ConvGeometry(*shape, conv.channels, conv.kernel, conv.stride, pads, conv.groups)
        integer = not stages and not encoding.is_binary
        stages.append(
            ConvStage(
                name=f"conv{len(stages)}",
                geometry=g,
                weights=random_bits(rng, conv.channels, g.full_fan_in),
                thresholds=random_thresholds(rng, g, integer, encoding.magnitude),
                integer_input=integer,
                decisive_bit=rng.integers(0, 2, conv.channels, dtype=np.uint8),
                pooling=None if conv.pool is None else Pooling(*conv.pool),
                padding_mode=conv.padding_mode,  # type: ignore[arg-type]
            )
        )
        shape = stages[-1].out_shape
    features = shape[0] * shape[1] * shape[2]
    for width in spec.dense:
        g = ConvGeometry(1, 1, features, width)
        integer = not stages and not encoding.is_binary
        stages.append(
            DenseStage(
                name=f"dense{len(stages)}",
                geometry=g,
                weights=random_bits(rng, width, features),
                thresholds=random_thresholds(rng, g, integer, encoding.magnitude),
                integer_input=integer,
            )
        )
        features = width
    output = OutputStage(
        name="output",
        in_features=features,
        weights=random_bits(rng, spec.classes, features),
        scale=rng.normal(0, 1, spec.classes).astype(np.float32),
        offset=rng.normal(0, 1, spec.classes).astype(np.float32),
    )
    return Network(name="random", input=encoding, stages=tuple(stages), output=output)


def images(spec: Spec, count: int) -> npt.NDArray[np.uint8]:
    """Random uint8 images [count, h, w, c] of a network, reproducible from its seed."""
    return np.random.default_rng(spec.seed + 1).integers(0, 256, (count, *spec.image), dtype=np.uint8)


def networks(**options: object) -> st.SearchStrategy[tuple[Spec, Network]]:
    """Random integer networks with the specification that they were built from."""
    return specs(**options).map(lambda spec: (spec, build(spec)))  # type: ignore[arg-type]

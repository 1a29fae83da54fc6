"""Hand-picked awkward networks: a short way to write them down, weights and thresholds from a seed."""

from dataclasses import dataclass, field

import numpy as np

from o3bnn.model import ConvGeometry, ConvStage, DenseStage, InputEncoding, Network, OutputStage, Pooling, default_table
from tests.strategies import random_bits, random_thresholds

BITS = np.where(np.arange(256) >= 128, 1, -1).astype(np.int16)
EXTREME = np.linspace(-32768, 32767, 256).astype(np.int16)
NOTHING = np.zeros(256, np.int16)


@dataclass(frozen=True)
class Conv:
    channels: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    pool: tuple[tuple[int, int], tuple[int, int]] | None = None


@dataclass(frozen=True)
class Recipe:
    image: tuple[int, int, int]
    convs: tuple[Conv, ...] = ()
    dense: tuple[int, ...] = ()
    table: np.ndarray = field(default_factory=default_table)
    classes: int = 3
    seed: int = 0


def build(recipe: Recipe) -> Network:
    rng = np.random.default_rng(recipe.seed)
    encoding = InputEncoding(*recipe.image, table=recipe.table)
    stages: list[ConvStage | DenseStage] = []
    shape = recipe.image

    def operands(g: ConvGeometry, name: str) -> dict[str, object]:
        integer = not stages and not encoding.is_binary
        return {
            "name": name,
            "geometry": g,
            "weights": random_bits(rng, g.out_channels, g.full_fan_in),
            "thresholds": random_thresholds(rng, g, integer, encoding.magnitude),
            "integer_input": integer,
        }

    for index, conv in enumerate(recipe.convs):
        g = ConvGeometry(*shape, conv.channels, conv.kernel, conv.stride, conv.padding, conv.groups)
        stages.append(
            ConvStage(
                **operands(g, f"conv{index}"),
                decisive_bit=rng.integers(0, 2, conv.channels, dtype=np.uint8),
                pooling=conv.pool and Pooling(*conv.pool),
            )
        )
        shape = stages[-1].out_shape
    features = shape[0] * shape[1] * shape[2]
    for index, width in enumerate(recipe.dense):
        stages.append(DenseStage(**operands(ConvGeometry(1, 1, features, width), f"dense{index}")))
        features = width
    output = OutputStage(
        name="output",
        in_features=features,
        weights=random_bits(rng, recipe.classes, features),
        scale=rng.normal(0, 1, recipe.classes).astype(np.float32),
        offset=rng.normal(0, 1, recipe.classes).astype(np.float32),
    )
    return Network(name="awkward", input=encoding, stages=tuple(stages), output=output)


def images(network: Network, count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *network.input.shape), dtype=np.uint8)


AWKWARD = {
    "no stage": Recipe((3, 2, 5), table=BITS),
    "one pixel, one channel": Recipe((1, 1, 1), (Conv(1, (1, 1)),), (1,), BITS, classes=1),
    "no edges at the border": Recipe((3, 4, 5), (Conv(9, (1, 2), padding=(1, 2, 2, 1)), Conv(6, (2, 2))), (4,)),
    "lopsided padding": Recipe(
        (5, 6, 3), (Conv(17, (3, 3), padding=(0, 2, 1, 0)), Conv(65, (2, 3), padding=(1, 0, 0, 2)))
    ),
    "kernel beyond the map": Recipe(
        (3, 3, 2), (Conv(70, (7, 5), (2, 1), (3, 2, 3, 2)), Conv(33, (5, 5), padding=(2,) * 4))
    ),
    "overlapping windows": Recipe(
        (11, 10, 3), (Conv(64, pool=((3, 3), (2, 2))), Conv(20, (2, 1), pool=((2, 2), (1, 1)))), (8,)
    ),
    "windows with gaps": Recipe(
        (12, 13, 1), (Conv(31, pool=((2, 1), (3, 2))), Conv(40, (1, 1), pool=((1, 1), (2, 2))))
    ),
    "windows with a remainder": Recipe(
        (9, 10, 2), (Conv(63, pool=((2, 2), (2, 2))), Conv(129, (1, 1), pool=((2, 3), (2, 3))))
    ),
    "depthwise": Recipe(
        (6, 6, 6), (Conv(12, groups=6), Conv(96, (1, 1)), Conv(96, groups=96, padding=(1,) * 4)), (5,), BITS
    ),
    "groups of whole words": Recipe((5, 5, 1), (Conv(256, (2, 2)), Conv(66, (2, 2), groups=2, padding=(1, 0, 0, 1)))),
    "groups of odd size": Recipe((4, 4, 66), (Conv(99, (2, 2), groups=3, pool=((2, 2), (1, 1))),), (70, 70), BITS),
    "many words": Recipe((3, 3, 260), (Conv(130, padding=(1,) * 4),), (513, 64), BITS),
    "dense on integers": Recipe((5, 7, 3), (), (65, 1)),
    "grouped integers": Recipe((5, 5, 6), (Conv(40, (2, 2), groups=2, padding=(1, 0, 1, 0), pool=((2, 2), (2, 2))),)),
    "extreme integers": Recipe((8, 8, 3), (Conv(35, (5, 5), padding=(2,) * 4),), (10,), EXTREME),
    "many integers": Recipe((5, 5, 40), (Conv(37, pool=((2, 2), (1, 1))),), (10,), EXTREME),
    "zero integers": Recipe((3, 3, 3), (Conv(5, (2, 2)),), (), NOTHING),
}

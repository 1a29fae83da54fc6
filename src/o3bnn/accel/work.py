"""Stages as work for the machine: sizes that mapping, closed forms and models need."""

from dataclasses import dataclass

from o3bnn.accel import operands
from o3bnn.model import ConvGeometry, Network, OutputStage, Stage


@dataclass(frozen=True)
class StageWork:
    """One stage as work: what mapping and closed forms need of it.

    words: edge words of a neuron away from the border, bit planes included. bank_words: the same without planes.
    """

    name: str
    geometry: ConvGeometry
    pool: tuple[int, int]
    pool_stride: tuple[int, int]
    planes: int
    word: int

    @property
    def channels(self) -> int:
        return self.geometry.out_channels

    @property
    def bank_words(self) -> int:
        return -(-self.geometry.full_fan_in // self.word)

    @property
    def words(self) -> int:
        return self.bank_words * self.planes

    @property
    def out_columns(self) -> int:
        return (self.geometry.out_width - self.pool[1]) // self.pool_stride[1] + 1

    @property
    def windows(self) -> int:
        return ((self.geometry.out_height - self.pool[0]) // self.pool_stride[0] + 1) * self.out_columns

    @property
    def single(self) -> bool:
        """Whether every weight is used once, and every edge exists."""
        once = self.windows == 1 and self.pool == (1, 1) and self.planes == 1
        return once and bool(self.geometry.class_fan_in[0] == self.geometry.full_fan_in)

    @property
    def overlaps(self) -> bool:
        return self.pool_stride[0] < self.pool[0] or self.pool_stride[1] < self.pool[1]

    @property
    def aligned(self) -> bool:
        return self.geometry.group_channels % self.word == 0

    @property
    def patch_words(self) -> int:
        """Most words that a window's patch takes (T18)."""
        g = self.geometry
        if not self.aligned:
            return self.pool[0] * self.pool[1] * self.words * g.groups
        rows = min((self.pool[0] - 1) * g.stride[0] + g.kernel[0], g.in_height)
        columns = min((self.pool[1] - 1) * g.stride[1] + g.kernel[1], g.in_width)
        return rows * columns * (g.in_channels // self.word) * self.planes

    @property
    def new_words(self) -> float:
        """Words that a window in the middle of a row adds to its left neighbour's."""
        g = self.geometry
        columns = (self.pool[1] - 1) * g.stride[1] + g.kernel[1] if self.aligned else self.pool[1]
        step = self.pool_stride[1] * (g.stride[1] if self.aligned else 1)
        return self.patch_words * min(1.0, step / columns)

    def neurons(self, windows: int) -> int:
        """Neurons of a channel that a chunk of windows reads, about: overlapping rows between chunks count twice."""
        down, right = (min(p, s) for p, s in zip(self.pool, self.pool_stride, strict=True))
        halo = (self.pool[0] - down) * min(windows, self.out_columns) * right
        return windows * down * right + halo


def stage_works(network: Network, word: int) -> tuple[StageWork, ...]:
    """The work of every stage, the output stage last."""
    split = operands.BITS if network.input.is_binary else operands.planes(network.input)
    return (*(_work(stage, word, split.count) for stage in network.stages), _output_work(network.output, word))


def _work(stage: Stage, word: int, planes: int) -> StageWork:
    pooling = stage.pooling
    size, stride = ((1, 1), (1, 1)) if pooling is None else (pooling.size, pooling.stride)
    return StageWork(stage.name, stage.geometry, size, stride, planes if stage.integer_input else 1, word)


def _output_work(output: OutputStage, word: int) -> StageWork:
    return StageWork(output.name, ConvGeometry(1, 1, output.in_features, output.classes), (1, 1), (1, 1), 1, word)

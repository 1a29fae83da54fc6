"""Stages as work for the machine: sizes that mapping, closed forms and models need."""

from dataclasses import dataclass, replace

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
    images: int = 1

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
    def out_rows(self) -> int:
        return (self.geometry.out_height - self.pool[0]) // self.pool_stride[0] + 1

    @property
    def out_columns(self) -> int:
        return (self.geometry.out_width - self.pool[1]) // self.pool_stride[1] + 1

    @property
    def windows(self) -> int:
        return self.images * self.out_rows * self.out_columns

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
        """Whether patches are kept as pixels, in half words (T18)."""
        return 2 * self.geometry.group_channels % self.word == 0

    @property
    def patch_words(self) -> int:
        """Most words that a window's patch takes (T18)."""
        g = self.geometry
        if not self.aligned:
            return self.pool[0] * self.pool[1] * self.words * g.groups
        rows = min((self.pool[0] - 1) * g.stride[0] + g.kernel[0], g.in_height)
        columns = min((self.pool[1] - 1) * g.stride[1] + g.kernel[1], g.in_width)
        return columns * -(-rows * g.in_channels * self.planes // self.word)

    @property
    def new_words(self) -> float:
        """Words that a window in the middle of a row adds to its left neighbour's."""
        g = self.geometry
        columns = (self.pool[1] - 1) * g.stride[1] + g.kernel[1] if self.aligned else self.pool[1]
        step = self.pool_stride[1] * (g.stride[1] if self.aligned else 1)
        return self.patch_words * min(1.0, step / columns)

    @property
    def image_rows(self) -> int:
        """Rows of the operand that a window reads, padding included."""
        return (self.pool[0] - 1) * self.geometry.stride[0] + self.geometry.kernel[0]

    @property
    def neurons(self) -> int:
        """Neurons of a channel that some window reads."""
        counts = zip((self.out_rows, self.out_columns), self.pool, self.pool_stride, strict=True)
        rows, columns = (windows * min(size, stride) + max(size - stride, 0) for windows, size, stride in counts)
        return self.images * rows * columns

    def strip_neurons(self, strip: int, twice: float = 1.0) -> float:
        """Neurons of a channel that a strip evaluates: its part of all, and `twice` of what other strips read too."""
        own = self.neurons * strip / self.windows
        read = self.strip_rows(strip) * ((min(strip, self.out_columns) - 1) * self.pool_stride[1] + self.pool[1])
        return own + twice * max(0.0, read - own) if self.overlaps and strip < self.windows else own

    def strip_rows(self, strip: int) -> int:
        """Rows of neurons that a strip of windows reads."""
        return (-(-strip // self.out_columns) - 1) * self.pool_stride[0] + self.pool[0]

    @property
    def neuron_rows(self) -> int:
        """Rows of neurons of all images."""
        return self.images * self.geometry.out_height

    def neuron_map_rows(self, octets: int) -> int:
        """Rows of neurons, of all channels, that fit in so many bytes of a neuron map, 2 bits each (T5)."""
        return min(8 * octets // self.neuron_row_bits, self.neuron_rows)

    @property
    def neuron_row_bits(self) -> int:
        """Bits of a row of the neuron map (T5)."""
        return self.geometry.out_width * self.channels * 2


def stage_works(network: Network, word: int, images: int = 1) -> tuple[StageWork, ...]:
    """The work of every stage, the output stage last."""
    split = operands.BITS if network.input.is_binary else operands.planes(network.input)
    works = (*(_work(stage, word, split.count) for stage in network.stages), _output_work(network.output, word))
    return tuple(replace(work, images=images) for work in works)


def _work(stage: Stage, word: int, planes: int) -> StageWork:
    pooling = stage.pooling
    size, stride = ((1, 1), (1, 1)) if pooling is None else (pooling.size, pooling.stride)
    return StageWork(stage.name, stage.geometry, size, stride, planes if stage.integer_input else 1, word)


def _output_work(output: OutputStage, word: int) -> StageWork:
    return StageWork(output.name, ConvGeometry(1, 1, output.in_features, output.classes), (1, 1), (1, 1), 1, word)

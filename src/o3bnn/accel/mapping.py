"""Compile time: which PE computes what, and where the weights are (docs/timing.md, T5, T18, T23 to T27)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from o3bnn.accel import operands
from o3bnn.accel.config import AcceleratorConfig
from o3bnn.errors import ConfigError
from o3bnn.model import ConvGeometry, Network, OutputStage, Stage
from o3bnn.model.network import MapShape

SPREAD = 0.25
"""Assumed standard deviation over mean of the channels' evaluated shares where there is no profile."""


UNEVEN_WINDOW = 0.3
"""The same for the work of one window, which a machine evens out over the windows that it works on at once."""

RESIDENT_PART = 4
"""Where not all weights fit, residents take at most this part of a bank; what streams is fetched into the rest."""


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
        """Whether every weight is used once."""
        return self.windows == 1 and self.pool == (1, 1)

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


@dataclass(frozen=True, eq=False)
class PassMapping:
    """One walk over a stage's windows: groups side by side, int32 channels [lanes, slots], -1 where there is none.

    strip: windows that a group takes at once (T5); 0 where pools overlap.
    """

    groups: int
    strip: int
    channels: npt.NDArray[np.int32]

    @property
    def lanes(self) -> int:
        return int(self.channels.shape[0])

    @property
    def slots(self) -> int:
        return int(self.channels.shape[1])


@dataclass(frozen=True, eq=False)
class StageMapping:
    """A stage on the machine. spilled_in, spilled_out: its maps live in DRAM."""

    work: StageWork
    passes: tuple[PassMapping, ...]
    resident: bool
    spilled_in: bool = False
    spilled_out: bool = False

    @property
    def bank_words(self) -> int:
        """Words of a PE's bank that all of the stage's weights take."""
        return sum(p.slots for p in self.passes) * self.work.bank_words


@dataclass(frozen=True, eq=False)
class NetworkMapping:
    """All stages, the output stage last; stream_words: what residents leave of each bank."""

    stages: tuple[StageMapping, ...]
    stream_words: int


Shares = Mapping[str, npt.NDArray[np.float64]]


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


def map_network(network: Network, config: AcceleratorConfig, shares: Shares | None = None) -> NetworkMapping:
    """Map a network. shares: per stage name, the mean words that a neuron of each channel takes, float64 [channels].

    Raises:
        ConfigError: slots or banks too small for one window or channel.
    """
    works = stage_works(network, config.word)
    resident = [not work.single or work.patch_words <= config.slot_words for work in works]
    for work, keep in zip(works, resident, strict=True):
        if keep and work.patch_words > config.slot_words:
            raise ConfigError(
                f"slot_words = {config.slot_words} is too small: a window of {work.name} has {work.patch_words} words; "
                f"use at least {max(w.patch_words for w in works if not w.single)}"
            )
    stages = [_map_stage(work, config, config.weight_words, shares) for work in works]
    if sum(s.bank_words for s, keep in zip(stages, resident, strict=True) if keep) > config.weight_words or not all(
        resident
    ):
        resident = _choose_residents(stages, resident, config.weight_words // RESIDENT_PART)
    left = config.weight_words - sum(s.bank_words for s, keep in zip(stages, resident, strict=True) if keep)
    half = max(left // 2, max((w.bank_words for w in works if not w.single), default=0))
    stages = [
        s if keep else _map_stage(s.work, config, min(left, half), shares)
        for s, keep in zip(stages, resident, strict=True)
    ]
    spills = _spilled(network, config)
    return NetworkMapping(
        tuple(
            StageMapping(s.work, s.passes, keep, spills[i], spills[i + 1])
            for i, (s, keep) in enumerate(zip(stages, resident, strict=True))
        ),
        left,
    )


def _choose_residents(stages: Sequence[StageMapping], allowed: Sequence[bool], budget: int) -> list[bool]:
    """Stages that keep their weights on chip: the smallest first, no more than `budget` words of a bank."""
    keep = [False] * len(stages)
    for index in sorted(range(len(stages)), key=lambda i: stages[i].bank_words):
        if allowed[index] and stages[index].bank_words <= budget:
            keep[index] = True
            budget -= stages[index].bank_words
    return keep


def _spilled(network: Network, config: AcceleratorConfig) -> list[bool]:
    """Whether each stage's input map lives in DRAM; the image's bytes come from outside, sums never spill."""
    spills = [False]
    for index, shape in enumerate(network.out_shapes):
        spills.append(map_octets(shape) > config.map_bytes[index % 2])
    return [*spills, False]


def map_octets(shape: MapShape) -> int:
    """Bytes of a map of bits [height, width, channels], channels packed."""
    return -(-shape[0] * shape[1] * shape[2] // 8)


def _map_stage(work: StageWork, config: AcceleratorConfig, bank: int, shares: Shares | None) -> StageMapping:
    """The cheapest number of lanes by the machine's cost, with as many passes as the bank needs."""
    if not work.single and work.bank_words > bank:
        raise ConfigError(
            f"weight_words = {config.weight_words} is too small: {bank} words are left, and one channel of "
            f"{work.name} takes {work.bank_words} of a bank"
        )
    share = None if shares is None else shares.get(work.name)
    candidates = sorted({-(-work.channels // slots) for slots in range(1, work.channels + 1)})
    lanes, strip = min(
        ((lanes, strip) for lanes in candidates if lanes <= config.pes for strip in _strips(work)),
        key=lambda choice: (_cost(work, config, choice[0], choice[1], bank, share), choice),
    )
    parts = _passes(work, -(-work.channels // lanes), bank)
    order = np.arange(work.channels) if share is None else np.argsort(-share, kind="stable")
    chunks = [order[i :: len(parts)] for i in range(len(parts))]
    groups = _groups(work, config, lanes)
    passes = tuple(PassMapping(groups, strip, _balance(chunk, lanes, share)) for chunk in chunks)
    return StageMapping(work, passes, resident=True)


def _strips(work: StageWork) -> list[int]:
    """Strip lengths to try: 0 (contiguous chunks) where pools overlap, else powers of two up to a row."""
    if work.overlaps:
        return [0]
    return [1 << i for i in range(work.out_columns.bit_length()) if 1 << i < work.out_columns] + [work.out_columns]


def _groups(work: StageWork, config: AcceleratorConfig, lanes: int) -> int:
    return max(1, min(config.pes // lanes, work.windows))


def _passes(work: StageWork, slots: int, bank: int) -> list[int]:
    """Channel slots of each pass: all in one where the bank holds them, else so that the next is fetched meanwhile."""
    if work.single or slots * work.bank_words <= bank:
        return [slots]
    fit = max(1, bank // 2 // work.bank_words)
    count = -(-slots // fit)
    return [-(-slots // count)] * count


def _cost(
    work: StageWork, config: AcceleratorConfig, lanes: int, strip: int, bank: int, share: npt.NDArray[np.float64] | None
) -> float:
    """Cycles, about: the fullest lane's words, or the loader's, the load before the first word and the uneven end."""
    groups = _groups(work, config, lanes)
    parts = _passes(work, -(-work.channels // lanes), bank)
    length = strip or -(-work.windows // groups)
    patches = work.windows * (work.patch_words + (length - 1) * work.new_words) / length
    load = len(parts) * patches / config.loader_words
    start = len(parts) * groups * work.patch_words / config.loader_words
    strips = -(-work.windows // length)
    if config.lockstep or not config.prune:
        return (
            max(sum(parts) * work.neurons(min(work.windows, -(-strips // groups) * length)) * work.words, load) + start
        )
    mean = work.channels / lanes
    uneven = SPREAD if share is None else SPREAD / 2
    window = mean * float(work.words)
    if share is not None:
        columns = _balance(np.argsort(-share, kind="stable"), lanes, share)
        window = float(np.where(columns >= 0, share[np.maximum(columns, 0)], 0).sum(axis=1).max())
    at_once = 1 + min(config.depth - 1, (config.slot_words - work.patch_words) // max(1.0, work.new_words))
    spread = float(np.sqrt(2 * np.log(max(lanes, 1)) / mean))
    window *= 1 + spread * (uneven + (UNEVEN_WINDOW / at_once if work.windows > 1 else 0))
    busy = window * work.neurons(work.windows) / groups
    tail = len(parts) * window * work.neurons(length) * (0.5 if strips > 1 else 0.0)
    return max(busy, load) + start + tail


def _balance(
    channels: npt.NDArray[np.int64], lanes: int, share: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.int32]:
    """Spread channels over lanes, the heaviest first onto the lightest lane that has room: int32 [lanes, slots]."""
    slots = -(-len(channels) // lanes)
    result = np.full((lanes, slots), -1, np.int32)
    if share is None:
        padded = np.full(lanes * slots, -1, np.int32)
        padded[: len(channels)] = channels
        return np.ascontiguousarray(padded.reshape(slots, lanes).T)
    load, count = np.zeros(lanes), np.zeros(lanes, np.int64)
    for channel in channels:
        lane = int(np.where(count < slots, load, np.inf).argmin())
        result[lane, count[lane]] = channel
        load[lane] += share[channel]
        count[lane] += 1
    return result

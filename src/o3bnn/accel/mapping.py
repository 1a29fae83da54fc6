"""Compile time: which PE computes what, and where the weights are (docs/timing.md, T5, T18, T23 to T27)."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from o3bnn.accel import cost
from o3bnn.accel.config import AcceleratorConfig
from o3bnn.accel.work import StageWork, stage_works
from o3bnn.errors import ConfigError
from o3bnn.model import Network
from o3bnn.model.network import MapShape

RESIDENT_PART = 4
"""Where not all weights fit, residents take at most this part of a bank; what streams is fetched into the rest."""


@dataclass(frozen=True, eq=False)
class PassMapping:
    """One walk over a stage's windows: groups side by side, int32 channels [lanes, slots], -1 where there is none.

    strip: windows that a group takes at once. neuron_map_rows: rows of neurons in the neuron map through which strips
    share neurons, 0 where they do not (T5).
    """

    groups: int
    strip: int
    neuron_map_rows: int
    channels: npt.NDArray[np.int32]

    @property
    def lanes(self) -> int:
        return int(self.channels.shape[0])

    @property
    def slots(self) -> int:
        return int(self.channels.shape[1])


@dataclass(frozen=True, eq=False)
class StageMapping:
    """A stage on the machine.

    spilled_in, spilled_out: its maps live in DRAM. image_places: elements (pixels times channels) of the image that the
    map memories hold at once while it comes from DRAM (T30), 0 where it does not or is not kept.
    """

    work: StageWork
    passes: tuple[PassMapping, ...]
    resident: bool
    spilled_in: bool = False
    spilled_out: bool = False
    image_places: int = 0

    @property
    def channels_a_slot(self) -> float:
        return self.work.channels / sum(p.slots for p in self.passes)

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


def map_network(
    network: Network, config: AcceleratorConfig, shares: Shares | None = None, images: int = 1
) -> NetworkMapping:
    """Map a network for batches of `images` (T28).

    shares: per stage name, the mean words that a neuron of each channel takes, float64 [channels].

    Raises:
        ConfigError: slots or banks too small for one window or channel.
    """
    works = stage_works(network, config.word, images)
    resident = [not work.single or work.patch_words <= config.slot_words for work in works]
    for work, keep in zip(works, resident, strict=True):
        if keep and work.patch_words > config.slot_words:
            raise ConfigError(
                f"slot_words = {config.slot_words} is too small: a window of {work.name} has {work.patch_words} words; "
                f"use at least {max(w.patch_words for w in works if not w.single)}"
            )
    fullest = max((work for work in works if not work.single), key=lambda work: work.bank_words, default=None)
    if fullest is not None and fullest.bank_words > config.weight_words:
        raise ConfigError(
            f"weight_words = {config.weight_words} is too small: a channel of {fullest.name} has {fullest.bank_words} "
            f"words; use at least {fullest.bank_words}"
        )
    spills = _spilled(network, config, images)
    free = _free_octets(network, config, images, spills)
    places, octets = _image_places(works[0], config, free[0])
    spills[0] = config.image_in_dram and places == 0
    free[0] -= octets
    rows = [places // (works[0].geometry.in_width * works[0].geometry.in_channels), *(0 for _ in works[1:])]
    stages = [
        _map_stage(work, config, cost.Room(config.weight_words, octets, held), shares, spilled)
        for work, octets, held, spilled in zip(works, free, rows, spills, strict=False)
    ]
    if not all(resident) or sum(stage.bank_words for stage in stages) > config.weight_words:
        room = max([config.burst_words, *(w.bank_words for w in works if not w.single)])
        budget = min(config.weight_words // RESIDENT_PART, config.weight_words - room)
        resident = _choose_residents(stages, resident, budget)
    left = config.weight_words - sum(s.bank_words for s, keep in zip(stages, resident, strict=True) if keep)
    follow = _single_use_bits(works, resident)
    stages = [
        s if keep else _map_stage(s.work, config, cost.Room(left, octets, held, bits), shares, spilled)
        for s, keep, octets, held, bits, spilled in zip(stages, resident, free, rows, follow, spills, strict=False)
    ]
    return NetworkMapping(
        tuple(
            StageMapping(s.work, s.passes, keep, spills[i], spills[i + 1], 0 if i else places)
            for i, (s, keep) in enumerate(zip(stages, resident, strict=True))
        ),
        left,
    )


def _choose_residents(stages: Sequence[StageMapping], allowed: Sequence[bool], budget: int) -> list[bool]:
    """Stages that keep their weights on chip, no more than `budget` words of a bank.

    First those whose bank words spare DRAM most: a word of every bank holds one of each of (channels / slots) channels.
    """
    keep = [False] * len(stages)
    for index in sorted(range(len(stages)), key=lambda i: (-stages[i].channels_a_slot, stages[i].bank_words)):
        if allowed[index] and stages[index].bank_words <= budget:
            keep[index] = True
            budget -= stages[index].bank_words
    return keep


def _single_use_bits(works: Sequence[StageWork], resident: Sequence[bool]) -> list[int]:
    """For each stage but single-use ones: bits of the weights of the streamed single-use stages right after it."""
    bits = [0]
    for work, keep in zip(reversed(works), reversed(resident), strict=True):
        streamed = work.single and not keep
        bits.append(bits[-1] + work.channels * work.bank_words * work.word if streamed else 0)
    ahead = bits[-2::-1]
    return [0 if work.single else following for work, following in zip(works, ahead, strict=True)]


def _spilled(network: Network, config: AcceleratorConfig, images: int) -> list[bool]:
    """Whether each stage's input map lives in DRAM; sums never spill."""
    spills = [config.image_in_dram]
    for index, shape in enumerate(network.out_shapes):
        spills.append(images * map_octets(shape) > config.map_bytes[index % 2])
    return [*spills, False]


def _image_places(work: StageWork, config: AcceleratorConfig, free: int) -> tuple[int, int]:
    """Elements of the image that the map memories hold while it comes from DRAM (T30), and the bytes that they take.

    As many rows as fit in what a whole neuron map leaves, or in half; none if not even one window's do.
    """
    g = work.geometry
    row = g.in_width * g.in_channels
    all_rows = work.images * g.in_height
    neurons = work.neuron_rows * work.neuron_row_bits // 8 if work.overlaps else 0
    rows = min(8 * max(free - neurons, free // 2) // (row * work.planes), all_rows)
    if not config.image_in_dram or rows < min(work.image_rows, all_rows):
        return 0, 0
    return rows * row, -(-rows * row * work.planes // 8)


def _free_octets(network: Network, config: AcceleratorConfig, images: int, spills: Sequence[bool]) -> list[int]:
    """Bytes of the map memories that each stage's own maps leave, the output stage last."""
    held = [0, *(images * map_octets(shape) for shape in network.out_shapes), 0]
    held = [0 if spilled else octets for octets, spilled in zip(held, spills, strict=True)]
    return [sum(config.map_bytes) - before - after for before, after in pairwise(held)]


def map_octets(shape: MapShape) -> int:
    """Bytes of a map of bits [height, width, channels], channels packed."""
    return -(-shape[0] * shape[1] * shape[2] // 8)


def _map_stage(
    work: StageWork, config: AcceleratorConfig, room: cost.Room, shares: Shares | None, spilled: bool
) -> StageMapping:
    """The cheapest lanes, strips and passes by the machine's cost."""
    share = None if shares is None else shares.get(work.name)
    order = np.arange(work.channels) if share is None else np.argsort(-share, kind="stable")
    fullest = None if share is None else lambda lanes, passes: _fullest(order[::passes], lanes, share)
    choice = cost.cheapest(work, config, room, fullest, spilled)
    chunks = [order[i :: choice.passes] for i in range(choice.passes)]
    groups = cost.groups(work, config, choice.lanes)
    rows = cost.neuron_map_rows(work, choice.strip, room)
    passes = tuple(PassMapping(groups, choice.strip, rows, _balance(chunk, choice.lanes, share)) for chunk in chunks)
    return StageMapping(work, passes, resident=True)


def _fullest(channels: npt.NDArray[np.int64], lanes: int, share: npt.NDArray[np.float64]) -> float:
    """Words of the fullest lane, per position, when channels are balanced over `lanes`."""
    columns = _balance(channels, lanes, share)
    return float(np.where(columns >= 0, share[np.maximum(columns, 0)], 0).sum(axis=1).max())


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
    lightest = [(0.0, lane) for lane in range(lanes)]
    count = [0] * lanes
    for channel, words in zip(channels.tolist(), share[channels].tolist(), strict=True):
        load, lane = heapq.heappop(lightest)
        result[lane, count[lane]] = channel
        count[lane] += 1
        if count[lane] < slots:
            heapq.heappush(lightest, (load + words, lane))
    return result

"""What a mapping will cost in cycles, about, and the cheapest one. Only the choice depends on it, never a result."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from o3bnn.accel.config import AcceleratorConfig
from o3bnn.accel.work import StageWork

SPREAD = 0.25
"""Assumed standard deviation over mean of the channels' words without a profile; half of it with one."""

UNEVEN_WINDOW = 0.8
"""The same for the work of one window, which a machine evens out over the windows that it works on at once: divided by
their number to the power of 1.5, which fits what was simulated."""


class Room(NamedTuple):
    """What a stage may take of the memories: words of a PE's bank, bytes for a neuron map (T5)."""

    bank: int
    neuron_map: int = 0


class Choice(NamedTuple):
    """Lanes of a group, windows of a strip, passes over the windows."""

    lanes: int
    strip: int
    passes: int


FullestLane = Callable[[int], float]


def groups(work: StageWork, config: AcceleratorConfig, lanes: int) -> int:
    """Groups that run side by side."""
    return max(1, min(config.pes // lanes, work.windows))


def neuron_map_rows(work: StageWork, strip: int, room: Room) -> int:
    """Rows of the neuron map through which strips share neurons, 0 where they do not (T5)."""
    rows = work.neuron_map_rows(room.neuron_map) if work.overlaps else 0
    return rows if rows == work.neuron_rows or rows > work.strip_rows(strip) else 0


def cheapest(
    work: StageWork, config: AcceleratorConfig, room: Room, fullest: FullestLane | None, spilled: bool = False
) -> Choice:
    """The choice of least cost. spilled: the stage's input is in DRAM."""
    if spilled:
        rate = max(1, min(config.loader_words, 8 * config.dram_bytes // config.word))
        config = config.replace(loader_words=rate)
    lanes = sorted({-(-work.channels // slots) for slots in range(1, work.channels + 1)})
    loads = {n: fullest(n) for n in lanes if n <= config.pes} if fullest is not None and not config.lockstep else None
    choices = (
        Choice(n, strip, passes)
        for n in lanes
        if n <= config.pes
        for passes in _passes(work, -(-work.channels // n), room.bank)
        for strip in _strips(work)
    )
    return min(choices, key=lambda choice: (_cycles(work, config, choice, room, loads), choice))


def _strips(work: StageWork) -> Iterator[int]:
    """Strip lengths to try: powers of two up to a row, and more rows where strips share neurons."""
    yield from (1 << i for i in range(work.out_columns.bit_length()) if 1 << i < work.out_columns)
    yield work.out_columns
    if work.overlaps:
        rows = work.windows // work.out_columns
        counts = {*(1 << i for i in range(1, rows.bit_length())), rows}
        yield from (work.out_columns * count for count in sorted(counts))


def _passes(work: StageWork, slots: int, bank: int) -> list[int]:
    """Numbers of passes to try: as few as the bank allows, and as many as leave room to fetch the next meanwhile."""
    if work.single:
        return [1]
    few = -(-slots * work.bank_words // (bank // work.bank_words * work.bank_words))
    many = -(-slots // max(1, bank // 2 // work.bank_words))
    return sorted({few, max(few, many)})


def _cycles(
    work: StageWork, config: AcceleratorConfig, choice: Choice, room: Room, loads: dict[int, float] | None
) -> float:
    """The fullest lane's words or the loader's, and what comes on top: first loads, weights, the uneven end."""
    length = min(choice.strip, work.windows)
    strips = -(-work.windows // length)
    rows = neuron_map_rows(work, choice.strip, room)
    side_by_side = min(groups(work, config, choice.lanes), strips, _strips_at_once(work, length, rows))
    patches = work.windows * (work.patch_words + (length - 1) * work.new_words) / length
    channels = -(-work.channels // choice.passes)
    slots = -(-channels // choice.lanes)
    start = side_by_side * work.patch_words / config.loader_words
    neurons = work.strip_neurons(length, _twice(config) if rows else 1.0)
    if config.lockstep or not config.prune:
        busy, tail = float(slots * -(-strips // side_by_side) * neurons * work.words), 0.0
    else:
        window = _window_words(work, config, choice, loads)
        busy = window * work.windows / length * neurons / side_by_side
        tail = window * neurons * (1.0 if strips > 1 else 0.0)
    each = max(busy, patches / config.loader_words) + start + tail + _fetch(work, config, choice, slots, room.bank)
    return choice.passes * each


def _twice(config: AcceleratorConfig) -> float:
    """Assumed part of the neurons shared by strips that two of them evaluate: in lockstep none waits for the other."""
    return 0.25 if config.lockstep else 0.03


def _strips_at_once(work: StageWork, strip: int, rows: int) -> int:
    """Strips that the neuron map allows to be in work."""
    if rows == 0:
        return work.windows
    window_rows = (rows - work.pool[0]) // work.pool_stride[0] + 1
    return max(1, window_rows * work.out_columns // strip)


def _window_words(work: StageWork, config: AcceleratorConfig, choice: Choice, loads: dict[int, float] | None) -> float:
    """Words of a position on the slowest lane of a pass, with an allowance for what no profile foresees."""
    mean = work.channels / choice.lanes / choice.passes
    words = mean * work.words if loads is None else loads[choice.lanes] / choice.passes
    at_once = 1 + min(config.depth - 1, (config.slot_words - work.patch_words) // max(1.0, work.new_words))
    uneven = SPREAD if loads is None else SPREAD / 2
    if work.windows > 1:
        uneven += UNEVEN_WINDOW / max(1, at_once) ** 1.5
    return float(words * (1 + uneven * np.sqrt(2 * np.log(max(choice.lanes, 1)) / max(mean, 1))))


def _fetch(work: StageWork, config: AcceleratorConfig, choice: Choice, slots: int, bank: int) -> float:
    """Cycles of a pass's weights that cannot be fetched ahead: what the bank does not hold beside its like."""
    if work.single or choice.passes * slots * work.bank_words <= config.weight_words // 4:
        return 0.0
    words = slots * work.bank_words
    hidden = min(1.0, max(0.0, (bank - words) / words))
    octets = work.channels / choice.passes * work.bank_words * work.word / 8
    return (1 - hidden) * octets / config.dram_bytes

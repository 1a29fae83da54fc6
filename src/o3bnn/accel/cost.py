"""What a mapping will cost in cycles, about, and the cheapest one. Only the choice depends on it, never a result."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from o3bnn.accel.config import AcceleratorConfig
from o3bnn.accel.work import StageWork

SPREAD = 0.25
"""Assumed standard deviation over mean of the channels' words without a profile; half of it with one."""

UNEVEN_WINDOW = 0.3
"""The same for the work of one window, which a machine evens out over the windows that it works on at once."""


class Choice(NamedTuple):
    """Lanes of a group, windows of a strip (0: contiguous chunks), passes over the windows."""

    lanes: int
    strip: int
    passes: int


FullestLane = Callable[[int], float]


def groups(work: StageWork, config: AcceleratorConfig, lanes: int) -> int:
    """Groups that run side by side."""
    return max(1, min(config.pes // lanes, work.windows))


def cheapest(
    work: StageWork, config: AcceleratorConfig, bank: int, fullest: FullestLane | None, spilled: bool = False
) -> Choice:
    """The choice of least cost. bank: words of a PE's bank that the stage may take. spilled: its input is in DRAM."""
    if spilled:
        rate = max(1, min(config.loader_words, 8 * config.dram_bytes // config.word))
        config = config.replace(loader_words=rate)
    lanes = sorted({-(-work.channels // slots) for slots in range(1, work.channels + 1)})
    loads = {n: fullest(n) for n in lanes if n <= config.pes} if fullest is not None and not config.lockstep else None
    choices = (
        Choice(n, strip, passes)
        for n in lanes
        if n <= config.pes
        for passes in _passes(work, -(-work.channels // n), bank)
        for strip in _strips(work)
    )
    return min(choices, key=lambda choice: (_cycles(work, config, choice, bank, loads), choice))


def _strips(work: StageWork) -> Iterator[int]:
    """Strip lengths to try: 0 where pools overlap, else powers of two up to a row."""
    if work.overlaps:
        yield 0
        return
    yield from (1 << i for i in range(work.out_columns.bit_length()) if 1 << i < work.out_columns)
    yield work.out_columns


def _passes(work: StageWork, slots: int, bank: int) -> list[int]:
    """Numbers of passes to try: as few as the bank allows, and as many as leave room to fetch the next meanwhile."""
    if work.single:
        return [1]
    few = -(-slots * work.bank_words // (bank // work.bank_words * work.bank_words))
    many = -(-slots // max(1, bank // 2 // work.bank_words))
    return sorted({few, max(few, many)})


def _cycles(
    work: StageWork, config: AcceleratorConfig, choice: Choice, bank: int, loads: dict[int, float] | None
) -> float:
    """The fullest lane's words or the loader's, and what comes on top: first loads, weights, the uneven end."""
    side_by_side = groups(work, config, choice.lanes)
    length = choice.strip or -(-work.windows // side_by_side)
    strips = -(-work.windows // length)
    patches = work.windows * (work.patch_words + (length - 1) * work.new_words) / length
    channels = -(-work.channels // choice.passes)
    slots = -(-channels // choice.lanes)
    start = side_by_side * work.patch_words / config.loader_words
    if config.lockstep or not config.prune:
        neurons = work.neurons(min(work.windows, -(-strips // side_by_side) * length))
        busy, tail = float(slots * neurons * work.words), 0.0
    else:
        window = _window_words(work, config, choice, loads)
        busy = window * work.neurons(work.windows) / side_by_side
        tail = window * work.neurons(length) * (1.0 if strips > 1 else 0.0)
    each = max(busy, patches / config.loader_words) + start + tail + _fetch(work, config, choice, slots, bank)
    return choice.passes * each


def _window_words(work: StageWork, config: AcceleratorConfig, choice: Choice, loads: dict[int, float] | None) -> float:
    """Words of a position on the slowest lane of a pass, with an allowance for what no profile foresees."""
    mean = work.channels / choice.lanes / choice.passes
    words = mean * work.words if loads is None else loads[choice.lanes] / choice.passes
    at_once = 1 + min(config.depth - 1, (config.slot_words - work.patch_words) // max(1.0, work.new_words))
    uneven = (SPREAD if loads is None else SPREAD / 2) + (UNEVEN_WINDOW / max(1, at_once) if work.windows > 1 else 0)
    return float(words * (1 + uneven * np.sqrt(2 * np.log(max(choice.lanes, 1)) / max(mean, 1))))


def _fetch(work: StageWork, config: AcceleratorConfig, choice: Choice, slots: int, bank: int) -> float:
    """Cycles of a pass's weights that cannot be fetched ahead: what the bank does not hold beside its like."""
    if work.single or choice.passes * slots * work.bank_words <= config.weight_words // 4:
        return 0.0
    words = slots * work.bank_words
    hidden = min(1.0, max(0.0, (bank - words) / words))
    octets = work.channels / choice.passes * work.bank_words * work.word / 8
    return (1 - hidden) * octets / config.dram_bytes

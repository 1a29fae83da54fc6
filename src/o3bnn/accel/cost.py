"""What a mapping will cost in cycles, about, and the cheapest one. Only the choice depends on it, never a result."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from o3bnn.accel.config import AcceleratorConfig
from o3bnn.accel.work import StageWork

SPREAD = 0.25
"""Assumed standard deviation over mean of the channels' words without a profile."""

UNEVEN_WINDOW = 0.5
"""The same for the work of one window where that varies, which a machine evens out over the windows that it works on at
once: divided by their number to the power of 1.5. With DRIFT it fits what was simulated for single stages."""

DRIFT = 1.2
"""How far groups fall out of step, in strips: this part of the square root of (strips a group / channels a lane)."""

LAST_STRIP = 0.4
"""Part of a strip for which a group works on after the mean one has ended, where groups are out of step."""


HELPED_LANE = 0.12
"""In place of UNEVEN_WINDOW where groups help each other (T29): of a lane's work in all windows, which images vary."""

HELPED_TAIL = 0.8
"""As LAST_STRIP, where groups help each other: of the pairs in flight, which a PE keeps to the end."""

EVEN_TAIL = 0.5
"""The same where no edge is pruned: all pairs take equally long."""


class Room(NamedTuple):
    """What a stage may take of the memories: words of a PE's bank, bytes for a neuron map (T5).

    image_rows: of the image that are on the chip while it comes from DRAM (T30), 0 where it does not.
    next_bits: weights of the streamed single-use stages that follow, which what the stage leaves of the banks can take
    while it runs (T24, T25).
    """

    bank: int
    neuron_map: int = 0
    image_rows: int = 0
    next_bits: int = 0


class Choice(NamedTuple):
    """Lanes of a group, windows of a strip, passes over the windows."""

    lanes: int
    strip: int
    passes: int


FullestLane = Callable[[int, int], float]
"""Words of a position on the fullest of so many lanes, in the heaviest of so many passes."""


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
    """The choice of least cost. spilled: the stage's input is in DRAM.

    At equal cost a single group takes long strips, which load less, and several take short ones, which end evenly.
    """
    if spilled:
        rate = max(1, min(config.loader_words, 8 * config.dram_bytes // config.word))
        config = config.replace(loader_words=rate)
    lanes = sorted({-(-work.channels // slots) for slots in range(1, work.channels + 1)})
    fullest = None if fullest is None or config.lockstep else functools.cache(fullest)
    choices = (
        Choice(n, strip, passes)
        for n in lanes
        if n <= config.pes
        for passes in _passes(work, -(-work.channels // n), room.bank)
        for strip in _strips(work)
    )

    def key(choice: Choice) -> tuple[float, int, Choice]:
        alone = groups(work, config, choice.lanes) == 1
        return _cycles(work, config, choice, room, fullest), -choice.strip if alone else choice.strip, choice

    return min(choices, key=key)


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
    work: StageWork, config: AcceleratorConfig, choice: Choice, room: Room, fullest: FullestLane | None
) -> float:
    """The fullest lane's words or the loader's, and what comes on top: first loads, weights, the uneven end."""
    length = min(choice.strip, work.windows)
    strips = -(-work.windows // length)
    rows = neuron_map_rows(work, choice.strip, room)
    at_once = min(_strips_at_once(work, length, rows), _strips_of_rows(work, length, room.image_rows))
    side_by_side = min(groups(work, config, choice.lanes), strips, at_once)
    patches = work.windows * (work.patch_words + (length - 1) * work.new_words) / length
    channels = -(-work.channels // choice.passes)
    slots = -(-channels // choice.lanes)
    start = side_by_side * work.patch_words / config.loader_words
    neurons = work.strip_neurons(length, _twice(config) if rows else 1.0)
    strip_words = neurons * _position_words(work, config, choice, slots, fullest)
    busy = strip_words * _rounds(work, config, choice, strips, side_by_side)
    each = (
        max(busy, patches / config.loader_words, _image(work, config, room))
        + start
        + _fetch(work, config, choice, slots, room.bank)
    )
    cycles = choice.passes * each
    return cycles + _kept_waiting(work, config, choice, room, slots, cycles)


def _varies(work: StageWork, config: AcceleratorConfig) -> bool:
    """Whether windows differ much in work: where few neurons of a pool, or planes of an integer, often suffice."""
    return config.prune and not config.lockstep and (work.pool != (1, 1) or work.planes > 1)


def _rounds(work: StageWork, config: AcceleratorConfig, choice: Choice, strips: int, side_by_side: int) -> float:
    """Strips that the busiest group takes: a whole number in step, a part of one above the mean where groups drift."""
    whole = -(-strips // side_by_side)
    mean = strips / side_by_side
    if config.help and not work.overlaps and side_by_side > 1:
        tail = HELPED_TAIL if config.prune else EVEN_TAIL
        return mean + tail * min(1.0, config.stations * choice.lanes * choice.passes / work.channels)
    if strips == 1 or not _varies(work, config):
        return float(whole)
    drift = min(1.0, DRIFT * math.sqrt(mean * choice.lanes * choice.passes / work.channels))
    return (1 - drift) * whole + drift * (mean + LAST_STRIP)


def _twice(config: AcceleratorConfig) -> float:
    """Assumed part of the neurons shared by strips that two of them evaluate: in lockstep none waits for the other."""
    return 0.25 if config.lockstep else 0.03


def _strips_at_once(work: StageWork, strip: int, rows: int) -> int:
    """Strips that the neuron map allows to be in work."""
    if rows == 0:
        return work.windows
    window_rows = (rows - work.pool[0]) // work.pool_stride[0] + 1
    return max(1, window_rows * work.out_columns // strip)


def _image(work: StageWork, config: AcceleratorConfig, room: Room) -> float:
    """Cycles that the image takes to come from DRAM, at half of the bandwidth (T30)."""
    g = work.geometry
    bits = work.images * g.in_height * g.in_width * g.in_channels * work.planes
    return bits / (4 * config.dram_bytes) if room.image_rows else 0.0


def _strips_of_rows(work: StageWork, strip: int, image_rows: int) -> int:
    """Strips in work that read no more than so many rows of the image; any number where 0."""
    if image_rows in (0, work.images * work.geometry.in_height):
        return work.windows
    step = work.pool_stride[0] * work.geometry.stride[0]
    return max(1, ((image_rows - work.image_rows) // step + 1) * work.out_columns // strip)


def _position_words(
    work: StageWork, config: AcceleratorConfig, choice: Choice, slots: int, fullest: FullestLane | None
) -> float:
    """Words of a position on the slowest lane of a pass, with an allowance for what no profile foresees."""
    if config.lockstep or not config.prune:
        return float(slots * work.words)
    mean = work.channels / choice.lanes / choice.passes
    words = mean * work.words if fullest is None else fullest(choice.lanes, choice.passes)
    uneven = SPREAD if fullest is None else 0.0
    if _varies(work, config) and work.windows > 1:
        at_once = 1 + min(config.depth - 1, (config.slot_words - work.patch_words) // max(1.0, work.new_words))
        uneven += HELPED_LANE if config.help and not work.overlaps else UNEVEN_WINDOW / max(1, at_once) ** 1.5
    return words * (1 + uneven * math.sqrt(2 * math.log(choice.lanes) / max(mean, 1)))


def _kept_waiting(
    work: StageWork, config: AcceleratorConfig, choice: Choice, room: Room, slots: int, cycles: float
) -> float:
    """Cycles by which a stage delays the weights of single-use stages after it: those wait for DRAM alone.

    They are fetched ahead, after the stage's own, into what its last pass leaves of the banks: while it runs, and
    before, beside a pass that takes as much.
    """
    bank_bits, rate = config.pes * config.word, 8 * config.dram_bytes
    words = slots * work.bank_words
    wanted = min(room.next_bits, room.bank * bank_bits)
    before = room.bank - (choice.passes + 1) * words
    while_running = cycles * rate + min(before, 0) * bank_bits
    ahead = min(wanted, (room.bank - words) * bank_bits, max(before, 0) * bank_bits + while_running)
    return (wanted - max(0.0, ahead)) / rate


def _fetch(work: StageWork, config: AcceleratorConfig, choice: Choice, slots: int, bank: int) -> float:
    """Cycles of a pass's weights that cannot be fetched ahead: what the bank does not hold beside its like."""
    if work.single or choice.passes * slots * work.bank_words <= config.weight_words // 4:
        return 0.0
    words = slots * work.bank_words
    hidden = min(1.0, max(0.0, (bank - words) / words))
    octets = work.channels / choice.passes * work.bank_words * work.word / 8
    return (1 - hidden) * octets / config.dram_bytes

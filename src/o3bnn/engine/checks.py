"""Where a tile of neurons should look whether all of them are decided."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from o3bnn.model import packing
from o3bnn.model.decisions import Bits, Decisions, sample_decisions
from o3bnn.model.network import Network

LANES = (8, 32)  # channels that registers hold side by side
SAMPLED_POSITIONS = 64
# What a look costs, in words of the same tile: comparing limits and moving what is still open. Only ranks suggestions.
LOOK_COST = 1.0
MAX_CHECKS = 3
MAX_POSITIONS = 64


def tile_ends(decisions: Decisions, lanes: int) -> npt.NDArray[np.int64]:
    """Words after which every channel of a tile of `lanes` neighbouring channels is decided: int64 [samples, tiles]."""
    starts = range(0, decisions.words.shape[1], lanes)
    return np.stack([decisions.words[:, start : start + lanes].max(axis=1) for start in starts], axis=1)


def stage_operand(network: Network, images: Bits, maps: Sequence[Bits], index: int) -> Bits:
    """The bits that stage `index` reads: uint8 [n, height, width, channels]. maps: what every stage leaves behind."""
    return maps[index - 1] if index else (network.input.table[images] > 0).astype(np.uint8)


def tile_share(network: Network, images: Bits, maps: Sequence[Bits], lanes: int) -> float:
    """Share of the binary stages' words that tiles of `lanes` channels read until all are decided, by sampling: 0..1.

    Every stage counts by its dense edges; pooling is left out. 0 where no stage reads bits.
    """
    read = whole = 0.0
    for index, stage in enumerate(network.stages):
        if stage.integer_input:
            continue
        decisions = sample_decisions(stage, stage_operand(network, images, maps, index), SAMPLED_POSITIONS)
        edges = stage.geometry.outputs * stage.geometry.full_fan_in
        ends = tile_ends(decisions, lanes).mean() / packing.word_count(stage.geometry.full_fan_in)
        read, whole = read + float(ends) * edges, whole + edges
    return read / whole if whole else 0.0


def suggest_checks(ends: npt.NDArray[np.int64], words: int) -> list[tuple[int, ...]]:
    """The best 1, 2 .. MAX_CHECKS places to look, fewest first, those left out that cost more than not looking.

    ends: after how many words each sampled tile is decided. words: of a patch. The expected cost of a tile is the words
    that it evaluates and LOOK_COST for every look that finds it open before; dynamic programming over the last place.
    """
    if words < 2 or not ends.size:
        return []
    places = np.unique(np.linspace(0, words, min(words, MAX_POSITIONS) + 1).round().astype(np.int64))
    open_after = (ends.reshape(-1)[:, None] > places).mean(axis=0)
    open_after[0] = 1.0  # a tile of constants is no cheaper: the first words are evaluated before the first look
    spans = np.maximum(places[None, :] - places[:, None], 0)
    step = open_after[:, None] * (spans + LOOK_COST)  # from a look at row (or the start) to one at column
    last = open_after * (words - places)
    step[spans == 0] = np.inf
    best = step[0].copy()
    before: list[npt.NDArray[np.int64]] = []
    found: list[tuple[int, ...]] = []
    lowest = float(words)
    for looks in range(1, MAX_CHECKS + 1):
        total = best[1:-1] + last[1:-1]
        if not total.size:
            break
        end = int(total.argmin()) + 1
        if total[end - 1] < lowest:
            lowest = float(total[end - 1])
            found.append(_trace(places, before, end))
        if looks < MAX_CHECKS:
            ways = best[:, None] + step
            before.append(ways.argmin(axis=0))
            best = ways.min(axis=0)
    return found


def _trace(places: npt.NDArray[np.int64], before: list[npt.NDArray[np.int64]], end: int) -> tuple[int, ...]:
    """The places of the looks that lead to `end`, in order."""
    path = [end]
    for previous in reversed(before):
        path.append(int(previous[path[-1]]))
    return tuple(int(places[index]) for index in reversed(path))

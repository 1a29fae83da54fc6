"""Cycles of the `dense` machine in closed form, which tests hold against the simulator (docs/timing.md, end)."""

from o3bnn.accel.config import AcceleratorConfig
from o3bnn.accel.mapping import NetworkMapping, PassMapping, StageMapping
from o3bnn.accel.work import StageWork


def dense_cycles(mapping: NetworkMapping, config: AcceleratorConfig) -> int | None:
    """Cycles of a whole network on the `dense` machine, or None outside of the closed form's scope."""
    stages = [dense_stage_cycles(stage, config) for stage in mapping.stages]
    return None if any(cycles is None for cycles in stages) else sum(cycles for cycles in stages if cycles is not None)


def dense_stage_cycles(stage: StageMapping, config: AcceleratorConfig) -> int | None:
    """Cycles of one stage: per pass, 1 (load) + 1 (dispatch) + the busiest group's words + L + 1 (retire).

    In scope: weights, maps and image on chip, every patch loaded within a cycle and held beside its successor; and one
    group that evaluates no neuron twice, or equal windows in equal strips, as many for each group or without `help`.
    """
    work = stage.work
    room = config.slot_words >= (config.depth + 1) * work.patch_words
    fast = config.loader_words >= work.patch_words * (1 + max(part.groups for part in stage.passes))
    in_dram = stage.spilled_in or stage.spilled_out or stage.image_places > 0
    if not stage.resident or in_dram or not room or not fast:
        return None
    words = [_busiest(work, part, config.help) for part in stage.passes]
    return None if any(w is None for w in words) else sum(w + config.latency + 3 for w in words if w is not None)


def _busiest(work: StageWork, part: PassMapping, helping: bool) -> int | None:
    """Words that one PE of the busiest group issues."""
    if part.groups == 1 and (not work.overlaps or part.strip >= work.windows):
        return work.images * part.slots * sum(_neuron_words(work, y, x) for y in _read(work, 0) for x in _read(work, 1))
    if work.overlaps or work.geometry.class_count > 1 or work.out_columns % part.strip:
        return None
    strips = work.windows // part.strip
    if helping and strips % part.groups:
        return None
    return part.slots * -(-strips // part.groups) * part.strip * work.pool[0] * work.pool[1] * work.words


def _read(work: StageWork, axis: int) -> list[int]:
    """Rows (axis 0) or columns (1) of neurons that some window reads."""
    size = (work.geometry.out_height, work.geometry.out_width)[axis]
    pool, stride = work.pool[axis], work.pool_stride[axis]
    return sorted({first + i for first in range(0, size - pool + 1, stride) for i in range(pool)})


def _neuron_words(work: StageWork, row: int, column: int) -> int:
    """Edge words that exist for a neuron (T1), bit planes included."""
    g = work.geometry
    mask = g.class_masks[g.class_map[row, column]]
    return work.planes * len({int(edge) // work.word for edge in mask.nonzero()[0]})

"""What a simulation says: cycles and where they went, words, edges and traffic, per stage and in total."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from o3bnn.accel.config import AcceleratorConfig
from o3bnn.accel.mapping import StageMapping
from o3bnn.model.edges import EdgeCounts

STALLS = ("unmapped", "weights", "decision", "imbalance", "image", "window", "dispatch", "drain")
WORDS = ("useful", "overrun", "squashed", "halo")
TRAFFIC = ("slot_writes", "map_reads", "map_write_bits", "weight_writes", "dram_weight_bits", "dram_map_bits")


@dataclass(frozen=True, eq=False)
class StageResult:
    """One stage, or a sum of stages.

    role: input, binary, output, or `total`. words: issued words by kind; stalls: PE cycles without a word, by cause.
    pes * cycles = words + stalls. edges: an input stage counts plane edges (T2). wasted: edges beyond those.
    traffic: words written to slots (all PEs) and read from maps, bits written to maps, words written to weight banks,
    bits from DRAM. station_cycles: busy stations summed over cycles. slot_word_cycles: patch words held, summed over
    groups and cycles; slot_words_peak: the most that one group held.
    """

    name: str
    role: str
    cycles: int
    pes: int
    words: Mapping[str, int]
    stalls: Mapping[str, int]
    edges: EdgeCounts
    wasted: int
    neurons: int
    squashed_neurons: int
    windows: int
    traffic: Mapping[str, int]
    station_cycles: int
    slot_word_cycles: int
    slot_words_peak: int
    neurons_a_channel: int = 0
    channel_words: npt.NDArray[np.int64] | None = None
    mapping: str = ""

    @property
    def issued(self) -> int:
        return sum(self.words.values())

    @property
    def utilization(self) -> float:
        """Share of all PE cycles that issued a useful word, 0..1."""
        return self.words["useful"] / (self.pes * self.cycles) if self.cycles else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "role": self.role,
            "mapping": self.mapping,
            "cycles": self.cycles,
            "utilization": self.utilization,
            "words": dict(self.words),
            "stalls": dict(self.stalls),
            "edges": {**self.edges.to_dict(), "wasted": self.wasted},
            "neurons": self.neurons,
            "squashed_neurons": self.squashed_neurons,
            "windows": self.windows,
            "traffic": dict(self.traffic),
            "busy_stations_mean": self.station_cycles / (self.pes * self.cycles) if self.cycles else 0.0,
            "slot_words_mean": self.slot_word_cycles / self.cycles if self.cycles else 0.0,
            "slot_words_peak": self.slot_words_peak,
        }


def stage_result(config: AcceleratorConfig, mapping: StageMapping, role: str, values: Mapping[str, Any]) -> StageResult:
    """Turn the counters of the native simulator into a `StageResult`."""
    edges = EdgeCounts(
        *(values[k] for k in ("dense", "evaluated", "constant", "threshold_high", "threshold_low", "pooling"))
    )
    work, first = mapping.work, mapping.passes[0]
    text = (
        f"{first.groups} x {first.lanes} x {first.slots}"
        + (f" by {first.strip}" if first.strip > 1 else "")
        + (f" x {len(mapping.passes)}" if len(mapping.passes) > 1 else "")
    )
    return StageResult(
        name=work.name,
        role=role,
        cycles=values["cycles"],
        pes=config.pes,
        words={kind: values[f"{kind}_words"] for kind in WORDS},
        stalls=dict(zip(STALLS, values["stalls"], strict=True)),
        edges=edges,
        wasted=values["wasted"],
        neurons=values["neurons"],
        squashed_neurons=values["squashed_neurons"],
        windows=values["windows"],
        traffic={kind: values[kind] for kind in TRAFFIC},
        station_cycles=values["station_cycles"],
        slot_word_cycles=values["slot_word_cycles"],
        slot_words_peak=values["slot_words_peak"],
        neurons_a_channel=work.neurons,
        channel_words=np.array(values["channel_words"], np.int64),
        mapping=text + ("" if mapping.resident else ", streamed"),
    )


def add(name: str, stages: list[StageResult]) -> StageResult:
    """Sum of some stages' results, in cycles one after the other."""
    return StageResult(
        name=name,
        role="total",
        cycles=sum(s.cycles for s in stages),
        pes=stages[0].pes,
        words={kind: sum(s.words[kind] for s in stages) for kind in WORDS},
        stalls={kind: sum(s.stalls[kind] for s in stages) for kind in STALLS},
        edges=sum((s.edges for s in stages), EdgeCounts()),
        wasted=sum(s.wasted for s in stages),
        neurons=sum(s.neurons for s in stages),
        squashed_neurons=sum(s.squashed_neurons for s in stages),
        windows=sum(s.windows for s in stages),
        traffic={kind: sum(s.traffic[kind] for s in stages) for kind in TRAFFIC},
        station_cycles=sum(s.station_cycles for s in stages),
        slot_word_cycles=sum(s.slot_word_cycles for s in stages),
        slot_words_peak=max(s.slot_words_peak for s in stages),
    )


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """A batch of images on one machine.

    maps: bits of every stage, uint8 [images, *out_shape]. sums: int64 [images, classes]. logits: float32
    [images, classes]. One image may have been given, and then all of these are, without the first axis. events: int64
    [n, 9] in order of cycle, see `trace`. trace_cut: first cycle of which `TraceWindow.limit` left events out, None
    where the trace is whole.
    """

    config: AcceleratorConfig
    images: int
    stages: tuple[StageResult, ...]
    maps: list[npt.NDArray[np.uint8]]
    sums: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    events: npt.NDArray[np.int64]
    trace_cut: int | None = None

    @cached_property
    def total(self) -> StageResult:
        return add("total", list(self.stages))

    @property
    def cycles(self) -> int:
        return self.total.cycles

    @property
    def seconds(self) -> float:
        """Time of the whole batch at the config's clock, in seconds."""
        return self.cycles * self.config.seconds_per_cycle

    @property
    def images_per_second(self) -> float:
        """Throughput of batch after batch, none overlapping, at the config's clock."""
        return self.images / self.seconds

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "config": self.config.model_dump(mode="json"),
            "images": self.images,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "class": self.logits.argmax(axis=-1).tolist(),
            "total": self.total.to_dict(),
            "stages": [stage.to_dict() for stage in self.stages],
        }

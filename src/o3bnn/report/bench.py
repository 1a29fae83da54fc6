"""What `o3bnn bench` measures: latency, throughput, stages, dense and planned in turns, and the popcount roofline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
import numpy.typing as npt

from o3bnn import _native
from o3bnn.engine import Engine, EnginePlan
from o3bnn.engine.planner import without_interruptions
from o3bnn.errors import InputError
from o3bnn.model import Network
from o3bnn.model.edges import EdgeCounts, StageEdges
from o3bnn.report.equality import check_same_bits
from o3bnn.report.timing import Timings

MODES = ("dense", "planned")
MIN_ROUNDS, MAX_ROUNDS = 7, 301
ROOFLINES = 5  # measurements of the roofline, spread over the rounds
LEAST_SECONDS = 2e-3  # calls on one image are repeated in a round until they take this long together
WORD = 64  # edges of a word at which pruned shares are counted

Images = npt.NDArray[np.uint8]
Run = Callable[[], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class StageSpeed:
    """One stage, the output stage included. method: what runs it as planned. counted: edges of all sample images at
    B = 64. timings: seconds an image on one thread, by mode.
    """

    method: str
    counted: StageEdges
    timings: Timings


@dataclass(frozen=True)
class Speed:
    """What was measured. latency: seconds of one image; throughput: seconds of a batch; by mode, on `threads` threads.

    roofline: edges a second that the instruction set's popcount loop reaches on one thread.
    """

    isa: str
    threads: int
    batch: int
    images: int
    latency: Timings
    throughput: Timings
    stages: tuple[StageSpeed, ...]
    roofline: float

    def edges(self, stage: StageSpeed) -> float:
        """Dense edges of a stage for one image."""
        return stage.counted.edges.dense / self.images

    def edge_rate(self, mode: str, *stages: StageSpeed) -> float:
        """Dense edges a second of some stages together; what is pruned counts as done."""
        return sum(map(self.edges, stages)) / sum(stage.timings.median(mode) for stage in stages)

    @property
    def binary_stages(self) -> tuple[StageSpeed, ...]:
        return tuple(stage for stage in self.stages if stage.counted.role == "binary")

    @property
    def binary_edges(self) -> EdgeCounts:
        return sum((stage.counted.edges for stage in self.binary_stages), EdgeCounts())


def measure_speed(
    network: Network,
    plan: EnginePlan,
    images: Images,
    *,
    batch: int,
    threads: int | None = None,
    seconds: float = 5.0,
    progress: Callable[[float], None] = lambda share: None,
) -> Speed:
    """Measure for about `seconds`; first checks that both engines give the same bits.

    images: uint8 [n, height, width, channels], n >= 1; batches repeat them. progress: told the share that is done.

    Raises:
        InputError: seconds is not a positive number. DifferentBitsError: dense and planned do not agree: a defect.
    """
    if not 0 < seconds < float("inf"):
        raise InputError(f"seconds = {seconds!r} is not a positive number")
    engines = {
        "dense": Engine(network, threads=threads, pruning="off"),
        "planned": Engine(network, threads=threads, plan=plan),
    }
    check_same_bits(network, engines, images)
    profile = engines["dense"].profile(images, word=WORD)
    isa = engines["dense"].isa
    many = np.resize(images, (batch, *images.shape[1:]))
    runs: dict[tuple[str, str], Run] = {}
    for mode, engine in engines.items():
        runs["latency", mode] = _one_by_one(engine, images)
        runs["throughput", mode] = _timed(engine, many)
        runs["stages", mode] = _by_stage(engine, images)
    times, rooflines = _rounds(runs, isa, seconds, progress)
    by_stage = {
        ("stages", mode): list(without_interruptions(np.array(times["stages", mode])).mean(axis=1)) for mode in MODES
    }
    stages = tuple(
        StageSpeed(
            method=plan.stages[index].label if index < len(plan.stages) else "dense",
            counted=counted,
            timings=_timings(by_stage, "stages", index),
        )
        for index, counted in enumerate(profile.stages)
    )
    return Speed(
        isa=isa,
        threads=engines["dense"].threads,
        batch=batch,
        images=len(images),
        latency=_timings(times, "latency"),
        throughput=_timings(times, "throughput"),
        stages=stages,
        roofline=median(rooflines),
    )


def _rounds(
    runs: Mapping[tuple[str, str], Run], isa: str, seconds: float, progress: Callable[[float], None]
) -> tuple[dict[tuple[str, str], list[npt.NDArray[np.float64]]], list[float]]:
    """What each run returned in every round, and the rooflines measured in between."""
    start = perf_counter()
    for run in runs.values():
        run()
    count = max(MIN_ROUNDS, min(MAX_ROUNDS, int(seconds / (perf_counter() - start))))
    times: dict[tuple[str, str], list[npt.NDArray[np.float64]]] = {key: [] for key in runs}
    rooflines: list[float] = []
    for index in range(count):
        if index * ROOFLINES // count >= len(rooflines):
            rooflines.append(_native.roofline(isa))
        for what in ("latency", "throughput", "stages"):
            for mode in MODES[:: -1 if index % 2 else 1]:  # so that both come as often after the other one
                times[what, mode].append(runs[what, mode]())
        progress((index + 1) / count)
    return times, rooflines


def _timed(engine: Engine, images: Images) -> Run:
    def run() -> npt.NDArray[np.float64]:
        start = perf_counter()
        engine.run(images)
        return np.array([perf_counter() - start])

    return run


def _by_stage(engine: Engine, images: Images) -> Run:
    return lambda: engine.stage_seconds(images)


def _one_by_one(engine: Engine, images: Images) -> Run:
    """A run over single images in turn, as many as fill LEAST_SECONDS: the mean seconds of one."""
    singles = [images[i : i + 1] for i in range(len(images))]
    call = _timed(engine, singles[0])
    once = min(float(call()[0]) for _ in range(3))
    turns = range(max(1, round(LEAST_SECONDS / once)))
    position = 0

    def run() -> npt.NDArray[np.float64]:
        nonlocal position
        start = perf_counter()
        for turn in turns:
            engine.run(singles[(position + turn) % len(singles)])
        seconds = perf_counter() - start
        position += len(turns)
        return np.array([seconds / len(turns)])

    return run


def _timings(times: Mapping[tuple[str, str], list[npt.NDArray[np.float64]]], what: str, index: int = 0) -> Timings:
    return Timings({mode: tuple(float(values[index]) for values in times[what, mode]) for mode in MODES})

"""Times every way to run each stage of a network on this machine, and picks the fastest beyond noise.

All methods give the same bits. A method replaces dense only where it is clearly faster on the sample images; afterwards
the planned network is timed against the dense one as a whole, and given up where it is slower.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import numpy.typing as npt

from o3bnn.engine.checks import LANES, SAMPLED_POSITIONS, stage_operand, suggest_checks, tile_ends
from o3bnn.engine.engine import Engine
from o3bnn.engine.machine import cpu_name
from o3bnn.engine.plan import StagePlan, offered_methods
from o3bnn.engine.saved import Candidate, EnginePlan, StageChoice, network_checksum
from o3bnn.errors import InputError
from o3bnn.model import packing
from o3bnn.model.decisions import sample_decisions
from o3bnn.model.network import Network

# A method wins where its median speedup over dense is at least this, and at least one in three rounds of four.
CLEAR_WIN = 1.03
SCREENING_ROUNDS, SCREENING_IMAGES = 3, 2
HOPELESS = 0.6  # speedup over dense in the screening: below it, a method is not timed any further
MIN_ROUNDS, MAX_ROUNDS = 15, 101
INTERRUPTED = 1.5
RANDOM_IMAGES = 8

Images = npt.NDArray[np.uint8]
Seconds = npt.NDArray[np.float64]
Progress = Callable[[float], None]


def plan_engine(
    network: Network,
    images: Images | None = None,
    *,
    threads: int = 1,
    seconds: float = 5.0,
    source: str = "images given",
    progress: Progress = lambda share: None,
) -> EnginePlan:
    """Time the methods that this machine offers for each stage and choose; takes about `seconds` plus a screening.

    images: sample images, uint8 [n, height, width, channels], n >= 1; without any, random pixels of a fixed seed, on
    which less, or more, may be pruned than on real ones. threads: how many threads time at once, as they share caches
    and clock. source: where the images came from, for the record. progress: told the share that is done, 0..1.

    Raises:
        InputError: no image, or images, threads or seconds that do not fit.
    """
    if images is None:
        source = "random pixels"
        images = random_images(network)
    if not 0 < seconds < float("inf"):
        raise InputError(f"seconds = {seconds!r} is not a positive number")
    dense = Engine(network, threads=threads, pruning="off")
    images = dense.check_images(images)
    if not len(images):
        raise InputError("there are no images to time: pass at least one")
    with _Stopwatch(network, threads) as stopwatch:
        near, far = _screen(stopwatch, _candidates(network, images, dense), images)
        times = stopwatch.rounds(_columns(near), images, 0.75 * seconds, lambda share: progress(0.75 * share))
        choices = [
            _choose(stage.name, near[index], far[index], times[:, :, index])
            for index, stage in enumerate(network.stages)
        ]
        choices, whole = _confirm(network, dense, images, choices, 0.25 * seconds)
    progress(1.0)
    return EnginePlan(
        network=network_checksum(network),
        isa=dense.isa,
        cpu=cpu_name(),
        threads=threads,
        images=len(images),
        source=source,
        dense_seconds=whole[0],
        planned_seconds=whole[1],
        stages=tuple(choices),
    )


def random_images(network: Network) -> Images:
    """Images of random pixels, the same ones every time: uint8 [RANDOM_IMAGES, height, width, channels]."""
    return np.random.default_rng(0).integers(0, 256, (RANDOM_IMAGES, *network.input.shape), dtype=np.uint8)


def without_interruptions(times: Seconds) -> Seconds:
    """Times, rounds first, of which none is more than INTERRUPTED times the median over rounds of the same thing.

    A longer one was interrupted by another process, whose time slice is many times what a stage takes.
    """
    return np.minimum(times, INTERRUPTED * np.median(times, axis=0))


class _Stopwatch:
    """Times the stages of whole networks, one engine after the other, on some threads at once."""

    def __init__(self, network: Network, threads: int) -> None:
        self.network, self.threads = network, threads
        self.pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> "_Stopwatch":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def rounds(
        self, columns: Sequence[Sequence[StagePlan]], images: Images, budget: float, progress: Progress
    ) -> Seconds:
        """Seconds an image of each round, column (a plan for every stage) and stage: [rounds, columns, stages].

        As many rounds as `budget` seconds allow, MIN_ROUNDS to MAX_ROUNDS; where it is 0, SCREENING_ROUNDS.
        """
        engines = [Engine(self.network, threads=1, plan=column) for column in columns]
        start = perf_counter()
        self._round(engines, images, range(len(engines)))
        fitting = int(budget / (perf_counter() - start))
        count = max(MIN_ROUNDS, min(MAX_ROUNDS, fitting)) if budget else SCREENING_ROUNDS
        rng = np.random.default_rng(0)
        times = []
        for index in range(count):
            times.append(self._round(engines, images, rng.permutation(len(engines))))
            progress((index + 1) / count)
        return np.asarray(without_interruptions(np.array(times)).mean(axis=2), np.float64)

    def _round(self, engines: Sequence[Engine], images: Images, order: Iterable[int]) -> Seconds:
        """Seconds of one run of every engine: [columns, threads x images, stages].

        The order changes: who follows whom decides what caches hold.
        """
        times = np.empty((len(engines), self.threads * len(images), len(self.network.stages)))
        for index in order:
            parts = self.pool.map(engines[index].stage_seconds, [images] * self.threads)
            times[index] = np.concatenate(list(parts))[:, :-1]
        return times


def _candidates(network: Network, images: Images, dense: Engine) -> list[list[StagePlan]]:
    """Every way to run each stage that is worth a try, dense first."""
    images = images[:SAMPLED_POSITIONS]
    maps = dense.activations(images)
    plans = []
    for index, (stage, methods) in enumerate(zip(network.stages, offered_methods(network, dense.isa), strict=True)):
        found = [StagePlan(method) for method in ("dense", "pooling", "words") if method in methods]
        if "threshold" in methods:
            decisions = sample_decisions(stage, stage_operand(network, images, maps, index), SAMPLED_POSITIONS)
            words = packing.word_count(stage.geometry.full_fan_in)
            checks = {c: None for lanes in LANES for c in suggest_checks(tile_ends(decisions, lanes), words)}
            found += [StagePlan("threshold", places) for places in checks]
        plans.append(found)
    return plans


def _columns(candidates: Sequence[Sequence[StagePlan]]) -> list[list[StagePlan]]:
    """Plans of whole networks in which every candidate of every stage occurs; where a stage has fewer, dense again."""
    count = max((len(plans) for plans in candidates), default=1)
    return [[plans[k] if k < len(plans) else plans[0] for plans in candidates] for k in range(count)]


def _screen(
    stopwatch: _Stopwatch, candidates: list[list[StagePlan]], images: Images
) -> tuple[list[list[StagePlan]], list[list[Candidate]]]:
    """For each stage, the candidates that are not far slower than dense, and those that are, with their times.

    The slow ones would take most of the time.
    """
    times = stopwatch.rounds(_columns(candidates), images[:SCREENING_IMAGES], 0, lambda share: None)
    near, far = [], []
    for index, plans in enumerate(candidates):
        timed = [_candidate(plan, times[:, k, index], times[:, 0, index]) for k, plan in enumerate(plans)]
        hopeless = [k > 0 and candidate.speedup[1] < HOPELESS for k, candidate in enumerate(timed)]
        near.append([plan for plan, lost in zip(plans, hopeless, strict=True) if not lost])
        far.append([candidate for candidate, lost in zip(timed, hopeless, strict=True) if lost])
    return near, far


def _choose(name: str, plans: Sequence[StagePlan], lost: Sequence[Candidate], times: Seconds) -> StageChoice:
    """The fastest candidate that clearly beats dense, else dense. times: [rounds, columns] of one stage."""
    candidates = (*(_candidate(plan, times[:, k], times[:, 0]) for k, plan in enumerate(plans)), *lost)
    rivals = sorted(candidates[1:], key=lambda candidate: -candidate.speedup[1])
    winner = next((c for c in rivals if c.speedup[1] >= CLEAR_WIN and c.speedup[0] >= 1), None)
    if winner is not None:
        low, middle, high = winner.speedup
        reason = f"{middle:.2f}x as fast as dense ({low:.2f} to {high:.2f} in half of the rounds)"
        return StageChoice(name=name, method=winner.method, checks=winner.checks, reason=reason, candidates=candidates)
    reason = "nothing else is offered here"
    if rivals:
        best = rivals[0].speedup[1]
        reason = f"{'no clear win' if best >= 1 else 'slower'}: {rivals[0].label}, {best:.2f}x"
    return StageChoice(name=name, method="dense", reason=reason, candidates=candidates)


def _candidate(plan: StagePlan, times: Seconds, dense: Seconds) -> Candidate:
    low, middle, high = (float(value) for value in np.quantile(dense / times, (0.25, 0.5, 0.75)))
    return Candidate.model_validate(
        {
            "method": plan.method,
            "checks": plan.checks,
            "seconds": float(np.median(times)),
            "rounds": len(times),
            "speedup": (low, middle, high),
        }
    )


def _confirm(
    network: Network, dense: Engine, images: Images, choices: list[StageChoice], budget: float
) -> tuple[list[StageChoice], tuple[float, float]]:
    """The choices, or dense throughout where they are slower as a whole; and median seconds an image of both."""
    plans = [StagePlan(choice.method, choice.checks) for choice in choices]
    engines = (dense, Engine(network, threads=dense.threads, plan=plans))
    calls = [images[i : i + 1] for i in range(len(images))] if dense.threads == 1 else [images]
    rounds: list[Seconds] = []
    start = perf_counter()
    while len(rounds) < MIN_ROUNDS or (len(rounds) < MAX_ROUNDS and perf_counter() - start < budget):
        rounds.append(np.empty((2, len(calls))))
        for index in (0, 1) if len(rounds) % 2 else (1, 0):
            for call, some in enumerate(calls):
                before = perf_counter()
                engines[index].sums(some)
                rounds[-1][index, call] = perf_counter() - before
    times = without_interruptions(np.array(rounds)).sum(axis=2) / len(images)
    medians = float(np.median(times[:, 0])), float(np.median(times[:, 1]))
    slower = np.quantile(times[:, 0] / times[:, 1], 0.75) < 1
    if all(choice.method == "dense" for choice in choices):
        return choices, (medians[0], medians[0])
    if not slower:
        return choices, medians
    return [_undone(choice) for choice in choices], (medians[0], medians[0])


def _undone(choice: StageChoice) -> StageChoice:
    if choice.method == "dense":
        return choice
    reason = f"the network as a whole was slower with {choice.label}, though alone it was {choice.reason}"
    return choice.model_copy(update={"method": "dense", "checks": (), "reason": reason})

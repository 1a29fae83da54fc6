"""Run a network on the simulated accelerator, cycle by cycle."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from o3bnn._simulator import Deadlock
from o3bnn._simulator import Machine as NativeMachine
from o3bnn.accel import check, operands
from o3bnn.accel.config import AcceleratorConfig, Machine
from o3bnn.accel.mapping import NetworkMapping, Shares, StageMapping, map_network
from o3bnn.accel.results import SimulationResult, StageResult, stage_result
from o3bnn.errors import InputError, SimulationError
from o3bnn.model import ConvStage, Network, reference
from o3bnn.model.network import Stage

MAX_EVENTS = 2_000_000
MAX_IMAGES = 1024
MAX_NEURONS = 1 << 27


@dataclass(frozen=True)
class TraceWindow:
    """Which cycles to trace: first .. last - 1, at most `limit` events.

    Raises:
        InputError: a limit below 1.
    """

    first: int = 0
    last: int = 2000
    limit: int = MAX_EVENTS

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InputError(f"limit = {self.limit} events is no trace: use 1 or more")


@dataclass(frozen=True, eq=False)
class Simulator:
    """A network on an accelerator; simulates any number of batches, each from a cold start but for resident weights.

    shares: of `calibrate`, balances the channels over the PEs. images: of a batch, which goes through stage by stage
    (T28).
    """

    network: Network
    config: AcceleratorConfig
    shares: Shares | None = None
    images: int = 1
    mapping: NetworkMapping = field(init=False)

    def __post_init__(self) -> None:
        _check_images(self.network, self.images)
        object.__setattr__(self, "mapping", map_network(self.network, self.config, self.shares, self.images))

    def run(self, pixels: npt.NDArray[np.uint8], trace: TraceWindow | None = None) -> SimulationResult:
        """Simulate a batch, uint8 [images, height, width, channels], and compare its bits with the reference.

        A simulator of one image also takes it without the first axis; the result's arrays then have none either.

        Raises:
            InputError: a batch of another shape or type.
            SimulationError: the machine stood still for 500 cycles, or its bits are not the reference's.
        """
        batch = self._batch(pixels)
        # the event beyond the limit says whether the trace is cut, and where
        first, last, limit = (trace.first, trace.last, trace.limit + 1) if trace else (0, 0, 0)
        try:
            bits, sums, counters, events = self._machine.run(
                image=operands.encode(self.network.input, batch).reshape(-1),
                first=first,
                last=last,
                limit=limit,
            )
        except Deadlock as error:
            raise SimulationError(str(error)) from None
        maps = [m.reshape(self.images, *shape) for m, shape in zip(bits, self.network.out_shapes, strict=True)]
        totals = np.array(sums, np.int64).reshape(self.images, -1)
        for index, image in enumerate(batch):
            check.verify(self.network, image, [m[index] for m in maps], totals[index])
        stages = tuple(
            stage_result(self.config, mapping, role, values)
            for mapping, role, values in zip(self.mapping.stages, self._roles(), counters, strict=True)
        )
        logits = reference.output_logits(self.network.output, totals.astype(np.int32))
        if pixels.ndim == 3:
            maps, totals, logits = [m[0] for m in maps], totals[0], logits[0]
        cut = int(events[-1, 0]) if trace and len(events) == limit else None
        events = events if cut is None else events[:-1]
        return SimulationResult(self.config, self.images, stages, maps, totals, logits, events, cut)

    def _batch(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The batch with its first axis, checked."""
        shape = self.network.input.shape
        if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8:
            if pixels.shape == (self.images, *shape):
                return pixels
            if self.images == 1 and pixels.shape == shape:
                return pixels[None]
        wanted = f"one uint8 image {shape}" if self.images == 1 else f"uint8 images {(self.images, *shape)}"
        raise InputError(f"expected {wanted}, got {getattr(pixels, 'shape', pixels)!r}")

    def _roles(self) -> list[str]:
        return [*("input" if s.integer_input else "binary" for s in self.network.stages), "output"]

    @cached_property
    def _machine(self) -> NativeMachine:
        c = self.config
        machine = NativeMachine(
            (c.pes, c.word, c.stations, c.latency, c.depth, c.bounds_words, c.loader_words, c.slot_words),
            (c.speculate, c.lockstep, c.prune, c.policy == "round_robin", c.bounds == "sharp", c.help),
            (8 * c.dram_bytes, c.dram_latency, c.burst_words, self.mapping.stream_words),
            self.images,
        )
        for stage, mapping in zip(self.network.stages, self.mapping.stages, strict=False):
            self._add_stage(machine, stage, mapping)
        self._add_output(machine, self.mapping.stages[-1])
        return machine

    def _add_stage(self, machine: NativeMachine, stage: Stage, mapping: StageMapping) -> None:
        g = stage.geometry
        split = operands.planes(self.network.input) if stage.integer_input else operands.BITS
        pooling = stage.pooling if isinstance(stage, ConvStage) else None
        size, stride = ((1, 1), (1, 1)) if pooling is None else (pooling.size, pooling.stride)
        machine.add_stage(
            in_shape=stage.in_shape,
            conv_shape=stage.conv_shape,
            shape=(g.kernel, g.stride, g.padding[:2], size, stride),
            groups=g.groups,
            planes=split.count,
            edge_words=mapping.work.bank_words,
            flags=(False, mapping.spilled_in, mapping.spilled_out, mapping.work.single),
            image_places=mapping.image_places,
            weights=operands.cut(stage.weight_bits(), self.config.word).reshape(-1),
            exists=operands.cut(g.class_masks, self.config.word),
            thresholds=np.ascontiguousarray(operands.thresholds(stage, split)),
            decisive=np.ascontiguousarray(stage.decisive_bit),
            class_map=np.ascontiguousarray(g.class_map.astype(np.int32).reshape(-1)),
        )
        _add_passes(machine, mapping)

    def _add_output(self, machine: NativeMachine, mapping: StageMapping) -> None:
        output = self.network.output
        machine.add_stage(
            in_shape=(1, 1, output.in_features),
            conv_shape=(1, 1, output.classes),
            shape=((1, 1), (1, 1), (0, 0), (1, 1), (1, 1)),
            groups=1,
            planes=1,
            edge_words=mapping.work.bank_words,
            flags=(True, mapping.spilled_in, False, mapping.work.single),
            image_places=0,
            weights=operands.cut(output.weight_bits(), self.config.word).reshape(-1),
            exists=operands.cut(np.ones((1, output.in_features), np.bool_), self.config.word),
            thresholds=operands.output_thresholds(output),
            decisive=np.ones(output.classes, np.uint8),
            class_map=np.zeros(1, np.int32),
        )
        _add_passes(machine, mapping)


def _check_images(network: Network, images: int) -> None:
    """Raise InputError unless a batch has a sensible size."""
    largest = max([network.input.shape, *(stage.conv_shape for stage in network.stages)], key=math.prod)
    most = min(MAX_IMAGES, max(1, MAX_NEURONS // math.prod(largest)))
    if not 1 <= images <= most:
        raise InputError(f"a batch of {images} images is not in 1..{most}, what the simulator takes of this network")


def _add_passes(machine: NativeMachine, mapping: StageMapping) -> None:
    for part in mapping.passes:
        machine.add_pass(
            groups=part.groups,
            channels=part.channels,
            resident=mapping.resident,
            strip=part.strip,
            neuron_map_rows=part.neuron_map_rows,
        )


def simulate(
    network: Network,
    image: npt.NDArray[np.uint8],
    config: AcceleratorConfig,
    *,
    machine: Machine = "o3",
    shares: Shares | None = None,
    trace: TraceWindow | None = None,
) -> SimulationResult:
    """Simulate one image, uint8 [height, width, channels], on one of the three machines of a config.

    Raises:
        ConfigError, InputError, SimulationError: see `Simulator`.
    """
    return Simulator(network, config.machine(machine), shares).run(image, trace)


def calibrate(network: Network, images: npt.NDArray[np.uint8], config: AcceleratorConfig) -> Shares:
    """Mean useful words per window of each channel over calibration images [n, h, w, c]: float64 [channels] a stage.

    Run on the config's `o3` machine with channels in natural order.
    """
    if len(images) == 0:
        raise InputError("calibration needs at least one image")
    simulator = Simulator(network, config)
    runs = [simulator.run(image) for image in images]
    return channel_shares([run.stages for run in runs])


def channel_shares(runs: list[tuple[StageResult, ...]]) -> Mapping[str, npt.NDArray[np.float64]]:
    """Mean useful words per neuron that a window reads, of each channel of each stage."""
    return {
        stages[0].name: np.mean([s.channel_words for s in stages], axis=0) / stages[0].neurons_a_channel
        for stages in zip(*runs, strict=True)
    }

"""Hypothesis strategies for random accelerators, and networks that isolate one timing rule."""

from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st

from o3bnn.accel import AcceleratorConfig, Simulator, StageResult, TraceWindow, cost
from o3bnn.accel.work import StageWork, stage_works
from o3bnn.model import ConvGeometry, ConvStage, InputEncoding, Network, OutputStage, Pooling, packing


@st.composite
def configs(draw: st.DrawFn, network: Network, word: int | None = None, images: int = 1) -> AcceleratorConfig:
    """Random accelerators that a network fits, small buffers and streamed weights included."""
    word = draw(st.sampled_from((1, 8, 16, 32, 64, 128))) if word is None else word
    works = stage_works(network, word, images)
    slots = max(w.patch_words for w in works)
    bank = max([w.bank_words for w in works if not w.single] or [8])
    return AcceleratorConfig(
        name="random",
        pes=draw(st.sampled_from((1, 2, 3, 5, 8, 16))),
        word=word,
        stations=draw(st.integers(1, 6)),
        latency=draw(st.integers(1, 6)),
        depth=draw(st.integers(1, 6)),
        policy=draw(st.sampled_from(("oldest", "round_robin"))),
        speculate=draw(st.booleans()),
        bounds=draw(st.sampled_from(("simple", "simple", "sharp"))),
        bounds_words=draw(st.integers(1, 8)),
        loader_words=draw(st.sampled_from((1, 2, 8, 64, 256))),
        slot_words=slots * draw(st.sampled_from((1, 2, 16))),
        weight_words=max(16, bank * draw(st.sampled_from((2, 4, 1024)))),
        burst_words=draw(st.sampled_from((1, 4, 8))),
        map_bytes=draw(st.sampled_from(((1 << 20, 1 << 20), (64, 1 << 20), (16, 16), (1, 1)))),
        dram_bytes=draw(st.sampled_from((1, 4, 64))),
        dram_latency=draw(st.sampled_from((0, 7, 40))),
        image_in_dram=draw(st.booleans()),
        help=draw(st.booleans()),
    )


BITS = np.where(np.arange(256) >= 128, 1, -1).astype(np.int16)
ONE, ZERO = 255, 0
DISPATCH, ISSUE, DECIDE, SQUASH, LOAD, RETIRE = range(6)


def machine(**changes: object) -> AcceleratorConfig:
    """One PE of 8 edges with ample memory; latency 3."""
    base = {
        "name": "test",
        "pes": 1,
        "word": 8,
        "stations": 1,
        "latency": 3,
        "depth": 2,
        "loader_words": 256,
        "slot_words": 1 << 16,
        "weight_words": 1 << 16,
        "dram_bytes": 1,
        "dram_latency": 10,
    }
    return AcceleratorConfig(**{**base, **changes})  # type: ignore[arg-type]


def conv(
    shape: tuple[int, int, int],
    channels: int,
    kernel: int = 1,
    pool: tuple[tuple[int, int], tuple[int, int]] | None = None,
    padding: int = 0,
    threshold: int | list[int] | list[list[int]] = 1,
    decisive: int = 1,
    table: np.ndarray = BITS,
) -> Network:
    """One convolution with weights +1, and an output stage of one class."""
    encoding = InputEncoding(*shape, table=table)
    g = ConvGeometry(*shape, channels, (kernel, kernel), padding=(padding,) * 4)
    low, high = (0, g.class_fan_in) if encoding.is_binary else (-g.class_fan_in * 255, g.class_fan_in * 255)
    limits = np.stack([low + 0 * g.class_fan_in, high + 1], axis=1)
    wanted = np.broadcast_to(np.array(threshold), (g.class_count, channels))
    stage = ConvStage(
        name="conv",
        geometry=g,
        weights=packing.pack(np.ones((channels, g.full_fan_in), np.uint8)),
        thresholds=np.clip(wanted, limits[:, :1], limits[:, 1:]).astype(np.int32),
        integer_input=not encoding.is_binary,
        decisive_bit=np.full(channels, decisive, np.uint8),
        pooling=None if pool is None else Pooling(*pool),
    )
    features = int(np.prod(stage.out_shape))
    output = OutputStage(
        name="output",
        in_features=features,
        weights=packing.pack(np.ones((1, features), np.uint8)),
        scale=np.ones(1, np.float32),
        offset=np.zeros(1, np.float32),
    )
    return Network(name="test", input=encoding, stages=(stage,), output=output)


def image(network: Network, value: int = ONE) -> np.ndarray:
    return np.full(network.input.shape, value, np.uint8)


class Run:
    """One traced simulation; choice: lanes, strip and passes of the stage `conv`, rather than the cheapest."""

    def __init__(
        self,
        network: Network,
        config: AcceleratorConfig,
        pixels: np.ndarray | None = None,
        choice: tuple[int, int, int] | None = None,
        **options: object,
    ):
        pixels = image(network) if pixels is None else pixels
        cheapest = cost.cheapest

        def chosen(work: StageWork, *rest: Any) -> cost.Choice:
            return cost.Choice(*choice) if choice and work.name == "conv" else cheapest(work, *rest)

        with patch.object(cost, "cheapest", chosen):
            simulator = Simulator(network, config, **options)  # type: ignore[arg-type]
        self.result = simulator.run(pixels, TraceWindow(0, 1 << 40))

    def events(self, kind: int, stage: int = 0, **wanted: int) -> list[dict[str, int]]:
        """Events of one kind in a stage, in order of cycle."""
        names = ("cycle", "kind", "stage", "pe", "window", "position", "channel", "value", "neuron")
        rows = [dict(zip(names, map(int, row), strict=True)) for row in self.result.events]
        wanted = {"kind": kind, "stage": stage, **wanted}
        return [row for row in rows if all(row[key] == value for key, value in wanted.items())]

    def cycles(self, kind: int, stage: int = 0, **wanted: int) -> list[int]:
        return [event["cycle"] for event in self.events(kind, stage, **wanted)]

    def __getitem__(self, stage: int) -> StageResult:
        return self.result.stages[stage]

"""Hypothesis strategies for random accelerators, and networks that isolate one timing rule."""

from hypothesis import strategies as st

from o3bnn.accel.config import AcceleratorConfig
from o3bnn.accel.mapping import stage_works
from o3bnn.model import Network


@st.composite
def configs(draw: st.DrawFn, network: Network, word: int | None = None) -> AcceleratorConfig:
    """Random accelerators that a network fits, small buffers and streamed weights included."""
    word = draw(st.sampled_from((1, 8, 16, 32, 64, 128))) if word is None else word
    works = stage_works(network, word)
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
        loader_words=draw(st.sampled_from((1, 2, 8, 64))),
        slot_words=slots * draw(st.sampled_from((1, 2, 16))),
        weight_words=max(16, bank * draw(st.sampled_from((2, 4, 1024)))),
        burst_words=draw(st.sampled_from((1, 4, 8))),
        map_bytes=draw(st.sampled_from(((1 << 20, 1 << 20), (64, 1 << 20), (1, 1)))),
        dram_bytes=draw(st.sampled_from((1, 4, 64))),
        dram_latency=draw(st.sampled_from((0, 7, 40))),
    )

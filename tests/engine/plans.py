"""Every way to run a network: instruction sets of this machine crossed with methods and check positions."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from o3bnn import _native
from o3bnn.engine import StagePlan
from o3bnn.engine.plan import offered_methods
from o3bnn.model import Network, packing

METHODS = ("dense", "pooling", "words")


def every(network: Network) -> Iterator[tuple[str, str, list[StagePlan]]]:
    """Instruction set, name and plan; where a stage lacks a method it is dense, and no plan comes twice."""
    for isa in _native.available_isas():
        offered = offered_methods(network, isa)
        named = {method: [StagePlan(method if method in has else "dense") for has in offered] for method in METHODS}
        for name, step in (("every word", 1), ("every third word", 3)):
            named[f"threshold, {name}"] = [
                StagePlan("threshold", tuple(range(step, words, step))) if "threshold" in has else StagePlan()
                for has, words in zip(offered, patch_words(network), strict=True)
            ]
        seen: list[list[StagePlan]] = []
        for name, plan in named.items():
            if plan not in seen:
                seen.append(plan)
                yield isa, name, plan


def patch_words(network: Network) -> list[int]:
    """64-edge words of a patch of each stage."""
    return [packing.word_count(stage.geometry.full_fan_in) for stage in network.stages]


@contextmanager
def forced(isa: str) -> Iterator[None]:
    """Within the context, engines are made for one instruction set."""
    before = os.environ.get("O3BNN_ISA")
    os.environ["O3BNN_ISA"] = isa
    try:
        yield
    finally:
        del os.environ["O3BNN_ISA"]
        if before is not None:
            os.environ["O3BNN_ISA"] = before

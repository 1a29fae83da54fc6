"""The demo's own equality gate: every mode of the engine, and the reference, give the same bits and logits."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from o3bnn.engine import Engine
from o3bnn.errors import O3bnnError
from o3bnn.model import Network, reference

Images = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


class DifferentBitsError(O3bnnError):
    """Two ways of running a network that must agree do not: a bug in o3bnn, never in the user's data."""


def check_same_bits(network: Network, engines: Mapping[str, Engine], images: Images) -> tuple[Logits, int]:
    """Compare activations at every stage and logits between all engines, given by the names of their modes.

    Returns:
        The logits, float32 [n, classes], and the number of activation bits that each engine was compared in.

    Raises:
        DifferentBitsError: any bit or logit differs.
    """
    (first, engine), *others = engines.items()
    expected, logits = engine.activations(images), engine.run(images)
    for mode, other in others:
        between = f"with pruning {first} and {mode}"
        found = other.activations(images)
        for stage, wanted, bits in zip(network.stages, expected, found, strict=True):
            _check_equal(network, f"the bits of stage {stage.name}", between, wanted, bits)
        _check_equal(network, f"the logits of {network.output.name}", between, logits, other.run(images))
    return logits, sum(bits.size for bits in expected)


def check_same_logits(network: Network, first: Engine, second: Engine, images: Images) -> None:
    """Compare the logits of two engines, whose networks may be two forms of one; raises `DifferentBitsError`."""
    what, between = f"the logits of {network.output.name}", "before and after"
    _check_equal(network, what, between, first.run(images), second.run(images))


def check_reference(network: Network, engine: Engine, images: Images, trace: reference.Trace) -> None:
    """Compare an engine with what the NumPy reference computed for the same images; raises `DifferentBitsError`."""
    between = "in the engine and the reference"
    for stage, wanted, bits in zip(network.stages, trace.stages, engine.activations(images), strict=True):
        _check_equal(network, f"the bits of stage {stage.name}", between, wanted.bits, bits)
    _check_equal(network, f"the logits of {network.output.name}", between, trace.logits, engine.run(images))


def _check_equal(
    network: Network, what: str, between: str, wanted: npt.NDArray[np.generic], found: npt.NDArray[np.generic]
) -> None:
    if wanted.shape != found.shape:
        raise DifferentBitsError(f"{network.name}: {what} have the shapes {wanted.shape} and {found.shape} {between}")
    differing = np.argwhere(wanted != found)
    if len(differing):
        raise DifferentBitsError(
            f"{network.name}: {what} differ {between}: {len(differing)} of {wanted.size} values, the first in image "
            f"{differing[0][0]}. This is a bug in o3bnn: please report it with the output of `o3bnn info`"
        )

"""Running networks and graphs side by side."""

from pathlib import Path

import numpy as np

from o3bnn.model import Network, reference

MODELS = Path(__file__).parent / "models"
SHARED = Path(__file__).parents[3] / "shared"


class Reference:
    """The reference in the place of an engine, for `verify`."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def run(self, images):
        return reference.run(self.network, images).logits

    def activations(self, images):
        return tuple(trace.bits for trace in reference.run(self.network, images).stages)


def pixels(network: Network, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *network.input.shape), dtype=np.uint8)

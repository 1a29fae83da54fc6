"""Networks for accelerator studies while no trained large ones exist: random weights, stated firing rates.

Per channel, a firing rate is drawn from Beta(2, 3) (mean 0.4; channels differ as trained ones do) and the threshold is
set so that the channel fires at that rate on one smooth random image: mean score + z(rate) * standard deviation, the
channel's own over the positions of a convolution, sqrt(K) / 2 of the binomial for dense stages. Weights are independent
bits. Nothing here is trained: results must say so.
"""

from dataclasses import replace
from statistics import NormalDist

import numpy as np

import o3bnn
from o3bnn.accel import check
from o3bnn.model import ConvStage, Network, reference
from o3bnn.train import networks

METHOD = "random weights, firing rates Beta(2,3) per channel, not trained"
NAMES = ("cnv", "vgg_like", "alexnet", "vgg16")


def smooth_image(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Random blobs: uint8 [height, width, channels] with the spatial correlation of pictures."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    image = np.zeros(shape)
    for cell in (4, 8, 16, 32):
        grid = rng.normal(0, cell, (-(-height // cell), -(-width // cell), channels))
        image += np.kron(grid, np.ones((cell, cell, 1)))[:height, :width]
    image += rng.normal(0, 2, shape)
    low, high = np.percentile(image, (1, 99))
    return np.clip((image - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def with_rates(network: Network, seed: int) -> Network:
    """The network with thresholds that make every channel fire at a rate drawn from Beta(2, 3)."""
    rng = np.random.default_rng(seed)
    image = smooth_image(network.input.shape, seed)
    operand = reference.encode(network.input, image[None])
    stages = []
    for stage in network.stages:
        g, magnitude = stage.geometry, network.magnitude(stage)
        weights = rng.integers(0, 2, (g.out_channels, g.full_fan_in), dtype=np.uint8)
        stage = replace(stage, weights=o3bnn.model.packing.pack(weights))
        rates = rng.beta(2, 3, g.out_channels)
        z = np.array([NormalDist().inv_cdf(1 - min(max(r, 0.01), 0.99)) for r in rates])
        fan_in = g.class_fan_in[:, None]
        scores = check.scores(stage, operand, magnitude).reshape(-1, g.out_channels)
        if isinstance(stage, ConvStage) and len(scores) >= 16:
            middle = np.broadcast_to(scores.mean(axis=0) * fan_in / fan_in.max(), (g.class_count, g.out_channels))
            spread = scores.std(axis=0)[None]
        else:
            middle = fan_in / 2 + np.zeros((1, g.out_channels))
            spread = np.sqrt(fan_in) / 2
        low, high = stage.score_limits(magnitude)
        values = np.clip(np.rint(middle + z * spread), low[:, None], high[:, None] + 1).astype(np.int32)
        stage = replace(stage, thresholds=values)
        stages.append(stage)
        operand = check.run_stage(stage, operand, magnitude).astype(np.int32)
    return replace(network, stages=tuple(stages))


def build(name: str, seed: int = 0) -> Network:
    """One of NAMES, with thresholds set by `with_rates`."""
    module = networks.build(name)
    shape = (224, 224, 3) if name in ("alexnet", "vgg16") else (32, 32, 3)
    return with_rates(o3bnn.compile(module.eval(), image=shape), seed)

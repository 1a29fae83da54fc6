"""Other forms of the pruning terms, which lost: `regularizers.py` here compares them with those of the library.

Each is a function as `PruningRegularizer(form=...)` takes it, from a stage's neurons to the edges that the two terms
count, float32 [2]. None uses the first (`lambda_pool`).
"""

import torch
from torch import Tensor
from torch.nn import functional

from o3bnn.train.regularizers import Neurons

LANES = 8
MARGIN = 0.5  # of sums in standard deviations of a random walk, sqrt(K)


def margin(neurons: Neurons, beta: float) -> Tensor:
    """A hinge: every neuron's sum should keep a distance from its threshold, on whichever side it is."""
    parts = [(place.edges * functional.relu(1 - place.margin.abs() / MARGIN)).sum() for place in neurons.places()]
    return _second(torch.stack(parts).sum())


def agreement(neurons: Neurons, beta: float) -> Tensor:
    """The neurons of a window should all fire or all be silent: 4 times the variance of their soft bits."""
    places = list(neurons.places())
    bits = torch.stack([torch.sigmoid(place.margin * beta) for place in places])
    edges = torch.stack([place.edges.expand(place.share.shape) for place in places]).sum(0)
    return _second((4 * bits.var(0, correction=0) * edges).sum())


def lanes(neurons: Neurons, beta: float) -> Tensor:
    """Groups of 8 channels stay in a window until the last of them is settled, and as long as their slowest member.

    As form `joint` otherwise. Where channels are no multiple of 8, the last group is smaller.
    """
    settled = torch.zeros((), device=neurons.theta.device)
    total = torch.zeros((), device=neurons.theta.device)
    for place in neurons.places():
        shape = place.share.shape
        visited = 1 - _groups(settled.expand(shape), 1.0).prod(2, keepdim=True)
        slowest = _groups(place.share * (1 - settled), 0.0).amax(2, keepdim=True)
        edges = _groups(place.edges.expand(shape), 0.0)
        total = total + (edges * visited * slowest).sum()
        settled = 1 - (1 - settled) * torch.sigmoid(place.margin * -beta)
    return _second(total)


def _groups(x: Tensor, filler: float) -> Tensor:
    """[n, channels, ...] -> [n, groups, LANES, ...]."""
    missing = -x.shape[1] % LANES
    padded = functional.pad(x, (0, 0, 0, 0, 0, missing), value=filler)
    return padded.reshape(x.shape[0], -1, LANES, *x.shape[2:])


def _second(edges: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(edges), edges])

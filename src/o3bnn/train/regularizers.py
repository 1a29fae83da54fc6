"""Regularizers that make edges prunable: differentiable estimates of the share of edges that will be evaluated.

Let u = s / K be a neuron's sum and tau = theta / K its threshold, both as a share of its fan-in K. Of its edges
m = K (1 + u) / 2 match, and t = K (1 + tau) / 2 must match for it to fire. If matches come evenly, the share

    r = (1 + tau) / (1 + u)  where it fires (u >= tau),    r = (1 - tau + 2 / K) / (1 - u)  where it is silent

of its edges decides it: t matches, or K - t + 1 mismatches. Where a negative gamma flips the weights, u, tau and the
bit flip with them, and r stays as it is. Inputs of magnitude A have A K for K.

A window visits neuron j with probability v_j = prod_{i < j} (1 - d_i), where d_i is a soft decisive bit:
sigmoid(beta (s_i - theta) / sqrt(K)). Where bits are pooled, a negative gamma turns its sign. Where sums are pooled it
does not: the window is then an AND of flipped bits, settled by the first 0, which again is s_i > theta.

A channel whose threshold no sum reaches, or every sum, is constant and costs nothing.

By default the gradient reaches the thresholds only, that is batch norm's gamma and beta, and the task alone trains the
weights. docs/decisions/0013 says why, and when not to.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from o3bnn.errors import InputError
from o3bnn.train.regularize_stages import PrunedStage, find_stages

Form = Literal["joint", "walk"]
Estimate = Callable[["Neurons", float], Tensor]

NEURONS = 1 << 17  # of a stage that one evaluation looks at, or those of one image if they are more
_LEAST_GAMMA = 1e-6


class PruningRegularizer:
    """`pool * R_pool + threshold * R_threshold` of a model's last training forward, as a loss term.

    Both terms are shares, 0..1, of the edges of all hidden stages that read bits; input_stage adds the one that reads
    integers. R_pool: the edges of the neurons that are visited. R_threshold: the edges that are evaluated, by visited
    neurons (form `joint`) or as if every neuron were visited (`walk`). form may also be a function of a stage's
    `Neurons` and beta, which returns what the two terms count, [2] edges. beta: steepness of the soft decisive bits.
    through_weights: how much of the gradient passes through the sums to weights and earlier layers, 0..1.

    Forward hooks keep the sums of the current forward in training mode, and a call uses them up. Large maps are judged
    on the first images of the batch; the statistics of batch norm are the whole batch's. Weights may be changed at any
    time. `close`, or the end of a `with` block, removes the hooks: the compiler takes a model without hooks only.

    Raises `InputError` for a model that it cannot read, or an option out of range.
    """

    def __init__(
        self,
        model: nn.Sequential,
        *,
        pool: float = 0.0,
        threshold: float = 0.0,
        form: Form | Estimate = "joint",
        beta: float = 2.0,
        through_weights: float = 0.0,
        input_stage: bool = False,
    ) -> None:
        for name, value in (("pool", pool), ("threshold", threshold)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} = {value!r} is not a weight: use a number of at least 0")
        if not 0 <= through_weights <= 1:
            raise InputError(f"through_weights = {through_weights!r} is not a share: use a number in 0..1")
        if not (math.isfinite(beta) and beta > 0):
            raise InputError(f"beta = {beta!r} is not a steepness: use a number above 0")
        if not callable(form) and form not in get_args(Form):
            raise InputError(f"form = {form!r} is none of {', '.join(get_args(Form))}")
        self.pool = pool
        self.threshold = threshold
        self._estimate = form if callable(form) else partial(_evaluated, form)
        self.beta = beta
        self.through_weights = through_weights
        self._watched = [_Watched(stage) for stage in find_stages(model, input_stage=input_stage)]
        self._last: dict[str, Tensor] = {}

    def __call__(self) -> Tensor:
        """The loss term, a float32 scalar; raises `InputError` without a training forward since the last call."""
        shares = {}
        with torch.autocast(self._watched[0].stage.layer.weight.device.type, enabled=False):
            for watched in self._watched:
                neurons = watched.neurons(self.through_weights)
                shares[watched.stage.name] = self._estimate(neurons, self.beta) / watched.dense
        dense = sum(watched.edges for watched in self._watched)
        parts = [shares[watched.stage.name] * (watched.edges / dense) for watched in self._watched]
        total = torch.stack(parts).sum(dim=0)
        self._last = {f"{name}.": share.detach() for name, share in shares.items()} | {"": total.detach()}
        return self.pool * total[0] + self.threshold * total[1]

    def terms(self) -> dict[str, float]:
        """The shares of the last call: `pool` and `threshold`, and of each stage, such as `conv2.pool`."""
        kinds = ("pool", "threshold")
        return {name + kind: share[i].item() for name, share in self._last.items() for i, kind in enumerate(kinds)}

    def close(self) -> None:
        """Remove the hooks."""
        for watched in self._watched:
            watched.close()

    def __enter__(self) -> "PruningRegularizer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Watched:
    """A stage with its hooks, and what they saw of the current forward.

    edges: dense edges of an image. dense: dense edges of the neurons of the last call, counted once a window.
    """

    def __init__(self, stage: PrunedStage) -> None:
        self.stage = stage
        self.edges = self.dense = 0.0
        self._sums: Tensor | None = None
        self._statistics = _BatchStatistics()
        self._moments: tuple[Tensor, Tensor] | None = None
        self._map = (1, 1)
        self._known: tuple[tuple[int, int], Tensor, float] | None = None
        self._handles = [
            stage.layer.register_forward_hook(self._see_layer),
            stage.norm.register_forward_pre_hook(self._see_before_norm),
            stage.norm.register_forward_hook(self._see_norm),
        ]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._sums = self._moments = None

    def _see_layer(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if module.training:
            self._sums = output
            if output.ndim == 4:
                self._map = (inputs[0].shape[2], inputs[0].shape[3])

    def _see_before_norm(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training:
            self._statistics.see_before(self.stage.norm)

    def _see_norm(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if module.training:
            self._moments = self._statistics.after(self.stage.norm, inputs[0].detach())

    def neurons(self, through_weights: float) -> "Neurons":
        """The neurons of the last forward, which is forgotten."""
        sums, moments = self._sums, self._moments
        if sums is None or moments is None:
            raise InputError(
                f"{self.stage.name!r} has not seen a forward in training mode since the last call: call the model first"
            )
        self._sums = self._moments = None
        n = max(1, min(len(sums), NEURONS // sums[0].numel()))
        fan_in, windows = self._geometry(sums)
        self.dense = n * sums.shape[1] * windows
        maps = _scale_gradient(sums[:n], through_weights).float().reshape(n, sums.shape[1], *fan_in.shape)
        theta, gamma = _threshold(self.stage.norm, *moments)
        return Neurons(self.stage, maps, theta, gamma, fan_in, self._offset(sums))

    def _geometry(self, sums: Tensor) -> tuple[Tensor, float]:
        """Fan-in of every position, and its sum over all windows; computed once a size of the maps."""
        if self._known is None or self._known[0] != self._map:
            fan_in = self.stage.fan_in(*self._map)
            read = torch.zeros_like(fan_in)
            for place in self.stage.window_positions(*fan_in.shape):
                read[place] += 1
            self.edges = float((fan_in * (read > 0)).sum()) * sums.shape[1]
            self._known = self._map, fan_in.to(sums.device), float((fan_in * read).sum())
        return self._known[1:]

    def _offset(self, sums: Tensor) -> Tensor:
        """What a sum holds besides its edges, bias and padding: broadcasts to [channels, height, width]."""
        layer = self.stage.layer
        offset = torch.zeros(1, 1, 1, device=sums.device)
        if layer.bias is not None:
            offset = layer.bias.detach().float()[:, None, None]
        return offset + self.stage.padding_sums(*self._map) if self.stage.is_padded else offset


@dataclass(frozen=True, eq=False)
class Place:
    """The neurons that stand at one place of their windows: [n, channels, windows down, windows across] each.

    edges: of each neuron, 0 of a constant one. share: of its edges, after which each neuron is decided.
    margin: (sum - threshold) / sqrt(K) for inputs of magnitude 1, above 0 where the bit is decisive.
    """

    edges: Tensor
    share: Tensor
    margin: Tensor


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons of a stage, in float32.

    sums: [n, channels, height, width]. theta, gamma: [channels]. fan_in: [height, width]. offset: what the sums hold
    besides edges, broadcasts to [channels, height, width].
    """

    stage: PrunedStage
    sums: Tensor
    theta: Tensor
    gamma: Tensor
    fan_in: Tensor
    offset: Tensor

    def places(self) -> Iterator[Place]:
        """In the order in which a window's neurons are evaluated."""
        shape = self.sums.shape[1:]
        theta, gamma = self.theta[:, None, None].expand(shape), self.gamma[:, None, None]
        fan_in, offset = self.fan_in.expand(shape), self.offset.expand(shape)
        reach = fan_in.clamp_min(1) * self.stage.magnitude
        tau = (theta - offset) / reach
        edges = torch.where((tau > -1) & (tau <= 1) & (gamma != 0), fan_in, 0)
        scale = fan_in.clamp_min(1).sqrt() / reach
        if not self.stage.pools_sums:
            scale = scale * gamma.sign()
        for place in self.stage.window_positions(*shape[1:]):
            at = (..., *place)
            sums = self.sums[at]
            share = _decided((sums - offset[at]) / reach[at], tau[at], sums >= theta[at], 1 / reach[at])
            yield Place(edges[at], share, (sums - theta[at]) * scale[at])


def _evaluated(form: Form, neurons: Neurons, beta: float) -> Tensor:
    """Edges of all windows that the two terms count: [2]."""
    visit = torch.ones((), device=neurons.theta.device)
    pool = threshold = torch.zeros((), device=neurons.theta.device)
    for place in neurons.places():
        visited = (visit * place.edges).expand(place.share.shape)
        pool = pool + visited.sum()
        threshold = threshold + (place.share * (place.edges if form == "walk" else visited)).sum()
        visit = visit * torch.sigmoid(place.margin * -beta)
    return torch.stack([pool, threshold])


def _decided(u: Tensor, tau: Tensor, fires: Tensor, edge: Tensor) -> Tensor:
    """Share r of its edges after which each neuron is decided; edge: one edge as a share. See the module."""
    u = u.clamp(-1, 1)
    high = (1 + tau) / (1 + u).clamp_min(edge)
    low = (1 - tau + 2 * edge) / (1 - u).clamp_min(edge)
    return torch.where(fires, high, low).clamp(0, 1)


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x, whose gradient is multiplied by a factor."""
    if factor in (0.0, 1.0):
        return x if factor else x.detach()
    return x.detach() + factor * (x - x.detach())


def _threshold(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The sum at which a channel's bit changes, and gamma: float32 [channels] each."""
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.float()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.float()
    least = torch.where(gamma < 0, -_LEAST_GAMMA, _LEAST_GAMMA)
    divisor = torch.where(gamma.abs() < _LEAST_GAMMA, least, gamma)
    return mean - beta * torch.sqrt(variance + norm.eps) / divisor, gamma


class _BatchStatistics:
    """Mean and variance of the batch that a norm has just normed, float32 [channels] each.

    They are read back from the step that they moved the running statistics by, which costs nothing: computing them
    again takes a fifth of a training step on a CPU.
    """

    def __init__(self) -> None:
        self._before: tuple[Tensor, Tensor] | None = None

    def see_before(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        """Call before the norm's forward."""
        self._before = None
        if norm.running_mean is not None and norm.running_var is not None and norm.momentum:
            self._before = norm.running_mean.clone(), norm.running_var.clone()

    def after(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor]:
        """The statistics, after the norm's forward on x."""
        if self._before is None:
            variance, mean = torch.var_mean(x.float(), [0, *range(2, x.ndim)], correction=0)
            return mean, variance
        assert norm.running_mean is not None
        assert norm.running_var is not None
        count = x.numel() // x.shape[1]
        step = 1 / (norm.momentum or 1)
        mean, variance = self._before
        mean = mean + (norm.running_mean - mean) * step
        variance = variance + (norm.running_var - variance) * step
        return mean, variance.clamp_min(0) * ((count - 1) / count)

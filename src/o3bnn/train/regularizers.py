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
"""

import math
from types import TracebackType
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from o3bnn.errors import InputError
from o3bnn.train.regularize_stages import PrunedStage, find_stages

Form = Literal["walk", "joint", "margin"]

NEURONS = 1 << 18  # neurons of a stage that one evaluation looks at, or one image's if that is more
_LEAST_GAMMA = 1e-6


class PruningRegularizer:
    """`pool * R_pool + threshold * R_threshold` of a model's last training forward, as a loss term.

    Both terms are shares, 0..1, of the edges of all hidden stages that read bits (`input_stage` adds the one that reads
    integers). R_pool: those of the neurons that are visited. R_threshold: those that are evaluated, by visited neurons
    (`joint`) or as if every neuron were visited (`walk`).

    Forward hooks keep the sums of the current forward in training mode; calling the regularizer uses them up. Large
    maps are judged on the first images of the batch (the batch norm's statistics are always the whole batch's).
    `close`, or leaving a `with` block, removes the hooks; the compiler takes a model without hooks only.

    Raises `InputError` for a model that it cannot read, or an option out of range.
    """

    def __init__(
        self,
        model: nn.Sequential,
        *,
        pool: float = 0.0,
        threshold: float = 0.0,
        form: Form = "joint",
        beta: float = 2.0,
        input_stage: bool = False,
    ) -> None:
        for name, value in (("pool", pool), ("threshold", threshold)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} = {value!r} is not a weight: use 0 or more")
        if not (math.isfinite(beta) and beta > 0):
            raise InputError(f"beta = {beta!r} is not positive")
        if form not in get_args(Form):
            raise InputError(f"form = {form!r} is none of {', '.join(get_args(Form))}")
        self.pool = pool
        self.threshold = threshold
        self.form = form
        self.beta = beta
        self._watched = [_Watched(stage) for stage in find_stages(model, input_stage=input_stage)]
        self._last: list[tuple[str, Tensor, Tensor]] = []

    def __call__(self) -> Tensor:
        device = self._watched[0].stage.layer.weight.device
        with torch.autocast(device.type, enabled=False):
            parts = [(watched, *watched.terms(self.form, self.beta)) for watched in self._watched]
            dense = sum(watched.edges for watched, _, _ in parts)
            pool = torch.stack([share * (w.edges / dense) for w, share, _ in parts]).sum()
            threshold = torch.stack([share * (w.edges / dense) for w, _, share in parts]).sum()
        self._last = [(w.stage.name, a.detach(), b.detach()) for w, a, b in parts]
        self._last.append(("", pool.detach(), threshold.detach()))
        return self.pool * pool + self.threshold * threshold

    def terms(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, pool, threshold in self._last:
            prefix = f"{name}." if name else ""
            values[f"{prefix}pool"] = float(pool)
            values[f"{prefix}threshold"] = float(threshold)
        return values

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
    """A stage with its hooks, and what they saw of the current forward."""

    def __init__(self, stage: PrunedStage) -> None:
        self.stage = stage
        self.sums: Tensor | None = None
        self.normed: Tensor | None = None
        self.map: tuple[int, int] = (1, 1)
        self.fan_in = torch.empty(0, 0)
        self.edges = 0.0
        self._geometry: tuple[int, int] | None = None
        self._handles = [
            stage.layer.register_forward_hook(self._see_layer),
            stage.norm.register_forward_hook(self._see_norm),
        ]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self.sums = self.normed = None

    def _see_layer(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if module.training:
            self.sums = output
            if output.ndim == 4:
                self.map = (inputs[0].shape[2], inputs[0].shape[3])

    def _see_norm(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if module.training:
            self.normed = inputs[0]

    def _measure(self, sums: Tensor) -> None:
        """Fan-in of every position and edges of an image, once a size of the maps."""
        if self._geometry != self.map:
            self._geometry = self.map
            self.fan_in = self.stage.fan_in(*self.map).to(sums.device)
            read = torch.zeros_like(self.fan_in)
            for place in self.stage.window_positions(*self.fan_in.shape):
                read[place] = 1
            self.edges = float((self.fan_in * read).sum()) * sums.shape[1]

    def terms(self, form: Form, beta: float) -> tuple[Tensor, Tensor]:
        """Shares (pool, threshold) of the last forward, which is forgotten."""
        sums, normed = self.sums, self.normed
        if sums is None or normed is None:
            raise InputError(
                f"{self.stage.name!r} has not seen a forward in training mode since the last call: call the model first"
            )
        self.sums = self.normed = None
        self._measure(sums)
        n = max(1, min(len(sums), NEURONS // max(1, sums[0].numel())))
        theta, gamma = _threshold(self.stage.norm, normed)
        offset = self._offset(sums)
        maps = sums[:n].float().reshape(n, sums.shape[1], *self.fan_in.shape)
        return _shares(self.stage, maps, theta, gamma, offset, self.fan_in, form, beta)

    def _offset(self, sums: Tensor) -> Tensor:
        """What a sum holds besides its edges, bias and padding: broadcasts to [channels, height, width]."""
        layer = self.stage.layer
        offset = torch.zeros(1, 1, 1, device=sums.device)
        if layer.bias is not None:
            offset = layer.bias.detach().float()[:, None, None]
        return offset + self.stage.padding_sums(*self.map) if self.stage.is_padded else offset


def _threshold(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor]:
    """The sum at which a channel's bit changes, by the batch's own statistics, and gamma: float32 [channels] each.

    The statistics are constants to the gradient: a path through them costs a tenth of a step and changes no curve.
    """
    variance, mean = torch.var_mean(x.detach().float(), [0, *range(2, x.ndim)], correction=0)
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.float()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.float()
    tiny = torch.where(gamma < 0, -_LEAST_GAMMA, _LEAST_GAMMA)
    divisor = torch.where(gamma.abs() < _LEAST_GAMMA, tiny, gamma)
    return mean - beta * torch.sqrt(variance + norm.eps) / divisor, gamma


def _shares(
    stage: PrunedStage,
    sums: Tensor,
    theta: Tensor,
    gamma: Tensor,
    offset: Tensor,
    fan_in: Tensor,
    form: Form,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """Shares (pool, threshold) of a stage's edges.

    sums: [n, channels, height, width]. theta, gamma: [channels]. offset: broadcasts to [channels, height, width].
    fan_in: [height, width].
    """
    shape = sums.shape[1:]
    fan_in, offset, theta = fan_in.expand(shape), offset.expand(shape), theta[:, None, None].expand(shape)
    reach = fan_in.clamp_min(1) * stage.magnitude
    tau = (theta - offset) / reach
    edges = torch.where((tau > -1) & (tau <= 1) & (gamma[:, None, None] != 0), fan_in, 0)
    steepness = -beta * fan_in.clamp_min(1).sqrt() / reach
    if not stage.pools_sums:
        steepness = steepness * gamma[:, None, None].sign()
    visit: Tensor | float = 1.0
    pool, threshold, dense = sums.new_zeros(()), sums.new_zeros(()), 0.0
    for place in stage.window_positions(*shape[1:]):
        at = (..., *place)
        own = sums[at]
        visited = visit * edges[at]
        share = _decided(own, theta[at], tau[at], offset[at], reach[at], form)
        pool = pool + visited.expand(own.shape).sum()
        threshold = threshold + (share * (edges[at] if form == "walk" else visited)).sum()
        dense += float(fan_in[at].sum()) * len(own)
        visit = visit * torch.sigmoid((own - theta[at]) * steepness[at])
    return pool / dense, threshold / dense


def _decided(sums: Tensor, theta: Tensor, tau: Tensor, offset: Tensor, reach: Tensor, form: Form) -> Tensor:
    """Share of its edges after which each neuron is decided, were matches spread evenly."""
    u = ((sums - offset) / reach).clamp(-1, 1)
    if form == "margin":
        return 1 - (u - tau).abs() / 2
    tick = 1 / reach
    fires = (1 + tau) / (1 + u).clamp_min(tick)
    silent = (1 - tau + 2 * tick) / (1 - u).clamp_min(tick)
    return torch.where(sums >= theta, fires, silent).clamp(0, 1)

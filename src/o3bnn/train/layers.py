"""Layers of a binarized network: latent float weights, forward on their signs, straight-through gradients.

The sign of zero is +1 everywhere, as in the integer network. In eval mode every layer computes in float32, also under
autocast, so that its integer sums (below 2^24) are exact.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function_unary

PaddingMode = Literal["zero", "minus_one", "plus_one"]
PADDING_VALUES: dict[str, int] = {"zero": 0, "minus_one": -1, "plus_one": 1}
Pair = int | Sequence[int]


class _Binarize(torch.autograd.Function):
    """Sign with sign(0) = +1; the gradient passes where |x| <= clip.

    `copysign` and `hardtanh_backward` are what torch has vectorized on every device: `where` and masks take ten times
    as long on a CPU. Adding zero turns -0.0 into +0.0; the backward's limits are exclusive, so they lie one step out.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: float) -> Tensor:
        ctx.limit = None
        if not math.isinf(clip):
            ctx.save_for_backward(x)
            ctx.limit = _step_above(clip, x.dtype)
        one = torch.ones((), dtype=x.dtype, device=x.device)
        if torch.compiler.is_exporting():  # as `symbolic`
            return torch.where(x >= 0, one, -one)
        return torch.copysign(one, x + 0.0)

    @staticmethod
    def symbolic(g: Any, x: Any, clip: float) -> Any:
        """For torch.onnx, which has no `copysign`."""
        zero, one, minus_one = (g.op("Constant", value_t=torch.tensor(value)) for value in (0.0, 1.0, -1.0))
        return g.op("Where", g.op("GreaterOrEqual", x, zero), one, minus_one)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        if ctx.limit is None:
            return gradient, None
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, x, -ctx.limit, ctx.limit), None


@cache
def _step_above(value: float, dtype: torch.dtype) -> float:
    """The least number of a type above a value."""
    limits = torch.tensor([value, math.inf], dtype=dtype)
    return torch.nextafter(limits[0], limits[1]).item()


def binarize(x: Tensor, clip: float = 1.0) -> Tensor:
    """Signs of x as -1.0 and +1.0 (+1 at zero), of x's shape and dtype.

    The gradient is passed straight through where |x| <= clip, and is zero elsewhere (Hubara et al., "Binarized Neural
    Networks", NeurIPS 2016); clip = inf passes it everywhere.
    """
    if has_torch_function_unary(x):
        return handle_torch_function(binarize, (x,), x, clip=clip)
    return cast("Tensor", _Binarize.apply(x, clip))  # type: ignore[no-untyped-call]


def clip_latent_weights(module: nn.Module, limit: float = 1.0) -> None:
    """Clip the latent weights of every binary layer in `module` to [-limit, limit], in place, after an optimizer step.

    Without it a latent weight can drift so far that its sign no longer changes.
    """
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, BinaryConv2d | BinaryLinear):
                layer.weight.clamp_(-limit, limit)


class Sign(nn.Module):
    """Activation: +1 where x >= 0, else -1; see `binarize` for the gradient and `clip`."""

    def __init__(self, clip: float = 1.0) -> None:
        super().__init__()
        if not clip > 0:
            raise ValueError(f"clip = {clip!r} must be positive")
        self.clip = clip

    def forward(self, x: Tensor) -> Tensor:
        return binarize(x, self.clip)

    def extra_repr(self) -> str:
        return f"clip={self.clip}"


class _BinaryLayer(nn.Module):
    """Latent weights and an optional bias; in eval mode sums are float32, also under autocast."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, shape: tuple[int, ...], bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new latent weights (Glorot uniform); the bias becomes zero."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self._sums(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._sums(x.float())

    def _sums(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class BinaryConv2d(_BinaryLayer):
    """Convolution of NCHW maps with the signs of its latent weights; dilation 1.

    kernel_size, stride, padding: an int or a pair (rows, columns). groups divides both channel counts.
    padding_mode: what stands beyond the border. `zero` adds nothing to a sum; `minus_one` and `plus_one` are the two
        activation values. weight: latent, float32 [out, in / groups, rows, columns]; bias: float32 [out] or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        padding_mode: PaddingMode = "zero",
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        if padding_mode not in PADDING_VALUES:
            raise ValueError(f"padding_mode = {padding_mode!r} is not one of {tuple(PADDING_VALUES)}")
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
            if value < 1 or value % groups:
                raise ValueError(f"{name} = {value} is not a positive multiple of groups = {groups}")
        kernel = _pair("kernel_size", kernel_size, 1)
        super().__init__((out_channels, in_channels // groups, *kernel), bias)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel
        self.stride = _pair("stride", stride, 1)
        self.padding = _pair("padding", padding, 0)
        self.padding_mode: PaddingMode = padding_mode
        self.groups = groups

    def _sums(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zero" and any(padding):
            rows, columns = padding
            x = functional.pad(x, (columns, columns, rows, rows), value=PADDING_VALUES[self.padding_mode])
            padding = (0, 0)
        sums = functional.conv2d(x, binarize(self.weight, math.inf), None, self.stride, padding, 1, self.groups)
        return sums if self.bias is None else sums + self.bias.view(-1, 1, 1)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, padding_mode={self.padding_mode!r}, groups={self.groups}, "
            f"bias={self.bias is not None}"
        )


class BinaryLinear(_BinaryLayer):
    """Fully connected layer with the signs of its latent weights.

    weight: latent, float32 [out_features, in_features]; bias: float32 [out_features] or None.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if value < 1:
                raise ValueError(f"{name} = {value} is not positive")
        super().__init__((out_features, in_features), bias)
        self.in_features = in_features
        self.out_features = out_features

    def _sums(self, x: Tensor) -> Tensor:
        sums = functional.linear(x, binarize(self.weight, math.inf))
        return sums if self.bias is None else sums + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class PixelEncoding(nn.Module):
    """Turns 8-bit pixels into the integers that the first layer sums: float32 table[p], of the shape of the pixels.

    table: 256 integers in -32768..32767, by default 2p - 255; a table of only -1 and +1 makes the first layer binary.
    Pixels are uint8 or float, 0..255. An affine table is computed arithmetically (so that augmentation may leave
    fractions while training); any other is looked up, where fractions are cut off.
    The table is kept in the state dict, as int16.
    """

    table: Tensor

    def __init__(self, table: Iterable[int] | None = None) -> None:
        super().__init__()
        values = [2 * p - 255 for p in range(256)] if table is None else [int(value) for value in table]
        if len(values) != 256 or min(values) < -(1 << 15) or max(values) >= 1 << 15:
            raise ValueError("a pixel table has 256 integers in -32768..32767")
        self.register_buffer("table", torch.tensor(values, dtype=torch.int16))
        self._affine = _affine(values)
        self.register_load_state_dict_post_hook(_refresh_affine)  # type: ignore[no-untyped-call]

    def forward(self, pixels: Tensor) -> Tensor:
        if self._affine is None:
            return self.table.to(torch.float32)[pixels.long()]
        step, first = self._affine
        return pixels.to(torch.float32) * step + first

    def extra_repr(self) -> str:
        return "general table" if self._affine is None else "{} * p + {}".format(*self._affine)


class BinaryPixelEncoding(PixelEncoding):
    """Pixels as bits: +1 where p >= threshold, else -1."""

    def __init__(self, threshold: int = 128) -> None:
        super().__init__([1 if p >= threshold else -1 for p in range(256)])


class LogitScale(nn.BatchNorm1d):
    """Batch norm of the last layer's sums, float32 [n, classes], whose eval mode is exactly `x * scale + offset`.

    Two float32 operations, two roundings: the logits of the integer network are the same bits. (The eval mode of
    `nn.BatchNorm1d` may round once, by a fused multiply-add, depending on the processor.)
    """

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        """Float32 [classes] each: scale = gamma / sqrt(var + eps) and offset = beta - mean * scale."""
        if self.running_mean is None or self.running_var is None:
            raise ValueError("LogitScale needs its running statistics (track_running_stats=True)")
        scale = 1.0 / torch.sqrt(self.running_var.float() + self.eps)
        if self.affine:
            scale = scale * self.weight.float()
        offset = -(self.running_mean.float() * scale)
        if self.affine:
            offset = self.bias.float() + offset
        return scale, offset

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name in the base class)
        if self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            scale, offset = self.scale_and_offset()
            return input.float() * scale + offset


def _pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= least for side in pair):
        raise ValueError(f"{name} = {value!r} is not an integer or a pair of integers of at least {least}")
    return pair


def _affine(values: Sequence[int]) -> tuple[int, int] | None:
    """(step, first) where values[p] = step * p + first, else None."""
    first, step = values[0], values[1] - values[0]
    return (step, first) if all(v == step * p + first for p, v in enumerate(values)) else None


def _refresh_affine(module: nn.Module, _: object) -> None:
    assert isinstance(module, PixelEncoding)
    if not module.table.is_meta:
        module._affine = _affine(module.table.tolist())

"""The straight line of modules that a network is made of, each with the shapes that it reads and yields.

Shapes are PyTorch's, of `BATCH` images: (BATCH, channels, height, width) or (BATCH, features).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from o3bnn.errors import UnsupportedModuleError
from o3bnn.train.layers import BinaryConv2d, BinaryLinear, LogitScale, PixelEncoding, Sign

Shape = tuple[int, ...]

BATCH = 1009  # stands for any number of images; a prime, so that a hard-coded batch size does not fit by accident
NO_OPS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
LAYERS = (BinaryConv2d, BinaryLinear)
KINDS = (*LAYERS, PixelEncoding, Sign, LogitScale, *NORMS, nn.Hardtanh, nn.MaxPool2d, nn.Flatten, *NO_OPS)

SUPPORTED = (
    "supported are BinaryConv2d, BinaryLinear, PixelEncoding, Sign and LogitScale of o3bnn.train.layers, and "
    "BatchNorm1d, BatchNorm2d, Hardtanh, MaxPool2d, Flatten, Dropout and Identity of torch.nn, one after the other "
    "(see docs/compiler.md)"
)
_HINTS: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "its weights are not binary: use o3bnn.train.layers.BinaryConv2d"),
    ((nn.Linear, nn.Bilinear), "its weights are not binary: use o3bnn.train.layers.BinaryLinear"),
    ((nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid), "its output is not bits: use Sign"),
    (
        (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
        "an average of bits is no bit, and an adaptive window has no fixed size: use MaxPool2d",
    ),
    ((nn.Softmax, nn.LogSoftmax), "an integer network ends in logits: leave it to the loss or to the caller"),
)


@dataclass(frozen=True)
class Step:
    """One module of the line. path: its dotted path (or the name of a call in `forward`); shapes: of BATCH images."""

    path: str
    module: nn.Module
    in_shape: Shape
    out_shape: Shape

    def __str__(self) -> str:
        return describe(self.path, self.module)


def describe(path: str, module: nn.Module) -> str:
    """How errors name a module: its dotted path and its class."""
    return f"{path!r} ({type(module).__name__})"


def check_kind(path: str, module: nn.Module) -> None:
    """Raise UnsupportedModuleError unless the module is of a kind that lowers, and computes what its class computes."""
    name = describe(path, module)
    kind = next((kind for kind in KINDS if isinstance(module, kind)), None)
    if kind is None:
        hint = next((hint for kinds, hint in _HINTS if isinstance(module, kinds)), "it has no exact integer form")
        raise UnsupportedModuleError(f"{name}: {hint}; {SUPPORTED}")
    if type(module).forward is not _forward_of(module) or "forward" in vars(module):
        raise UnsupportedModuleError(f"{name}: it overrides the forward of {kind.__name__}; {SUPPORTED}")
    _check_settings(name, module)
    _check_values(name, module)


def output_shape(path: str, module: nn.Module, shape: Shape) -> Shape:
    """Shape that a module of a supported kind yields; raises UnsupportedModuleError where `shape` does not suit it."""
    name = describe(path, module)
    match module:
        case BinaryConv2d():
            return _conv_shape(name, module, shape)
        case BinaryLinear():
            _require(name, shape, len(shape) == 2, "a flat input: put a Flatten before it")
            _require(name, shape, shape[1] == module.in_features, f"{module.in_features} features")
            return shape[0], module.out_features
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            rank = 4 if isinstance(module, nn.BatchNorm2d) else 2
            _require(name, shape, len(shape) == rank, f"{'a map' if rank == 4 else 'a flat input'}")
            _require(name, shape, shape[1] == module.num_features, f"{module.num_features} channels")
            return shape
        case nn.MaxPool2d():
            _require(name, shape, len(shape) == 4, "a map")
            (rows, columns), (down, right) = pool_size(module)
            height, width = (shape[2] - rows) // down + 1, (shape[3] - columns) // right + 1
            _require(name, shape, height >= 1 and width >= 1, f"a map of at least {rows} x {columns}")
            return shape[0], shape[1], height, width
        case nn.Flatten():
            return flattened(shape)
        case _:
            return shape


def flattened(shape: Shape) -> Shape:
    """Shape of a map, or of an already flat input, after Flatten."""
    return shape[0], math.prod(shape[1:])


def pool_size(pool: nn.MaxPool2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size and stride of a max-pool, each as (rows, columns)."""
    return pair(pool.kernel_size), pair(pool.stride or pool.kernel_size)


def pair(value: object) -> tuple[int, int]:
    """An int or a pair of ints as a pair."""
    if isinstance(value, int):
        return value, value
    assert isinstance(value, tuple | list)
    values = [int(v) for v in value]
    return values[0], values[-1]


def _conv_shape(name: str, conv: BinaryConv2d, shape: Shape) -> Shape:
    _require(name, shape, len(shape) == 4, "a map")
    _require(name, shape, shape[1] == conv.in_channels, f"{conv.in_channels} channels")
    sides = [
        (side + 2 * padding - kernel) // stride + 1
        for side, padding, kernel, stride in zip(shape[2:], conv.padding, conv.kernel_size, conv.stride, strict=True)
    ]
    rows, columns = conv.kernel_size
    _require(name, shape, min(sides) >= 1, f"a padded map of at least {rows} x {columns}")
    return shape[0], conv.out_channels, *sides


def _require(name: str, shape: Shape, condition: bool, wanted: str) -> None:
    if not condition:
        found = f"{shape[2]} x {shape[3]} with {shape[1]} channels" if len(shape) == 4 else f"{shape[1:]} (flat)"
        raise UnsupportedModuleError(f"{name}: expects {wanted}, but for this image size it gets {found}")


def _forward_of(module: nn.Module) -> object:
    """The forward of the nearest class of ours or of torch.nn in a module's family."""
    for kind in type(module).__mro__:
        if kind in KINDS or kind.__module__.startswith("torch.nn."):
            return getattr(kind, "forward", None)
    return None


def _check_settings(name: str, module: nn.Module) -> None:
    if isinstance(module, nn.MaxPool2d):
        for setting, plain in (("padding", (0, 0)), ("dilation", (1, 1))):
            value = getattr(module, setting)
            if pair(value) != plain:
                raise UnsupportedModuleError(f"{name}: {setting} = {value} is not supported in a pool")
        if module.ceil_mode or module.return_indices:
            raise UnsupportedModuleError(f"{name}: ceil_mode and return_indices are not supported")
    if isinstance(module, NORMS) and (module.running_mean is None or module.running_var is None):
        raise UnsupportedModuleError(f"{name}: it has no running statistics (use track_running_stats=True)")
    if isinstance(module, nn.Hardtanh) and not module.min_val < module.max_val:
        raise UnsupportedModuleError(f"{name}: min_val {module.min_val} is not below max_val {module.max_val}")
    if isinstance(module, nn.Flatten) and (module.start_dim != 1 or module.end_dim not in (-1, 3)):
        raise UnsupportedModuleError(f"{name}: only Flatten(start_dim=1, end_dim=-1) is supported")


def _check_values(name: str, module: nn.Module) -> None:
    tensors: list[tuple[str, Tensor]] = [
        *module.named_parameters(recurse=False),
        *module.named_buffers(recurse=False),
    ]
    if isinstance(module, BinaryConv2d | BinaryLinear):  # read as attributes, since they may be parametrized
        tensors = [("weight", module.weight), *([] if module.bias is None else [("bias", module.bias)])]
    for field, value in tensors:
        if not value.is_floating_point():
            continue
        if value.is_meta or value.dtype != torch.float32:
            found = "on the meta device, without values" if value.is_meta else f"{value.dtype}: call module.float()"
            raise UnsupportedModuleError(f"{name}: its {field} is {found}")
        bad = torch.nonzero(~torch.isfinite(value.detach()))
        if len(bad):
            found = str(value[tuple(bad[0])].item())
            raise UnsupportedModuleError(f"{name}: its {field} is {found} in channel {int(bad[0][0])}")

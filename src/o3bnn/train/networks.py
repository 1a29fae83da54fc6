"""The networks that are provided: plain `nn.Sequential` trees with named children, built by name and JSON-able options.

Every network takes pixels (NCHW, 0..255) and returns logits [n, classes]. `width` multiplies the hidden channel counts.

Where blocks pool: `after_sign` is conv, batch norm, sign, pool (FINN), which pools a window's bits; `before_norm` is
conv, pool, batch norm, sign (BinaryNet), which pools its sums. Both lower exactly.

`real_valued` makes the same network with float weights and ReLU: a teacher for distillation, or the accuracy to compare
with. It cannot be compiled.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torch import nn

from o3bnn.errors import InputError
from o3bnn.train.layers import BinaryConv2d, BinaryLinear, LogitScale, PixelEncoding, Sign

PoolOrder = Literal["after_sign", "before_norm"]
Image = Sequence[int]

MAX_DEPTH = 256
MAX_CHANNELS = 1 << 16


def mlp(
    n: int = 512, depth: int = 3, classes: int = 10, image: Image = (28, 28, 1), real_valued: bool = False
) -> nn.Sequential:
    """`depth` hidden fully connected layers of n neurons; image: (height, width, channels)."""
    builder = _Builder(image, real_valued=real_valued)
    builder.flatten()
    _check("depth", depth, 1, MAX_DEPTH)
    for _ in range(depth):
        builder.fc(n)
    return builder.output(classes)


def cnv(
    width: float = 1.0,
    classes: int = 10,
    image: Image = (32, 32, 3),
    pool: PoolOrder = "after_sign",
    real_valued: bool = False,
) -> nn.Sequential:
    """FINN's CIFAR-10 network: 64-64-P-128-128-P-256-256, 3 x 3 unpadded, then 512-512-classes.

    Source: Umuroglu et al., "FINN: A Framework for Fast, Scalable Binarized Neural Network Inference", FPGA 2017.
    """
    builder = _Builder(image, width, pool, real_valued)
    for channels, pooled in ((64, 0), (64, 2), (128, 0), (128, 2), (256, 0), (256, 0)):
        builder.conv(channels, 3, pool=pooled)
    builder.flatten()
    builder.fc(512)
    builder.fc(512)
    return builder.output(classes)


def vgg_like(
    width: float = 1.0,
    classes: int = 10,
    image: Image = (32, 32, 3),
    pool: PoolOrder = "before_norm",
    real_valued: bool = False,
) -> nn.Sequential:
    """BinaryNet's CIFAR-10 network: 2x128C3-P-2x256C3-P-2x512C3-P, zero-padded, then 1024-1024-classes.

    Source: Hubara et al., "Binarized Neural Networks", NeurIPS 2016.
    """
    builder = _Builder(image, width, pool, real_valued)
    for channels in (128, 256, 512):
        builder.conv(channels, 3, padding=1)
        builder.conv(channels, 3, padding=1, pool=2)
    builder.flatten()
    builder.fc(1024)
    builder.fc(1024)
    return builder.output(classes)


def alexnet(
    width: float = 1.0,
    classes: int = 1000,
    image: Image = (224, 224, 3),
    pool: PoolOrder = "before_norm",
    real_valued: bool = False,
) -> nn.Sequential:
    """AlexNet with overlapping 3/2 poolings: 96C11/4-P-256C5-P-384C3-384C3-256C3-P, then 4096-4096-classes."""
    builder = _Builder(image, width, pool, real_valued)
    builder.conv(96, 11, stride=4, padding=2, pool=3)
    builder.conv(256, 5, padding=2, pool=3)
    builder.conv(384, 3, padding=1)
    builder.conv(384, 3, padding=1)
    builder.conv(256, 3, padding=1, pool=3)
    builder.flatten()
    builder.fc(4096)
    builder.fc(4096)
    return builder.output(classes)


def vgg16(
    width: float = 1.0,
    classes: int = 1000,
    image: Image = (224, 224, 3),
    pool: PoolOrder = "before_norm",
    real_valued: bool = False,
) -> nn.Sequential:
    """VGG-16: thirteen 3 x 3 zero-padded convolutions in five pooled groups, then 4096-4096-classes."""
    builder = _Builder(image, width, pool, real_valued)
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for index in range(count):
            builder.conv(channels, 3, padding=1, pool=2 if index == count - 1 else 0)
    builder.flatten()
    builder.fc(4096)
    builder.fc(4096)
    return builder.output(classes)


NETWORKS: dict[str, Callable[..., nn.Sequential]] = {
    "alexnet": alexnet,
    "cnv": cnv,
    "mlp": mlp,
    "vgg16": vgg16,
    "vgg_like": vgg_like,
}


def factory(name: str) -> Callable[..., nn.Sequential]:
    """The function that makes a network: of a provided one by name, or `module:function`, which is imported.

    The current folder is searched first. Importing runs the module's code.

    Raises:
        InputError: there is no such network, module or function.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        known = ", ".join(sorted(NETWORKS))
        raise InputError(f"unknown network {name!r}: choose one of {known}, or your own as module:function")
    before, sys.path = sys.path, [str(Path.cwd()), *sys.path]
    try:
        found = getattr(importlib.import_module(module_name), attribute, None)
    except ImportError as error:
        raise InputError(f"network {name!r}: module {module_name!r} cannot be imported: {error}") from error
    finally:
        sys.path = before
    if not callable(found):
        raise InputError(f"network {name!r}: module {module_name!r} has no function {attribute!r}")
    return cast("Callable[..., nn.Sequential]", found)


def defaults(name: str) -> dict[str, Any]:
    """The options of a network with their default values; those without one are left out."""
    parameters = inspect.signature(factory(name)).parameters
    return {key: value.default for key, value in parameters.items() if value.default is not inspect.Parameter.empty}


def build(name: str, **options: Any) -> nn.Sequential:
    """Build a network by name (see `factory`), which may be one's own.

    Raises:
        InputError: an unknown network or option, an option value that does not fit, or a function that makes no
            `nn.Sequential`.
    """
    make = factory(name)
    parameters = inspect.signature(make).parameters
    unknown = sorted(set(options) - set(parameters))
    if unknown and not any(value.kind is inspect.Parameter.VAR_KEYWORD for value in parameters.values()):
        known = ", ".join(parameters) or "none"
        raise InputError(f"network {name!r} has no option {unknown[0]!r}: its options are {known}")
    module = make(**options)
    if not isinstance(module, nn.Sequential):
        raise InputError(f"network {name!r} made a {type(module).__name__}: return an nn.Sequential")
    return module


class _Builder:
    """Adds blocks to an `nn.Sequential` and keeps track of the map's shape."""

    def __init__(
        self, image: Image, width: float = 1.0, order: PoolOrder = "after_sign", real_valued: bool = False
    ) -> None:
        if not isinstance(image, Sequence) or isinstance(image, str) or len(image) != 3:
            raise InputError(f"image = {image!r} is not (height, width, channels)")
        for size in image:
            _check("image size", size, 1, 1 << 14)
        if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 64:
            raise InputError(f"width = {width!r} is not a number above 0 and up to 64")
        if not isinstance(real_valued, bool):
            raise InputError(f"real_valued = {real_valued!r} is neither true nor false")
        if order not in get_args(PoolOrder):
            raise InputError(f"pool = {order!r} is not one of {get_args(PoolOrder)}")
        self.height, self.columns, self.channels = image
        self.width = width
        self.order = order
        self.real_valued = real_valued
        self.convs = 0
        self.fcs = 0
        self.module = nn.Sequential()
        self.module.add_module("encode", PixelEncoding())

    def conv(self, channels: int, kernel: int, *, stride: int = 1, padding: int = 0, pool: int = 0) -> None:
        """Convolution, batch norm and sign, with a max-pool of size `pool` and stride 2 where pool > 0."""
        self.convs += 1
        index, channels = self.convs, self._scaled(channels)
        blocks: list[tuple[str, nn.Module]] = [("bn", nn.BatchNorm2d(channels)), ("sign", self._activation())]
        if pool:
            blocks.insert(0 if self.order == "before_norm" else 2, ("pool", nn.MaxPool2d(pool, 2)))
        conv: nn.Module = BinaryConv2d(self.channels, channels, kernel, stride, padding)
        if self.real_valued:
            conv = nn.Conv2d(self.channels, channels, kernel, stride, padding, bias=False)
        for name, block in [("conv", conv), *blocks]:
            self.module.add_module(f"{name}{index}", block)
        self.channels = channels
        self._shrink(kernel, stride, padding, f"conv{index}")
        if pool:
            self._shrink(pool, 2, 0, f"pool{index}")

    def flatten(self) -> None:
        self.module.add_module("flatten", nn.Flatten())
        self.channels *= self.height * self.columns

    def fc(self, features: int) -> None:
        """Fully connected layer, batch norm and sign."""
        self.fcs += 1
        index, features = self.fcs, self._scaled(features)
        self.module.add_module(f"fc{index}", self._linear(features))
        self.module.add_module(f"fc_bn{index}", nn.BatchNorm1d(features))
        self.module.add_module(f"fc_sign{index}", self._activation())
        self.channels = features

    def output(self, classes: int) -> nn.Sequential:
        """Close the network with the layer that yields logits, and return it."""
        _check("classes", classes, 1, MAX_CHANNELS)
        self.module.add_module("output", self._linear(classes))
        self.module.add_module("logits", LogitScale(classes))
        return self.module

    def _activation(self) -> nn.Module:
        return nn.ReLU() if self.real_valued else Sign()

    def _linear(self, features: int) -> nn.Module:
        if self.real_valued:
            return nn.Linear(self.channels, features, bias=False)
        return BinaryLinear(self.channels, features)

    def _scaled(self, channels: int) -> int:
        _check("channels", channels, 1, MAX_CHANNELS)
        scaled = max(1, round(channels * self.width))
        _check(f"channels ({channels} x width {self.width})", scaled, 1, MAX_CHANNELS)
        return scaled

    def _shrink(self, kernel: int, stride: int, padding: int, name: str) -> None:
        height, columns = self.height, self.columns
        self.height = (height + 2 * padding - kernel) // stride + 1
        self.columns = (columns + 2 * padding - kernel) // stride + 1
        if self.height < 1 or self.columns < 1:
            raise InputError(f"the image is too small: {name} does not fit a map of {height} x {columns}")


def _check(what: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{what} = {value!r} is not an integer in {low}..{high}")

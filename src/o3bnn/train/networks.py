"""The networks that are provided: plain `nn.Sequential` trees with named children, built by name and JSON-able options.

Every network takes pixels (NCHW, 0..255) and returns logits [n, classes]. `width` multiplies the hidden channel counts.

Where blocks pool: `after_sign` is conv, batch norm, sign, pool (FINN), which pools a window's bits; `before_norm` is
conv, pool, batch norm, sign (BinaryNet), which pools its sums. Both lower exactly.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from torch import nn

from o3bnn.errors import InputError
from o3bnn.train.layers import BinaryConv2d, BinaryLinear, LogitScale, PixelEncoding, Sign

PoolOrder = Literal["after_sign", "before_norm"]
Image = Sequence[int]

MAX_DEPTH = 256
MAX_CHANNELS = 1 << 16


def mlp(n: int = 512, depth: int = 3, classes: int = 10, image: Image = (28, 28, 1)) -> nn.Sequential:
    """`depth` hidden fully connected layers of n neurons; image: (height, width, channels)."""
    builder = _Builder(image)
    builder.flatten()
    _check("depth", depth, 1, MAX_DEPTH)
    for _ in range(depth):
        builder.fc(n)
    return builder.output(classes)


def cnv(
    width: float = 1.0, classes: int = 10, image: Image = (32, 32, 3), pool: PoolOrder = "after_sign"
) -> nn.Sequential:
    """FINN's CIFAR-10 network: 64-64-P-128-128-P-256-256, 3 x 3 unpadded, then 512-512-classes.

    Source: Umuroglu et al., "FINN: A Framework for Fast, Scalable Binarized Neural Network Inference", FPGA 2017.
    """
    builder = _Builder(image, width, pool)
    for channels, pooled in ((64, 0), (64, 2), (128, 0), (128, 2), (256, 0), (256, 0)):
        builder.conv(channels, 3, pool=pooled)
    builder.flatten()
    builder.fc(512)
    builder.fc(512)
    return builder.output(classes)


def vgg_like(
    width: float = 1.0, classes: int = 10, image: Image = (32, 32, 3), pool: PoolOrder = "before_norm"
) -> nn.Sequential:
    """BinaryNet's CIFAR-10 network: 2x128C3-P-2x256C3-P-2x512C3-P, zero-padded, then 1024-1024-classes.

    Source: Hubara et al., "Binarized Neural Networks", NeurIPS 2016.
    """
    builder = _Builder(image, width, pool)
    for channels in (128, 256, 512):
        builder.conv(channels, 3, padding=1)
        builder.conv(channels, 3, padding=1, pool=2)
    builder.flatten()
    builder.fc(1024)
    builder.fc(1024)
    return builder.output(classes)


def alexnet(
    width: float = 1.0, classes: int = 1000, image: Image = (224, 224, 3), pool: PoolOrder = "before_norm"
) -> nn.Sequential:
    """AlexNet with overlapping 3/2 poolings: 96C11/4-P-256C5-P-384C3-384C3-256C3-P, then 4096-4096-classes."""
    builder = _Builder(image, width, pool)
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
    width: float = 1.0, classes: int = 1000, image: Image = (224, 224, 3), pool: PoolOrder = "before_norm"
) -> nn.Sequential:
    """VGG-16: thirteen 3 x 3 zero-padded convolutions in five pooled groups, then 4096-4096-classes."""
    builder = _Builder(image, width, pool)
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


def build(name: str, **options: Any) -> nn.Sequential:
    """Build a provided network by name.

    Raises:
        InputError: an unknown name or option, or an option value that does not fit.
    """
    factory = NETWORKS.get(name)
    if factory is None:
        raise InputError(f"unknown network {name!r}: choose one of {', '.join(sorted(NETWORKS))}")
    known = list(inspect.signature(factory).parameters)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"network {name!r} has no option {unknown[0]!r}: its options are {', '.join(known)}")
    return factory(**options)


class _Builder:
    """Adds blocks to an `nn.Sequential` and keeps track of the map's shape."""

    def __init__(self, image: Image, width: float = 1.0, order: PoolOrder = "after_sign") -> None:
        if not isinstance(image, Sequence) or isinstance(image, str) or len(image) != 3:
            raise InputError(f"image = {image!r} is not (height, width, channels)")
        for size in image:
            _check("image size", size, 1, 1 << 14)
        if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 64:
            raise InputError(f"width = {width!r} is not a number above 0 and up to 64")
        if order not in get_args(PoolOrder):
            raise InputError(f"pool = {order!r} is not one of {get_args(PoolOrder)}")
        self.height, self.columns, self.channels = image
        self.width = width
        self.order = order
        self.convs = 0
        self.fcs = 0
        self.module = nn.Sequential()
        self.module.add_module("encode", PixelEncoding())

    def conv(self, channels: int, kernel: int, *, stride: int = 1, padding: int = 0, pool: int = 0) -> None:
        """Convolution, batch norm and sign, with a max-pool of size `pool` and stride 2 where pool > 0."""
        self.convs += 1
        index, channels = self.convs, self._scaled(channels)
        blocks: list[tuple[str, nn.Module]] = [("bn", nn.BatchNorm2d(channels)), ("sign", Sign())]
        if pool:
            blocks.insert(0 if self.order == "before_norm" else 2, ("pool", nn.MaxPool2d(pool, 2)))
        conv = BinaryConv2d(self.channels, channels, kernel, stride, padding)
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
        self.module.add_module(f"fc{index}", BinaryLinear(self.channels, features))
        self.module.add_module(f"fc_bn{index}", nn.BatchNorm1d(features))
        self.module.add_module(f"fc_sign{index}", Sign())
        self.channels = features

    def output(self, classes: int) -> nn.Sequential:
        """Close the network with the layer that yields logits, and return it."""
        _check("classes", classes, 1, MAX_CHANNELS)
        self.module.add_module("output", BinaryLinear(self.channels, classes))
        self.module.add_module("logits", LogitScale(classes))
        return self.module

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

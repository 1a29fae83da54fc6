"""Lowers a PyTorch module of binary layers to the integer network: `compile`."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from o3bnn.compiler.stages import Group, group, pooling
from o3bnn.compiler.thresholds import MAX_EXACT_SUM, class_thresholds, decide
from o3bnn.compiler.trace import read
from o3bnn.errors import InputError, InvalidNetworkError, UnsupportedModuleError
from o3bnn.model import ConvGeometry, ConvStage, DenseStage, InputEncoding, Network, OutputStage, Stage, packing
from o3bnn.train.layers import PADDING_VALUES, BinaryConv2d, BinaryLinear, LogitScale

Floats = npt.NDArray[np.float32]


def compile(  # noqa: A001  (the field's word for this step)
    module: nn.Module,
    *,
    image: tuple[int, int, int],
    name: str = "network",
    class_names: Sequence[str] = (),
    cover: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """Compile a PyTorch module of binary layers to an exact integer network.

    The network gives the same bits at every stage as the module in eval mode on the CPU, and, with a LogitScale or
    nothing after the last layer, the same logits. The module is left as it was, in train or eval mode, on any device.

    module: layers of o3bnn.train.layers and torch.nn in a straight line; see docs/compiler.md.
    image: (height, width, channels) of the images that it reads. class_names: one a class, or none.
    cover: see `InputEncoding`. metadata: free text that is kept with the network.

    Raises:
        UnsupportedModuleError: part of the module has no exact integer form; the message names it and the remedy.
        InputError: an option does not fit. InvalidNetworkError: the result would break a limit of the contract.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"compile takes a torch.nn.Module, not {type(module).__name__}")
    if isinstance(class_names, str) or not isinstance(class_names, Sequence):
        raise InputError(f"class_names = {class_names!r} is not a sequence of texts: pass one name a class, or none")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InputError(f"metadata = {metadata!r} is not a mapping: pass a dict of text to text")
    height, width, channels = _check_image(image)
    groups = group(read(module, (height, width, channels)))
    table = groups.table.numpy().astype(np.int16)
    encoding = InputEncoding(height, width, channels, table, cover)
    stages = tuple(
        _stage(hidden, encoding.magnitude if index == 0 and not encoding.is_binary else None)
        for index, hidden in enumerate(groups.hidden)
    )
    return Network(
        name=name,
        input=encoding,
        stages=stages,
        output=_output(groups.output),
        class_names=tuple(class_names),
        metadata=dict(metadata or {}),
    )


def _check_image(image: object) -> tuple[int, int, int]:
    sizes = tuple(image) if isinstance(image, tuple | list) else ()
    if len(sizes) != 3 or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(f"image = {image!r} is not (height, width, channels)")
    return sizes


def _stage(hidden: Group, magnitude: int | None) -> Stage:
    """A hidden group as a stage; magnitude: the largest absolute input integer, or None where it reads bits."""
    layer = hidden.layer.module
    padding = PADDING_VALUES[layer.padding_mode] if isinstance(layer, BinaryConv2d) else 0
    try:
        g = _geometry(hidden)
        decision = decide(hidden, _sum_bound(hidden, g, max(magnitude or 1, abs(padding))))
        bits = _weight_bits(hidden) ^ decision.flipped[:, None]
        thresholds = class_thresholds(decision, bits, g, padding, magnitude)
        bits[decision.constant >= 0] = False  # no edge of a constant channel matters
        name, weights, integer_input = hidden.layer.path, packing.pack(bits), magnitude is not None
        if not isinstance(layer, BinaryConv2d):
            return DenseStage(
                name=name, geometry=g, weights=weights, thresholds=thresholds, integer_input=integer_input
            )
        return ConvStage(
            name=name,
            geometry=g,
            weights=weights,
            thresholds=thresholds,
            integer_input=integer_input,
            decisive_bit=np.where(decision.and_window, 0, 1).astype(np.uint8),
            pooling=pooling(hidden),
            padding_mode=layer.padding_mode,
        )
    except InvalidNetworkError as error:
        raise UnsupportedModuleError(f"{hidden.layer}: {error}") from error


def _sum_bound(hidden: Group, g: ConvGeometry, magnitude: int) -> int:
    """The largest absolute sum of a layer; raises where float32 would not hold every sum."""
    bound = g.full_fan_in * magnitude
    if bound > MAX_EXACT_SUM:
        raise UnsupportedModuleError(
            f"{hidden.layer}: its sums reach {bound}, above 2^24, where float32 is no longer exact: use a smaller "
            f"pixel table or fan-in"
        )
    return bound


def _geometry(hidden: Group) -> ConvGeometry:
    layer = hidden.layer.module
    channels, height, width = hidden.source
    if not isinstance(layer, BinaryConv2d):
        return ConvGeometry(1, 1, channels * height * width, hidden.layer.out_shape[1])
    rows, columns = layer.padding
    return ConvGeometry(
        height,
        width,
        channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        (rows, columns, rows, columns),
        layer.groups,
    )


def _weight_bits(part: Group) -> npt.NDArray[np.bool_]:
    """Weights as bits in the network's edge order, (row, column, channel): bool [out, fan_in].

    PyTorch orders a convolution's weights by (channel, row, column), and so it flattens the map before a dense layer.
    """
    layer = part.layer.module
    assert isinstance(layer, BinaryConv2d | BinaryLinear)
    positive = (layer.weight.detach() >= 0).cpu()
    if isinstance(layer, BinaryLinear):
        positive = positive.reshape(len(positive), *part.source)
    return positive.permute(0, 2, 3, 1).reshape(len(positive), -1).contiguous().numpy()


def _output(last: Group) -> OutputStage:
    """The output layer: logits = sum * scale + offset."""
    scale, offset = _scale_and_offset(last)
    for what, values in (("scale", scale), ("offset", offset)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            step = (*last.operations, last.layer)[0]
            raise UnsupportedModuleError(f"{step}: the {what} of the logits is {values[bad[0]]} in channel {bad[0]}")
    try:
        return OutputStage(
            name=last.layer.path,
            in_features=last.layer.in_shape[1],
            weights=packing.pack(_weight_bits(last)),
            scale=scale,
            offset=offset,
        )
    except InvalidNetworkError as error:
        raise UnsupportedModuleError(f"{last.layer}: {error}") from error


def _scale_and_offset(last: Group) -> tuple[Floats, Floats]:
    """Float32 [classes] each. A bias b before the norm is folded: (sum + b) * scale + offset, rounded once more."""
    layer = last.layer.module
    assert isinstance(layer, BinaryLinear)
    norm = last.operations[0].module if last.operations else None
    with torch.no_grad():
        scale, offset = _norm_terms(norm, layer.out_features)
        if layer.bias is not None:
            offset = layer.bias.cpu() * scale + offset
    return scale.numpy(), offset.numpy()


def _norm_terms(norm: nn.Module | None, classes: int) -> tuple[Tensor, Tensor]:
    """Scale and offset of the last norm, as float32 on the CPU."""
    if norm is None:
        return torch.ones(classes), torch.zeros(classes)
    own = copy.deepcopy(norm).cpu().eval()
    if isinstance(own, LogitScale):
        return own.scale_and_offset()
    assert isinstance(own, nn.BatchNorm1d)
    assert own.running_var is not None
    scale = torch.rsqrt(own.running_var + own.eps)  # as PyTorch's batch norm itself computes it
    if own.affine:
        scale = scale * own.weight
    return scale, own(torch.zeros(1, classes)).reshape(-1)

"""The float network that a user would run instead of `vgg_like`: its topology, ordinary layers, batch norms folded.

As PyTorch module, as ONNX file in float32, and quantized to 8 bits by ONNX Runtime (static, QDQ, per channel).
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

IMAGE = (1, 3, 32, 32)
INPUT = "image"
CALIBRATION_IMAGES = 16


def float_twin() -> nn.Sequential:
    """Convolution, ReLU, pool: the order in which batch norms fold away, which is the fastest for every peer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after, pools in (
        (3, 128, 0),
        (128, 128, 1),
        (128, 256, 0),
        (256, 256, 1),
        (256, 512, 0),
        (512, 512, 1),
    ):
        layers += [_folded_convolution(before, after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pools else []
    layers.append(nn.Flatten())
    for before, after in ((8192, 1024), (1024, 1024)):
        layers += [_folded_linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1024, 10)).eval()


def export_float(path: Path) -> None:
    """Write the twin as ONNX, float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the newer exporter needs another package
        torch.onnx.export(float_twin(), (torch.rand(IMAGE),), str(path), dynamo=False, input_names=[INPUT])


def quantize(source: Path, target: Path) -> None:
    """Quantize an ONNX file to unsigned 8-bit activations and signed 8-bit weights, the pair that VNNI multiplies."""
    prepared = target.with_suffix(".prepared.onnx")
    logging.getLogger().setLevel(logging.ERROR)
    quant_pre_process(str(source), str(prepared))
    quantize_static(
        str(prepared),
        str(target),
        _RandomImages(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


class _RandomImages(CalibrationDataReader):  # type: ignore[misc]
    """Seeded random images: the time of a quantized network does not depend on its scales."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = iter([rng.random(IMAGE, dtype=np.float32) for _ in range(CALIBRATION_IMAGES)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {INPUT: image}


def _folded_convolution(before: int, after: int) -> nn.Module:
    return fuse_conv_bn_eval(nn.Conv2d(before, after, 3, padding=1).eval(), nn.BatchNorm2d(after).eval())


def _folded_linear(before: int, after: int) -> nn.Module:
    return fuse_linear_bn_eval(nn.Linear(before, after).eval(), nn.BatchNorm1d(after).eval())

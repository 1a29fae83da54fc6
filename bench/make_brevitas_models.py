"""Make the small Brevitas models under tests/interchange/models (QONNX files, random weights, non-trivial batch norm).

Needs its own environment, since Brevitas pins other versions than o3bnn:

    python3 -m venv .venv-brevitas
    .venv-brevitas/bin/pip install brevitas==0.13.4 torch==2.13.0 onnx==1.19.1 qonnx==1.0.0 onnxscript
    .venv-brevitas/bin/python bench/make_brevitas_models.py tests/interchange/models
"""

import argparse
from pathlib import Path

import onnx
import torch
from brevitas.export import export_qonnx
from brevitas.inject.enum import ScalingImplType
from brevitas.nn import QuantConv2d, QuantIdentity, QuantLinear
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFloat,
)
from brevitas_examples.bnn_pynq.models import CNV as cnv_module  # noqa: N811  (a module)
from brevitas_examples.bnn_pynq.models.FC import FC
from torch import nn


def randomize(model: nn.Module, seed: int) -> nn.Module:
    """Latent weights, batch norm statistics of the size of real sums, gamma of both signs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor, mean: float, spread: float) -> torch.Tensor:
        return mean + spread * torch.randn(like.shape, generator=generator)

    fan_in = 1
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.copy_(normal(layer.weight, 0, 0.7).clamp(-1, 1))
                fan_in = layer.weight[0].numel()
                if layer.bias is not None:
                    layer.bias.copy_(normal(layer.bias, 0, 1))
            elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.weight.copy_(normal(layer.weight, 0.6, 0.7))
                layer.bias.copy_(normal(layer.bias, 0, 0.6))
                layer.running_mean.copy_(normal(layer.running_mean, 0, 0.4 * fan_in**0.5))
                layer.running_var.copy_(normal(layer.running_var, 0, 1).abs() * fan_in + 0.5)
            elif type(layer).__name__ == "TensorNorm":
                layer.weight.fill_(0.7341181)
                layer.bias.fill_(-1.1436615)
                layer.running_mean.fill_(0.4488643)
                layer.running_var.fill_(318.19656)
    return model.eval()


def small_cnv(classes: int = 10) -> nn.Module:
    """The CNV of the Brevitas examples with fewer channels."""
    cnv_module.CNV_OUT_CH_POOL = [(6, False), (8, True), (8, False), (12, True), (12, False), (16, False)]
    cnv_module.INTERMEDIATE_FC_FEATURES = [(16, 24), (24, 24)]
    cnv_module.LAST_FC_IN_FEATURES = 24
    return cnv_module.CNV(classes, 1, 1, 8, 3)


class Scaled(nn.Module):
    """Brevitas' own binary quantizers (float scale 0.1), padding, strides, biases, a pool before the batch norm."""

    def __init__(self, per_channel: bool, bias: bool, input_quant: object) -> None:
        super().__init__()
        self.signed = input_quant is SignedBinaryActPerTensorConst
        weight: dict[str, object] = {"weight_quant": SignedBinaryWeightPerTensorConst, "bias": bias}
        if per_channel:
            weight |= {"weight_scaling_per_output_channel": True, "weight_scaling_impl_type": ScalingImplType.STATS}
            weight |= {"weight_scaling_stats_op": "ave", "weight_scaling_init": None}
        self.features = nn.Sequential(
            QuantIdentity(act_quant=input_quant),
            QuantConv2d(1, 8, 3, padding=1, **weight),
            nn.BatchNorm2d(8),
            QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
            QuantConv2d(8, 12, 3, padding=1, stride=2, **weight),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(12),
            QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
            nn.Flatten(),
            QuantLinear(12 * 9, 20, **weight),
            nn.BatchNorm1d(20),
            nn.Hardtanh(),
            nn.Dropout(0.3),
            QuantIdentity(act_quant=SignedBinaryActPerTensorConst),
            QuantLinear(20, 7, **weight),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(2.0 * x - 1.0 if self.signed else x)


def drop_stack_traces(path: Path) -> None:
    """Newer exporters note for every node which lines of code made it, with the paths of the exporting machine."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if not entry.key.endswith("stack_trace")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    fc = lambda bits: FC(10, 1, 1, bits, 1, [24, 16], (12, 12))  # noqa: E731
    one, rgb = torch.rand(1, 1, 12, 12), torch.rand(1, 3, 32, 32)
    script = {"dynamo": False}
    cases = {
        "fc": (fc(1), one, script),
        "fc_8bit_dynamo": (fc(8), one, {"dynamo": True}),
        "cnv": (small_cnv(), rgb, script),
        "scaled": (Scaled(False, False, Int8ActPerTensorFixedPoint), one, {}),
        "scaled_bias": (Scaled(False, True, SignedBinaryActPerTensorConst), one, script | {"opset_version": 11}),
        "scaled_channels": (Scaled(True, False, Uint8ActPerTensorFloat), one, script | {"opset_version": 18}),
        "fc_initializers_as_inputs": (
            fc(1),
            one,
            script | {"keep_initializers_as_inputs": True, "opset_version": 13},
        ),
    }
    for seed, (name, (model, image, options)) in enumerate(cases.items()):
        torch.manual_seed(seed)
        with torch.no_grad():  # activation scales that are learned from statistics see some images first
            model.train()
            for _ in range(3):
                model(torch.rand(8, *image.shape[1:]))
        path = folder / f"brevitas_{name}.onnx"
        try:
            export_qonnx(randomize(model, seed), args=image, export_path=str(path), **options)
            drop_stack_traces(path)
            print(f"{path}: {path.stat().st_size} octets")
        except Exception as error:  # one form that this version cannot export must not hide the others
            print(f"{path}: not exported: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

"""Plain ONNX from PyTorch's exporters: the same bits as compiling the module itself."""

import warnings

import numpy as np
import pytest

from o3bnn.compiler.onnx import compile_onnx
from o3bnn.compiler.onnx.preprocessing import Preprocessing
from o3bnn.compiler.onnx.verify import verify
from o3bnn.model import reference
from tests.interchange.helpers import Reference, pixels

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from tests import modules, strategies  # noqa: E402

RAW = Preprocessing(divisor=1.0)
MODES = ("zero", "minus_one", "plus_one")


def export(model, image, path, dynamo):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, torch.zeros(1, *image), str(path), dynamo=dynamo, verbose=False)


def spec(seed):
    first = strategies.ConvSpec(16, (3, 3), (1, 1), (1, 1), MODES[seed % 3], ((2, 2), (2, 2)), seed % 2 == 0, 1, True)
    second = strategies.ConvSpec(17, (3, 3), (2, 1), (0, 1), "zero", None, False, 1, False)
    encoding = ("pixel", "table", "bits")[seed % 3]
    return strategies.Spec((9, 9, 3), encoding, (first, second), (20,), 5, seed)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_our_own_layers(seed, dynamo, tmp_path):
    from o3bnn.compiler import compile as compile_module

    drawn = spec(seed)
    model, _ = modules.build(drawn)
    export(model, (3, 9, 9), tmp_path / "m.onnx", dynamo)
    imported = compile_onnx(tmp_path / "m.onnx", preprocessing=RAW)
    images = pixels(imported.network, 8, seed)
    report = verify(tmp_path / "m.onnx", imported.network, Reference(imported.network), [images])
    assert report.equal and not any(stage.bits for stage in report.stages)
    direct = reference.run(compile_module(model, image=drawn.image), images)
    for one, other in zip(direct.stages, reference.run(imported.network, images).stages, strict=True):
        np.testing.assert_array_equal(one.bits, other.bits)


class SignNet(nn.Module):
    """Binary weights and activations by torch.sign or torch.where, as hand-written models have them."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        self.one, self.two = nn.Parameter(torch.randn(8, 3, 3, 3)), nn.Parameter(torch.randn(10, 8 * 9))
        self.norm = nn.BatchNorm2d(8)
        self.norm.running_mean.normal_(0, 3)
        self.norm.running_var.uniform_(5, 50)
        with torch.no_grad():
            self.norm.weight.normal_()
            self.norm.bias.normal_()

    def binary(self, x):
        if self.form == "sign":
            return torch.sign(x)
        if self.form == "ste":
            return x + (torch.sign(x) - x)
        return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))

    def forward(self, x):
        x = self.norm(nn.functional.conv2d(2 * x - 1, self.binary(self.one)))
        x = self.binary(nn.functional.max_pool2d(x, 2))
        return nn.functional.linear(x.flatten(1), self.binary(self.two)) / 8


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("form", ["sign", "where", "ste"])
def test_hand_written_layers(form, dynamo, tmp_path):
    torch.manual_seed(1)
    export(SignNet(form).eval(), (3, 8, 8), tmp_path / "m.onnx", dynamo)
    imported = compile_onnx(tmp_path / "m.onnx")
    report = verify(tmp_path / "m.onnx", imported.network, Reference(imported.network), [pixels(imported.network, 20)])
    assert report.equal and not any(stage.bits for stage in report.stages)
    assert imported.exact_logits


class Normalized(nn.Module):
    """A first layer that reads normalized pixels without any quantizer."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Parameter(torch.randn(24, 64)), nn.Parameter(torch.randn(5, 24))
        self.norm = nn.BatchNorm1d(24)
        self.norm.running_mean.normal_(0, 3)

    def forward(self, x):
        x = self.norm(nn.functional.linear(x.flatten(1), torch.sign(self.one)))
        return nn.functional.linear(torch.sign(x), torch.sign(self.two))


def test_normalized_pixels(tmp_path):
    torch.manual_seed(2)
    export(Normalized().eval(), (1, 8, 8), tmp_path / "m.onnx", False)
    usual = Preprocessing(mean=(0.1307,), std=(0.3081,))
    imported = compile_onnx(tmp_path / "m.onnx", preprocessing=usual)
    np.testing.assert_array_equal(imported.network.input.table, np.arange(256))
    report = verify(tmp_path / "m.onnx", imported.network, Reference(imported.network), [pixels(imported.network, 300)])
    assert report.equal and not any(stage.bits for stage in report.stages)
    assert imported.exact_logits

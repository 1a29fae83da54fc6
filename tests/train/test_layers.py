"""Layers: signs, gradients, paddings, encodings, and exact eval arithmetic under autocast."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from o3bnn.train.layers import (
    BinaryConv2d,
    BinaryLinear,
    BinaryPixelEncoding,
    LogitScale,
    PixelEncoding,
    Sign,
    binarize,
    clip_latent_weights,
)


def test_sign_of_zero_is_plus_one():
    x = torch.tensor([-2.0, -1e-45, -0.0, 0.0, 1e-45, 3.0, torch.inf, -torch.inf])
    assert binarize(x).tolist() == [-1, -1, 1, 1, 1, 1, 1, -1]
    assert Sign()(x.bfloat16()).dtype == torch.bfloat16


def test_gradient_passes_within_the_clip():
    x = torch.tensor([-1.5, -1.0, -0.2, 0.0, 1.0, 1.1], requires_grad=True)
    (Sign()(x) * torch.arange(1.0, 7)).sum().backward()
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0]
    x.grad = None
    Sign(clip=1.2)(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1]
    x.grad = None
    binarize(x, torch.inf).sum().backward()
    assert x.grad.tolist() == [1] * 6


def test_signs_keep_channels_last():
    x = torch.randn(2, 5, 4, 3).contiguous(memory_format=torch.channels_last)
    assert Sign()(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding_mode", ["zero", "minus_one", "plus_one"])
@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
def test_convolution_is_the_one_of_the_signs(padding_mode, padding):
    torch.manual_seed(0)
    conv = BinaryConv2d(6, 8, (3, 2), stride=(2, 1), padding=padding, padding_mode=padding_mode, groups=2, bias=True)
    with torch.no_grad():
        conv.weight[0, 0, 0, 0] = 0.0
        conv.bias.normal_()
    x = torch.randint(-9, 10, (2, 6, 7, 8)).float()
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    value = {"zero": 0, "minus_one": -1, "plus_one": 1}[padding_mode]
    padded = functional.pad(x, (columns, columns, rows, rows), value=value)
    weight = torch.where(conv.weight >= 0, 1.0, -1.0)
    expected = functional.conv2d(padded, weight, None, (2, 1), groups=2) + conv.bias.view(1, -1, 1, 1)
    for mode in (True, False):
        assert torch.equal(conv.train(mode)(x), expected)
    assert torch.equal(conv(x.contiguous(memory_format=torch.channels_last)), expected)


def test_linear_is_the_product_with_the_signs():
    torch.manual_seed(0)
    layer = BinaryLinear(33, 5, bias=True)
    x = torch.randint(-255, 256, (4, 33)).float()
    expected = x @ torch.where(layer.weight >= 0, 1.0, -1.0).T + layer.bias
    assert torch.equal(layer(x), expected)
    layer(x).sum().backward()
    assert torch.equal(layer.weight.grad, x.sum(0).expand(5, -1))


@pytest.mark.parametrize(
    "case",
    list(itertools.product((1, 3, 64, 130), (1, 3, 5), (1, 2, 17), (1, 16), (1, 2))),
    ids=lambda case: "x".join(map(str, case)),
)
def test_sums_are_exact_integers(case):
    """Whatever algorithm PyTorch picks for the shape, the sums are those of 64-bit integers."""
    channels, kernel, batch, side, stride = case
    rng = np.random.default_rng(0)
    conv = BinaryConv2d(channels, 19, kernel, stride=stride, padding=kernel // 2).eval()
    x = rng.integers(-255, 256, (batch, channels, side, side))
    found = conv(torch.from_numpy(x).float()).detach().numpy()
    pad = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
    signs = np.where(conv.weight.detach().numpy() >= 0, 1, -1)
    expected = np.tensordot(windows, signs, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found, expected)


def test_eval_is_exact_under_autocast_and_training_is_not_needed_to_be():
    torch.manual_seed(0)
    model = nn.Sequential(
        PixelEncoding(),
        BinaryConv2d(3, 64, 5),
        nn.BatchNorm2d(64),
        Sign(),
        nn.Flatten(),
        BinaryLinear(1024, 9),
        LogitScale(9),
    )
    x = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(x).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    expected = model.eval()(x)
    exact = model[1](model[0](x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(x)
        assert torch.equal(model[1](model[0](x)), exact)
        assert model[5](torch.ones(2, 1024)).dtype == torch.float32
    assert exact.abs().max() > 256  # where bfloat16 no longer holds every integer
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(model(x.contiguous(memory_format=torch.channels_last)), expected)


def test_latent_weights_are_clipped():
    model = nn.Sequential(BinaryConv2d(1, 2, 3), nn.Linear(2, 2), BinaryLinear(2, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(-3)
    clip_latent_weights(model)
    assert [parameter.min().item() for parameter in model.parameters()] == [-1, -3, -3, -1]


def test_pixels_are_encoded_by_the_table():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    expected = (2 * torch.arange(256.0) - 255).reshape(1, 1, 16, 16)
    for x in (pixels, pixels.float()):
        found = PixelEncoding()(x)
        assert torch.equal(found, expected)
        assert found.dtype == torch.float32
    values = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, 256)
    assert PixelEncoding(values)(pixels).flatten().tolist() == values.tolist()
    assert BinaryPixelEncoding(77)(pixels).flatten().tolist() == [-1] * 77 + [1] * 179
    assert PixelEncoding([5] * 256)(pixels).unique().tolist() == [5]


def test_a_loaded_table_replaces_the_default():
    encoding = PixelEncoding()
    encoding.load_state_dict(BinaryPixelEncoding().state_dict())
    assert encoding(torch.tensor([[127, 128]])).tolist() == [[-1, 1]]
    assert BinaryPixelEncoding().state_dict()["table"].dtype == torch.int16


@pytest.mark.parametrize("affine", [True, False])
def test_logit_scale_is_two_float_operations(affine):
    torch.manual_seed(0)
    head = LogitScale(7, affine=affine)
    x = torch.randint(-900, 900, (50, 7)).float()
    reference = nn.BatchNorm1d(7, affine=affine)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    reference.load_state_dict(head.state_dict())
    assert torch.equal(head(x), reference(x))
    head.eval()
    scale, offset = (value.detach().numpy() for value in head.scale_and_offset())
    expected = x.numpy() * scale + offset
    np.testing.assert_array_equal(head(x).detach().numpy(), expected, strict=True)
    assert (head(x) - reference.eval()(x)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BinaryConv2d(4, 4, 3, padding_mode="reflect"), "'reflect' is not one of"),
        (lambda: BinaryConv2d(4, 6, 3, groups=4), "out_channels = 6 is not a positive multiple of groups = 4"),
        (lambda: BinaryConv2d(4, 6, 3, padding="same"), "padding = 'same' is not an integer or a pair of integers"),
        (lambda: BinaryConv2d(4, 4, (3, 0)), "kernel_size"),
        (lambda: BinaryConv2d(4, 4, (3, 3, 3)), "kernel_size"),
        (lambda: BinaryLinear(0, 4), "in_features = 0"),
        (lambda: PixelEncoding([1, 2]), "256 integers"),
        (lambda: PixelEncoding([1 << 15] * 256), "256 integers"),
        (lambda: Sign(0), "clip = 0 must be positive"),
        (lambda: LogitScale(3, track_running_stats=False).scale_and_offset(), "running statistics"),
    ],
)
def test_wrong_settings(build, message):
    with pytest.raises(ValueError, match=message):
        build()

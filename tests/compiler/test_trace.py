"""What is read from a module's forward, and how everything else is refused: by name, with a remedy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import o3bnn
from o3bnn.errors import UnsupportedModuleError
from o3bnn.model import reference
from o3bnn.train.layers import (
    BinaryConv2d,
    BinaryLinear,
    BinaryPixelEncoding,
    LogitScale,
    PixelEncoding,
    Sign,
    binarize,
)
from tests.compiler.helpers import check, random_images, randomize

IMAGE = (8, 8, 3)


class Block(nn.Module):
    """A user's own block, with functional forms."""

    def __init__(self, channels_in, channels, pool=True):
        super().__init__()
        self.conv = BinaryConv2d(channels_in, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.pool = pool

    def forward(self, x):
        x = self.norm(self.conv(x))
        x = binarize(functional.hardtanh(x, -2, 2))
        return functional.max_pool2d(x, kernel_size=2) if self.pool else x


class Straight(nn.Module):
    """A user's own network."""

    def __init__(self, flatten, width=9):
        super().__init__()
        self.encode = PixelEncoding()
        self.blocks = nn.ModuleList([Block(3, width), Block(width, width, pool=False)])
        self.drop = nn.Dropout(0.3)
        self.fc = BinaryLinear(width * 16, 5)
        self.logits = LogitScale(5)
        self.flatten = flatten

    def forward(self, x, extra=False, scale: int = 3):
        if extra:
            raise RuntimeError
        x = self.encode(x.float())
        for block in self.blocks:
            x = block(x).contiguous()
        x = functional.dropout(x, 0.5, self.training)
        return self.logits(self.fc(self.drop(self.flatten(x))))


FLATTENS = {
    "torch.flatten": lambda x: torch.flatten(x, 1),
    "x.flatten": lambda x: x.flatten(1),
    "x.flatten(start_dim)": lambda x: x.flatten(start_dim=1),
    "x.view(size)": lambda x: x.view(x.size(0), -1),
    "x.view(size())": lambda x: x.view(x.size()[0], -1),
    "x.view(shape)": lambda x: x.view(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]),
    "x.reshape(tuple)": lambda x: x.reshape((x.shape[0], -1)),
    "x.reshape(-1)": lambda x: x.reshape(-1, 144),
    "twice": lambda x: torch.flatten(x.view(x.shape), 1).flatten(1),
}


def unpacked(x):
    n, c, h, w = x.shape
    return x.view(n, c * h * w)


@pytest.mark.parametrize("flatten", [*FLATTENS.values(), unpacked], ids=[*FLATTENS, "unpacked"])
def test_straight_forwards_are_read_as_what_they_compute(flatten):
    torch.manual_seed(0)
    model = Straight(flatten)
    for block in model.blocks:
        randomize(nn.Sequential(block.conv, block.norm), 1)
    randomize(nn.Sequential(model.logits), 2)
    network = o3bnn.compile(model, image=IMAGE)
    assert [stage.name for stage in network.stages] == ["blocks.0.conv", "blocks.1.conv"]
    assert [stage.pooling is not None for stage in network.stages] == [True, False]
    images = random_images(IMAGE, 6)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_array_equal(reference.run(network, images).logits, expected)


def test_a_layer_used_twice_is_two_stages():
    torch.manual_seed(0)
    conv, norm = BinaryConv2d(8, 8, 1), nn.BatchNorm2d(8)
    first = [PixelEncoding(), BinaryConv2d(3, 8, 1), nn.BatchNorm2d(8), Sign()]
    model = nn.Sequential(*first, conv, norm, Sign(), nn.Flatten(), BinaryLinear(512, 3))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.conv, self.fc = nn.Sequential(*first), conv, model[-1]

        def forward(self, x):
            x = binarize(self.conv(self.first(x)))
            return self.fc(torch.flatten(binarize(self.conv(x)), 1))

    network = o3bnn.compile(Twice(), image=IMAGE)
    assert [stage.name for stage in network.stages] == ["first.1", "conv", "conv#2"]


def small():
    torch.manual_seed(1)
    parts = [PixelEncoding(), BinaryConv2d(3, 8, 3, bias=True), nn.BatchNorm2d(8), nn.Dropout(), Sign(), nn.Flatten()]
    return randomize(nn.Sequential(*parts, BinaryLinear(288, 4), LogitScale(4)))


def test_compiling_does_not_alter_the_module():
    model = small().train()
    model[3].eval()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    model[2].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    flags = [part.training for part in model.modules()]
    state = torch.get_rng_state()
    network = o3bnn.compile(model, image=IMAGE)
    assert [part.training for part in model.modules()] == flags
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    images = random_images(IMAGE)
    expected = model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_array_equal(reference.run(network, images).logits, expected)


def test_training_flags_are_restored_after_an_error():
    model = nn.Sequential(PixelEncoding(), nn.ReLU()).train()
    with pytest.raises(UnsupportedModuleError):
        o3bnn.compile(model, image=IMAGE)
    assert all(part.training for part in model.modules())


def test_parametrized_weights_are_read():
    model = small()

    class Negate(nn.Module):
        def forward(self, weight):
            return -weight

    nn.utils.parametrize.register_parametrization(model[1], "weight", Negate())
    check(model, IMAGE)


@pytest.mark.slow  # importing torch's compiler takes seconds
def test_the_module_inside_of_torch_compile_is_read():
    wrapped = torch.compile(small(), backend="eager")
    assert o3bnn.compile(wrapped, image=IMAGE).stages[0].name == "1"


def swap(index, *modules):
    """The small network with other modules at one place."""
    parts = list(small())
    return nn.Sequential(*parts[:index], *modules, *parts[index + 1 :])


class Overridden(BinaryConv2d):
    def forward(self, x):
        return super().forward(x) * 2


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.sign = Sign()

    def forward(self, x):
        return x + self.sign(x)


class Concat(Residual):
    def forward(self, x):
        return torch.cat([self.sign(x), x], 1)


class DataDependent(Residual):
    def forward(self, x):
        return self.sign(x) if x.sum() > 0 else x


class Arithmetic(Residual):
    def forward(self, x):
        return self.sign(x) * 2


class Pair(Residual):
    def forward(self, x):
        return self.sign(x), x


class Unused(Residual):
    def forward(self, x):
        self.sign(x)
        return x


class AlwaysDrops(Residual):
    def forward(self, x):
        return functional.dropout(self.sign(x))


class HalfFlat(Residual):
    def forward(self, x):
        return self.sign(x).view(x.size(0), 8, -1)


class FixedBatch(Residual):
    def forward(self, x):
        return self.sign(x).view(4, -1)


def with_value(index, field, value, place=(2,)):
    model = small()
    with torch.no_grad():
        getattr(model[index], field)[place] = value
    return model


def no_stats():
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    return swap(2, norm)


REFUSED = {
    "conv": (lambda: swap(1, nn.Conv2d(3, 8, 3)), r"'1' \(Conv2d\): .*use o3bnn.train.layers.BinaryConv2d"),
    "linear": (lambda: swap(6, nn.Linear(288, 4)), r"'6' \(Linear\): .*BinaryLinear.*supported are"),
    "relu": (lambda: swap(4, nn.ReLU(), Sign()), r"'4' \(ReLU\): .*use Sign"),
    "avgpool": (lambda: swap(3, nn.AvgPool2d(2)), r"'3' \(AvgPool2d\): .*use MaxPool2d"),
    "adaptive": (lambda: swap(3, nn.AdaptiveAvgPool2d(1)), r"'3' \(AdaptiveAvgPool2d\)"),
    "softmax": (lambda: swap(7, nn.LogSoftmax(1)), r"'7' \(LogSoftmax\): .*ends in logits"),
    "unknown": (lambda: swap(3, nn.PixelShuffle(2)), r"'3' \(PixelShuffle\): it has no exact integer form"),
    "pool padding": (lambda: swap(3, nn.MaxPool2d(2, padding=1)), r"'3' \(MaxPool2d\): padding = 1"),
    "pool dilation": (lambda: swap(3, nn.MaxPool2d(2, dilation=2)), r"'3' \(MaxPool2d\): dilation = 2"),
    "pool ceil": (lambda: swap(3, nn.MaxPool2d(2, ceil_mode=True)), r"'3' \(MaxPool2d\): ceil_mode"),
    "pool indices": (lambda: swap(3, nn.MaxPool2d(2, return_indices=True)), r"'3' \(MaxPool2d\): .*return_indices"),
    "pool size": (lambda: swap(3, nn.MaxPool2d(7)), r"'3' \(MaxPool2d\): expects a map of at least 7 x 7"),
    "statistics": (no_stats, r"'2' \(BatchNorm2d\): it has no running statistics"),
    "hardtanh": (lambda: swap(3, vandal(nn.Hardtanh(), "max_val", -2.0)), r"'3' \(Hardtanh\): min_val"),
    "nan weight": (lambda: with_value(1, "weight", torch.nan, (5, 0, 0, 0)), r"'1' \(.*weight is nan in channel 5"),
    "inf bias": (lambda: with_value(1, "bias", torch.inf), r"'1' \(BinaryConv2d\): its bias is inf in channel 2"),
    "nan mean": (
        lambda: with_value(2, "running_mean", torch.nan),
        r"'2' \(BatchNorm2d\): its running_mean is nan",
    ),
    "inf gamma": (lambda: with_value(2, "weight", -torch.inf), r"'2' \(BatchNorm2d\): its weight is -inf in channel 2"),
    "variance": (lambda: with_value(2, "running_var", -3.0), r"'2' \(BatchNorm2d\): channel 2 is not a number"),
    "logits": (lambda: with_value(7, "running_var", -3.0), r"'7' \(LogitScale\): the scale .* is nan in channel 2"),
    "half": (lambda: swap(2, nn.BatchNorm2d(8).half()), r"'2' \(BatchNorm2d\): its weight is torch.float16: call"),
    "double": (lambda: small().double(), r"'1' \(BinaryConv2d\): its weight is torch.float64"),
    "meta": (lambda: small().to("meta"), r"'1' \(BinaryConv2d\): its weight is on the meta device"),
    "no sign": (lambda: swap(4, nn.Identity()), r"'6' \(BinaryLinear\): .*put a Sign after '2' \(BatchNorm2d\)"),
    "no sign 2": (
        lambda: nn.Sequential(PixelEncoding(), BinaryConv2d(3, 4, 3), BinaryConv2d(4, 4, 3)),
        r"'2' \(BinaryConv2d\): it reads values that are not bits: put a Sign after '1' \(BinaryConv2d\)",
    ),
    "no encoding": (lambda: swap(0), r"'0' \(BinaryConv2d\): it reads pixels as they are: put .*PixelEncoding first"),
    "late encoding": (lambda: swap(3, PixelEncoding()), r"'3' \(PixelEncoding\): it stands after a binary layer"),
    "two encodings": (lambda: swap(0, PixelEncoding(), PixelEncoding()), r"'1' \(PixelEncoding\): only PixelEncoding"),
    "early norm": (lambda: swap(0, PixelEncoding(), nn.BatchNorm2d(3)), r"'1' \(BatchNorm2d\): only PixelEncoding"),
    "early scale": (lambda: swap(2, LogitScale(8)), r"'2' \(LogitScale\): expects a flat input"),
    "ends in conv": (lambda: small()[:2], r"'1' \(BinaryConv2d\): the last layer must be a BinaryLinear"),
    "ends in sign": (lambda: swap(7, Sign()), r"'7' \(Sign\): after the last layer '6' .* only one LogitScale"),
    "two heads": (lambda: swap(7, nn.BatchNorm1d(4), LogitScale(4)), r"'8' \(LogitScale\): after the last layer"),
    "no layer": (lambda: nn.Sequential(PixelEncoding(), nn.Flatten()), r"has no BinaryConv2d or BinaryLinear"),
    "leaf root": (lambda: BinaryLinear(4, 4), r"'BinaryLinear' \(BinaryLinear\): expects a flat input"),
    "flat conv": (lambda: swap(0, PixelEncoding(), nn.Flatten()), r"'2' \(BinaryConv2d\): expects a map.*gets .*flat"),
    "no flatten": (lambda: swap(5), r"'5' \(BinaryLinear\): expects a flat input: put a Flatten before it"),
    "flatten all": (lambda: swap(5, nn.Flatten(0)), r"'5' \(Flatten\): only Flatten\(start_dim=1"),
    "features": (lambda: swap(6, BinaryLinear(300, 4)), r"'6' \(BinaryLinear\): expects 300 features.*gets \(288,\)"),
    "channels": (lambda: swap(1, BinaryConv2d(4, 8, 3)), r"'1' \(BinaryConv2d\): expects 4 channels.*8 x 8 with 3 ch"),
    "norm channels": (lambda: swap(2, nn.BatchNorm2d(9)), r"'2' \(BatchNorm2d\): expects 9 channels"),
    "kernel": (lambda: swap(1, BinaryConv2d(3, 8, 9)), r"'1' \(BinaryConv2d\): expects a padded map of at least 9 x 9"),
    "norm 1d": (lambda: swap(5, nn.Flatten(), nn.BatchNorm1d(288), Sign()), r"'6' .*BatchNorm2d before Flatten"),
    "overridden": (lambda: swap(1, Overridden(3, 8, 3)), r"'1' \(Overridden\): it overrides the forward of Bina"),
    "hook": (lambda: hooked(), r"'2' \(BatchNorm2d\): its forward hooks"),
    "residual": (lambda: swap(4, Residual()), r"'4.add' \(add\): the forward branches"),
    "concat": (lambda: swap(4, Concat()), r"'4.cat' \(cat\): the forward branches"),
    "data": (lambda: swap(4, DataDependent()), r"'4' \(DataDependent\): its forward cannot be read"),
    "arithmetic": (lambda: swap(4, Arithmetic()), r"'4.mul' \(mul\): this call has no exact integer form"),
    "pair": (lambda: swap(4, Pair()), r"'5' \(Flatten\): the forward branches"),
    "unused": (lambda: swap(4, Unused()), r"'5' \(Flatten\): the forward branches here"),
    "drops": (lambda: swap(4, AlwaysDrops()), r"'4.dropout' \(dropout\): it drops in eval mode too"),
    "half flat": (lambda: swap(4, HalfFlat()), r"'4.view' \(view\): only the flattening of a whole map"),
    "fixed batch": (lambda: swap(4, FixedBatch()), r"'4.view' \(view\): only the flattening of a whole map"),
}


def vandal(module, field, value):
    setattr(module, field, value)
    return module


def hooked():
    model = small()
    model[2].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_lower_is_named(case):
    build, message = REFUSED[case]
    with pytest.raises(UnsupportedModuleError, match=message):
        o3bnn.compile(build(), image=IMAGE)


def test_sums_above_2_to_the_24_are_refused():
    layers = [BinaryLinear(600, 4), Sign(), BinaryLinear(4, 2)]
    model = nn.Sequential(PixelEncoding(np.full(256, 32767)), nn.Flatten(), *layers)
    with pytest.raises(UnsupportedModuleError, match=r"'2' \(BinaryLinear\): its sums reach 19660200, above 2\^24"):
        o3bnn.compile(model, image=(10, 20, 3))


def test_limits_of_the_contract_name_the_module():
    layers = [BinaryLinear(2049 * 2049, 1), Sign(), BinaryLinear(1, 1)]
    model = nn.Sequential(BinaryPixelEncoding(), nn.Flatten(), *layers)
    with pytest.raises(UnsupportedModuleError, match=r"'2' \(BinaryLinear\): fan-in 4198401 is above 4194304"):
        o3bnn.compile(model, image=(2049, 2049, 1))

"""Compiled networks against PyTorch, through the NumPy reference: every lowering rule, compared with ==."""

import numpy as np
import pytest
import torch
from torch import nn

import o3bnn
from o3bnn.errors import InputError, InvalidNetworkError, MissingExtraError, UnsupportedModuleError
from o3bnn.model import ConvStage, DenseStage, reference
from o3bnn.train.layers import (
    BinaryConv2d,
    BinaryLinear,
    BinaryPixelEncoding,
    LogitScale,
    PixelEncoding,
    Sign,
)
from tests.compiler.helpers import check, random_images, randomize

PADDING_MODES = ("zero", "minus_one", "plus_one")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


def head(features, classes=5):
    return [nn.Flatten(), BinaryLinear(features, classes), LogitScale(classes)]


def two_convs(tail, image=(9, 8, 3), channels=17, features=None, encoding=None, **conv):
    """An integer and a binary convolution with the same settings, each followed by the modules of `tail(channels)`."""
    parts = [encoding or PixelEncoding()]
    for index in range(2):
        parts += [BinaryConv2d(channels if index else image[2], channels, **conv), *tail(channels)]
    model = nn.Sequential(*parts)
    with torch.no_grad():
        features = model.eval()(torch.zeros(1, image[2], image[0], image[1])).numel()
    return randomize(nn.Sequential(*model, *head(features)))


def norm_sign(channels):
    return [nn.BatchNorm2d(channels), Sign()]


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("padding", [1, (0, 2), (3, 1)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), ((2, 3), 2), (5, (1, 2))])
@pytest.mark.parametrize("binary_input", [False, True])
def test_paddings(mode, padding, kernel, stride, binary_input):
    encoding = BinaryPixelEncoding() if binary_input else PixelEncoding()
    model = two_convs(
        norm_sign, kernel_size=kernel, stride=stride, padding=padding, padding_mode=mode, encoding=encoding
    )
    network = check(model, (9, 8, 3))
    assert network.stages[0].integer_input is not binary_input
    assert network.stages[1].padding_mode == mode
    assert network.stages[1].geometry.class_count > 1


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_border_classes_without_edges(mode):
    """Padding larger than the kernel: neurons that see nothing of the map."""
    network = check(two_convs(norm_sign, kernel_size=2, padding=3, padding_mode=mode), (9, 8, 3))
    assert network.stages[1].geometry.class_fan_in.min() == 0


POOL_TAILS = {
    "sign-pool": lambda c, pool: [nn.BatchNorm2d(c), Sign(), pool],
    "pool-norm": lambda c, pool: [pool, nn.BatchNorm2d(c), Sign()],
    "norm-pool-sign": lambda c, pool: [nn.BatchNorm2d(c), pool, Sign()],
    "norm-pool-norm": lambda c, pool: [nn.BatchNorm2d(c), pool, nn.BatchNorm2d(c), Sign()],
    "sign-pool-norm": lambda c, pool: [Sign(), pool, nn.BatchNorm2d(c), Sign()],
    "tanh-pool-norm": lambda c, pool: [nn.Hardtanh(-9, 7), pool, nn.BatchNorm2d(c), nn.Hardtanh(), Sign()],
    "dropout": lambda c, pool: [nn.Dropout(), pool, nn.Identity(), nn.BatchNorm2d(c), nn.Dropout2d(), Sign()],
    "plain": lambda c, pool: [pool, Sign()],
}


@pytest.mark.parametrize("order", POOL_TAILS)
@pytest.mark.parametrize("pool", [(2, 2), (3, 2), ((2, 3), (1, 2)), (1, 2)], ids=str)
@pytest.mark.parametrize("mode", PADDING_MODES)
def test_pooling_orders(order, pool, mode):
    def tail(channels):
        return POOL_TAILS[order](channels, nn.MaxPool2d(*pool))

    model = two_convs(tail, image=(13, 12, 3), kernel_size=3, padding=1, padding_mode=mode, bias=True)
    network = check(model, (13, 12, 3))
    windows = network.stages[1].decisive_bit
    decreasing_after_pool = order in ("pool-norm", "norm-pool-norm", "tanh-pool-norm", "dropout")
    assert (0 in windows) == decreasing_after_pool
    assert 1 in windows


def test_norm_after_the_pool_flips_weights_and_makes_an_and_window():
    conv, norm = BinaryConv2d(1, 3, 1), nn.BatchNorm2d(3)
    with torch.no_grad():
        conv.weight.fill_(0.5)
        norm.weight.copy_(torch.tensor([1.0, -1.0, 0.0]))
        norm.bias.copy_(torch.tensor([0.0, 0.0, -1.0]))
        norm.running_mean.fill_(-0.5)
    pool_first = nn.Sequential(BinaryPixelEncoding(), conv, nn.MaxPool2d(2), norm, Sign(), *head(12))
    sign_first = nn.Sequential(BinaryPixelEncoding(), conv, norm, Sign(), nn.MaxPool2d(2), *head(12))
    (stage,) = check(pool_first, (4, 4, 1)).stages
    assert stage.weight_bits().tolist() == [[1], [0], [0]]
    assert stage.thresholds.tolist() == [[1, 1, 2]]
    assert stage.decisive_bit.tolist() == [1, 0, 1]
    (stage,) = check(sign_first, (4, 4, 1)).stages
    assert stage.weight_bits().tolist() == [[1], [0], [0]]
    assert stage.decisive_bit.tolist() == [1, 1, 1]


def test_constant_channels_are_decided_in_every_border_class():
    model = two_convs(norm_sign, kernel_size=3, padding=2, padding_mode="plus_one")
    norm = model[5]
    with torch.no_grad():
        norm.weight[:2] = 0
        norm.bias[:2] = torch.tensor([1.0, -1.0])
        norm.weight[2], norm.bias[2], norm.running_mean[2] = 1.0, 0.0, -1000.0
    stage = check(model, (9, 8, 3)).stages[1]
    assert (stage.constant()[:, :3] == [1, 0, 1]).all()
    assert not stage.weight_bits()[:3].any()


def test_two_pools_in_a_row_become_one():
    def tail(channels):
        return [nn.MaxPool2d(2, 1), nn.Hardtanh(-30, 30), nn.MaxPool2d(3, 2), nn.BatchNorm2d(channels), Sign()]

    stage = check(two_convs(tail, image=(26, 25, 3), kernel_size=3), (26, 25, 3)).stages[0]
    assert (stage.pooling.size, stage.pooling.stride) == ((4, 4), (2, 2))


def test_two_pools_around_an_increasing_norm():
    def tail(channels):
        return [nn.MaxPool2d(2), nn.BatchNorm2d(channels, affine=False), Sign(), nn.MaxPool2d(2, 1)]

    check(two_convs(tail, image=(18, 18, 3), kernel_size=3), (18, 18, 3))


def test_two_pools_around_a_decreasing_norm_are_refused():
    def tail(channels):
        return [nn.MaxPool2d(2, 1), nn.BatchNorm2d(channels), Sign(), nn.MaxPool2d(2, 1)]

    model = two_convs(tail, kernel_size=2)
    with torch.no_grad():
        model[3].weight.fill_(1.0)
        model[3].weight[4] = -1.0
        model[3].running_mean.zero_()
    with pytest.raises(UnsupportedModuleError, match=r"'5' \(MaxPool2d\).*channel 4 decreases"):
        o3bnn.compile(model, image=(9, 8, 3))


def test_a_pool_of_a_pool_that_skips_is_refused():
    def tail(channels):
        return [nn.MaxPool2d(1, 2), nn.MaxPool2d(2, 1), nn.BatchNorm2d(channels), Sign()]

    model = two_convs(tail, (20, 20, 3), kernel_size=1)
    with pytest.raises(UnsupportedModuleError, match=r"'3' \(MaxPool2d\).*use one pool"):
        o3bnn.compile(model, image=(20, 20, 3))


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups(groups):
    check(two_convs(norm_sign, image=(6, 7, 6), channels=12, kernel_size=3, padding=1, groups=groups), (6, 7, 6))


def test_dense_layers_read_the_map_in_its_own_order():
    model = nn.Sequential(
        PixelEncoding(),
        nn.Flatten(),
        BinaryLinear(4 * 5 * 3, 33, bias=True),
        nn.BatchNorm1d(33),
        Sign(),
        BinaryLinear(33, 65),
        nn.BatchNorm1d(65, affine=False),
        nn.Hardtanh(),
        Sign(),
        BinaryLinear(65, 4),
    )
    network = check(randomize(model), (4, 5, 3))
    assert [type(stage) for stage in network.stages] == [DenseStage, DenseStage]


def test_norm_after_flattening_a_single_position():
    norm_sign_head = [nn.Flatten(), nn.BatchNorm1d(20), Sign(), BinaryLinear(20, 3), LogitScale(3)]
    model = nn.Sequential(PixelEncoding(), BinaryConv2d(3, 20, 4), *norm_sign_head)
    assert isinstance(check(randomize(model), (4, 4, 3)).stages[0], ConvStage)


def test_sign_after_flattening_a_map():
    sign_head = [nn.Flatten(), nn.Hardtanh(), Sign(), BinaryLinear(80, 3)]
    model = nn.Sequential(PixelEncoding(), BinaryConv2d(3, 20, 3), nn.BatchNorm2d(20), *sign_head)
    check(randomize(model), (4, 4, 3))


def test_input_tables():
    rng = np.random.default_rng(0)
    for table in (rng.integers(-40, 60, 256), rng.integers(0, 2, 256) * 2 - 1, np.zeros(256, int), np.arange(256)):
        encoding = PixelEncoding(table)
        check(two_convs(norm_sign, encoding=encoding, kernel_size=3, padding=1, padding_mode="minus_one"), (9, 8, 3))
    model = two_convs(norm_sign, kernel_size=3)
    network = check(nn.Sequential(PixelEncoding(), nn.Sequential(Sign()), *model[1:]), (9, 8, 3))
    assert network.input.table.tolist() == [-1] * 128 + [1] * 128
    assert network.input.is_binary


def test_padding_beyond_the_magnitude_of_the_input():
    """All pixels are 0 but the padding is -1, so that only the padding makes sums."""
    layers = [
        BinaryConv2d(1, 64, 3, padding=1, padding_mode="minus_one"),
        Sign(),
        nn.Flatten(),
        BinaryLinear(16 * 64, 3),
    ]
    stage = check(nn.Sequential(PixelEncoding([0] * 256), *layers), (4, 4, 1)).stages[0]
    assert {0, 1} == set(stage.constant(0).flatten().tolist())


def test_a_network_of_one_layer():
    model = nn.Sequential(BinaryPixelEncoding(100), nn.Flatten(), BinaryLinear(60, 7), LogitScale(7))
    assert check(randomize(model), (4, 5, 3)).stages == ()


@pytest.mark.parametrize("bias", [False, True])
def test_plain_logits_are_the_sums(bias):
    model = randomize(nn.Sequential(BinaryPixelEncoding(), nn.Flatten(), BinaryLinear(60, 7, bias=bias)))
    check(model, (4, 5, 3))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_of_the_logits_is_within_rounding(affine, bias):
    """Only LogitScale promises the same bits; here the sums are the same, and logits are PyTorch's but for rounding."""
    layer, norm = BinaryLinear(60, 9, bias=bias), nn.BatchNorm1d(9, affine=affine)
    model = nn.Sequential(BinaryPixelEncoding(), nn.Flatten(), layer, norm)
    randomize(model).eval()
    images = random_images((4, 5, 3), 20)
    trace = reference.run(o3bnn.compile(model, image=(4, 5, 3)), images)
    with torch.no_grad():
        value = torch.from_numpy(images).permute(0, 3, 1, 2)
        expected = model(value).numpy()
        sums = model[:3](value) - (model[2].bias if bias else 0)
    np.testing.assert_array_equal(trace.sums, np.rint(sums.numpy()).astype(np.int32))
    size = np.abs(trace.logits - expected).max() / np.abs(expected).max()
    assert size < 2.0**-20


def test_options_reach_the_network():
    model = two_convs(norm_sign, kernel_size=3)
    network = o3bnn.compile(
        model, image=(9, 8, 3), name="n", class_names=list("abcde"), cover=(10, 11), metadata={"seed": "1"}
    )
    assert (network.name, network.class_names, network.input.cover) == ("n", tuple("abcde"), (10, 11))
    assert dict(network.metadata) == {"seed": "1"}
    assert [stage.name for stage in network.stages] == ["1", "4"]
    assert network.output.name == "8"


def test_wrong_options():
    model = two_convs(norm_sign, kernel_size=3)
    with pytest.raises(InputError, match="image = 28 is not"):
        o3bnn.compile(model, image=28)
    with pytest.raises(InputError, match=r"takes a torch\.nn\.Module, not str"):
        o3bnn.compile("model.pt", image=(9, 8, 3))
    with pytest.raises(InvalidNetworkError, match="2 class names for 5 classes"):
        o3bnn.compile(model, image=(9, 8, 3), class_names=["a", "b"])
    with pytest.raises(InputError, match="class_names = 'abcde' is not a sequence of texts"):
        o3bnn.compile(model, image=(9, 8, 3), class_names="abcde")


def test_missing_torch_names_the_extra(monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == "torch" or name.startswith("o3bnn.compiler")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'o3bnn\[train\]'"):
        o3bnn.compile(None, image=(1, 1, 1))

"""Turned channels: the same features where windows agree, settled as often as they were not."""

import pytest
import torch
from torch import Tensor, nn

import o3bnn
from o3bnn.compiler import compile as compile_module
from o3bnn.errors import InputError
from o3bnn.model import reference
from o3bnn.train import networks
from o3bnn.train.turn import turn_channels

ORDERS = ("after_sign", "before_norm")


def network(pool: networks.PoolOrder, seed: int = 0) -> nn.Sequential:
    """A small net with batch norms of both signs, most of whose pooled channels are settled rarely."""
    torch.manual_seed(seed)
    net = networks.vgg_like(width=0.125, pool=pool).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
    for _ in range(20):
        net(images(seed=seed))
    norms = [net.get_submodule(name) for name in ("bn2", "bn4", "bn6")]
    for norm in norms:
        assert isinstance(norm, nn.BatchNorm2d)
        sign = norm.weight.detach().sign() if pool == "before_norm" else torch.ones_like(norm.weight)
        norm.bias.data = -sign * norm.weight.detach().abs() * torch.linspace(-1, 2, len(sign))
    return net.eval()


def images(n: int = 32, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return nn.functional.interpolate(torch.randint(0, 256, (n, 3, 8, 8)).float(), (32, 32), mode="bilinear").round()


def settled(net: nn.Sequential, pixels: Tensor) -> Tensor:
    """Share of settled windows of each channel of the first pooled stage, from the compiled network's bits."""
    compiled = compile_module(net, image=(32, 32, 3))
    stage = compiled.stages[1]
    assert stage.pooling is not None
    trace = reference.run(compiled, pixels.permute(0, 2, 3, 1).numpy().astype("uint8"))
    decides = torch.from_numpy(trace.stages[1].fired == stage.decisive_bit)
    n, height, width, channels = decides.shape
    return decides.view(n, height // 2, 2, width // 2, 2, channels).any(4).any(2).float().mean((0, 1, 2))


@pytest.mark.parametrize("pool", ORDERS)
def test_a_rare_channel_is_settled_as_often_as_it_was_not(pool: networks.PoolOrder) -> None:
    net, pixels = network(pool), images()
    before = settled(net, pixels)
    rare = (before > 0) & (before < 0.5)
    assert 3 < rare.sum() < len(rare)
    turned = turn_channels(net, pixels)
    after = settled(net, pixels)
    assert turned["conv2"] == rare.sum()
    assert torch.equal(after[~rare], before[~rare])
    torch.testing.assert_close(after[rare], 1 - before[rare], atol=0.06, rtol=0)  # sums are integers


@pytest.mark.parametrize("pool", ORDERS)
@pytest.mark.parametrize("flat", [False, True], ids=["conv next", "linear next"])
def test_where_windows_agree_nothing_changes(pool: networks.PoolOrder, flat: bool) -> None:
    torch.manual_seed(1)
    builder = networks._Builder((8, 8, 3), 1.0, pool, False)
    builder.conv(16, 1, pool=2)
    if not flat:
        builder.conv(16, 3)
    builder.flatten()
    builder.fc(16)
    net = builder.output(10).train()
    pixels = torch.randint(0, 256, (64, 3, 4, 4)).float().repeat_interleave(2, 2).repeat_interleave(2, 3)
    nn.init.normal_(net.get_submodule("bn1").weight)
    for _ in range(50):
        net(pixels)
    net.eval()
    nn.init.normal_(net.get_submodule("bn1").bias)
    with torch.no_grad():
        before = net(pixels)
        turned = turn_channels(net, pixels, below=1.0)
        after = net(pixels)
    assert turned["conv1"] > 8
    assert torch.equal(before, after)


def test_more_edges_are_pruned() -> None:
    net, pixels = network("after_sign"), images()
    octets = pixels.permute(0, 2, 3, 1).numpy().astype("uint8")
    share = [0.0, 0.0]
    for i in range(2):
        share[i] = o3bnn.Engine(compile_module(net, image=(32, 32, 3))).profile(octets).total("binary").pruned_share
        turn_channels(net, pixels)
    assert share[1] > 1.2 * share[0]


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"below = 1\.5 is not a share"):
        turn_channels(network("after_sign"), images(), below=1.5)

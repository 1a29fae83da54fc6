"""The regularizers against the exact counts of `model/edges.py`, on the batch whose statistics batch norm took."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import o3bnn
from o3bnn.errors import InputError
from o3bnn.model import edges
from o3bnn.train import regularizers
from o3bnn.train.layers import BinaryConv2d, BinaryLinear, BinaryPixelEncoding, LogitScale, PixelEncoding, Sign
from o3bnn.train.regularizers import PruningRegularizer

IMAGE = (14, 14, 3)
BATCH = 4


def network(seed, order="after_sign", padding=0, padding_mode="zero", bias=False, pool=2, stride=2, groups=1):
    """Three convolutions, the second one pooled, and a linear layer; gamma of both signs; statistics of one batch."""
    torch.manual_seed(seed)
    modules = [PixelEncoding()]
    channels = 3
    for index, (width, pooled) in enumerate(((8, False), (16, True), (12, False))):
        own = groups if index == 1 else 1
        conv = BinaryConv2d(channels, width, 3, 1, padding, padding_mode, own, bias)
        block = [nn.BatchNorm2d(width), Sign()]
        if pooled:
            block.insert(0 if order == "before_norm" else 2, nn.MaxPool2d(pool, stride))
        modules += [conv, *block]
        channels = width
    with torch.no_grad():
        size = nn.Sequential(*copy.deepcopy(modules))(torch.zeros(2, 3, *IMAGE[:2])).flatten(1).shape[1]
    modules += [nn.Flatten(), BinaryLinear(size, 24, bias), nn.BatchNorm1d(24), Sign(), nn.Dropout(0.0)]
    modules += [BinaryLinear(24, 4), LogitScale(4)]
    model = nn.Sequential(*modules)
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
                spread = 10.0 ** float(torch.empty(()).uniform_(-0.5, 1))
                module.weight.normal_()
                module.bias.copy_(
                    module.weight.abs() * (float(torch.randn(())) + torch.randn_like(module.bias) * spread)
                )
            if isinstance(module, BinaryConv2d | BinaryLinear) and module.bias is not None:
                module.bias.copy_(torch.randint_like(module.bias, -9, 10))
    return model


def pixels(seed, count=BATCH):
    """Smooth random images, uint8 [count, height, width, channels]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 7, 7, 3), np.uint8)
    return coarse.repeat(2, axis=1).repeat(2, axis=2)


def forward(model, images):
    return model.train()(torch.from_numpy(images).permute(0, 3, 1, 2).float())


def estimates(model, images, **options):
    """Values of the terms on one batch."""
    with PruningRegularizer(model, pool=1.0, threshold=1.0, **options) as regularizer:
        forward(model, images)
        regularizer()
        return regularizer.terms()


def exact(model, images):
    """Counts of the compiled model on the same batch; its batch norms use the statistics of that batch."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        for module in model.train():
            x = module(x)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                count = x.numel() // x.shape[1]
                module.running_var *= (count - 1) / count
    return edges.count(o3bnn.compile(model, image=IMAGE), images)


def ranks(values):
    return np.argsort(np.argsort(values))


@pytest.mark.parametrize("order", ["after_sign", "before_norm"])
def test_the_estimate_ranks_layers_as_the_exact_count_does(order):
    """Spearman's rank correlation over 30 layers is at least 0.98; with hard bits the share is right within 0.05."""
    soft, hard, wanted = [], [], []
    for seed in range(10):
        model, images = network(seed, order, padding=seed % 2), pixels(seed)
        stages = exact(model, images).stages[1:-1]
        wanted += [1 - stage.edges.pruned_share for stage in stages]
        for values, beta in ((soft, 8.0), (hard, 1e9)):
            terms = estimates(model, images, form="joint", beta=beta)
            values += [terms[f"{stage.name}.threshold"] for stage in stages]
    assert len(wanted) == 30
    assert np.corrcoef(ranks(soft), ranks(wanted))[0, 1] >= 0.98
    assert np.abs(np.subtract(hard, wanted)).max() <= 0.05


@pytest.mark.parametrize("order", ["after_sign", "before_norm"])
@pytest.mark.parametrize(
    "options", [{}, {"padding": 1}, {"pool": 3, "stride": 3, "bias": True}, {"pool": 2, "stride": 3}], ids=str
)
def test_hard_bits_give_the_exact_share_of_visited_neurons(order, options):
    """With bits instead of soft bits (beta to infinity) R_pool is the share that rules 1 and 3 leave: OR and AND."""
    model, images = network(5, order, **options), pixels(5)
    terms = estimates(model, images, beta=1e9)
    for stage in exact(model, images).stages[1:-1]:
        counts = stage.edges
        left = 1 - (counts.constant + counts.pooling) / counts.dense
        assert terms[f"{stage.name}.pool"] == pytest.approx(left, abs=1e-5), stage.name


def test_both_kinds_of_windows_occur():
    """The test above would not see an AND channel that is read as an OR if there were none."""
    for order, expected in (("after_sign", {1}), ("before_norm", {0, 1})):
        model, images = network(5, order), pixels(5)
        forward(model, images)
        assert set(np.unique(o3bnn.compile(model, image=IMAGE).stages[1].decisive_bit)) == expected


@pytest.mark.parametrize("form", ["walk", "joint"])
@pytest.mark.parametrize("order", ["after_sign", "before_norm"])
def test_steps_down_the_term_lower_the_exact_share(order, form):
    model, images = network(7, order), pixels(7)
    before = exact(model, images).total("binary").pruned_share
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with PruningRegularizer(model, pool=1.0, threshold=1.0, form=form) as regularizer:
        for _ in range(10):
            forward(model, images)
            optimizer.zero_grad()
            regularizer().backward()
            optimizer.step()
    assert exact(model, images).total("binary").pruned_share > before + 0.02


def test_shares_are_weighted_by_edges():
    model, images = network(3), pixels(3)
    terms = estimates(model, images)
    dense = {stage.name: stage.edges.dense for stage in exact(model, images).stages[1:-1]}
    for kind in ("pool", "threshold"):
        mean = sum(terms[f"{name}.{kind}"] * count for name, count in dense.items()) / sum(dense.values())
        assert terms[kind] == pytest.approx(mean, rel=1e-5)


def test_the_loss_is_the_weighted_sum_of_the_terms():
    model, images = network(3), pixels(3)
    with PruningRegularizer(model, pool=0.25, threshold=3.0) as regularizer:
        forward(model, images)
        loss = regularizer().item()
        terms = regularizer.terms()
    assert loss == pytest.approx(0.25 * terms["pool"] + 3.0 * terms["threshold"], rel=1e-6)


def test_constant_channels_cost_nothing_and_keep_gradients_finite():
    model, images = network(4), pixels(4)
    norm = model[5]
    with torch.no_grad():
        norm.weight[:4] = torch.tensor([0.0, -0.0, 1e-30, -1e-30])
        norm.bias[:4] = torch.tensor([1.0, 0.0, 2.0, -2.0])
        norm.bias[4] = 1e30
    live = estimates(model, images, beta=1e9)["4.pool"]
    counts = exact(model, images).stages[1].edges
    assert counts.constant >= 5 / 16 * counts.dense
    assert live == pytest.approx(1 - (counts.constant + counts.pooling) / counts.dense, abs=1e-5)
    with PruningRegularizer(model, pool=1.0, threshold=1.0) as regularizer:
        forward(model, images)
        regularizer().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_matches_of_none_and_all_edges_are_finite():
    """mu = 0 and mu = 1: a layer whose weights are all +1 reads inputs that are all -1, or all +1."""
    modules = [BinaryPixelEncoding(), nn.Flatten(), BinaryLinear(4, 3), nn.BatchNorm1d(3), Sign(), BinaryLinear(3, 2)]
    model = nn.Sequential(*modules)
    with torch.no_grad():
        model[2].weight.fill_(1)
        model[3].bias.copy_(torch.tensor([0.5, 0.0, -0.5]))
    images = np.zeros((2, 2, 2, 1), np.uint8)
    images[1] = 255
    with PruningRegularizer(model, threshold=1.0, through_weights=1.0) as regularizer:
        forward(model, images)
        regularizer().backward()
        share = regularizer.terms()["threshold"]
    # sums -4, 4: thresholds -2, 0, 2 are met after 1, 2, 3 of 4 matches and missed after 4, 3, 2 mismatches
    assert share == pytest.approx((1 + 4 + 2 + 3 + 3 + 2) / 24, abs=1e-5)
    assert torch.isfinite(model[3].bias.grad).all()
    assert torch.isfinite(model[2].weight.grad).all()


@pytest.mark.parametrize("padding_mode", ["zero", "minus_one", "plus_one"])
def test_padding_is_no_edge(padding_mode):
    """The estimate knows the fan-in and the sums at borders: with hard bits it is right there as elsewhere."""
    model, images = network(9, padding=2, padding_mode=padding_mode, bias=True), pixels(9)
    terms = estimates(model, images, form="joint", beta=1e9)
    for stage in exact(model, images).stages[1:-1]:
        assert terms[f"{stage.name}.threshold"] == pytest.approx(1 - stage.edges.pruned_share, abs=0.05), stage.name


def test_groups_have_their_own_fan_in():
    model, images = network(2, groups=4), pixels(2)
    terms = estimates(model, images, form="joint", beta=1e9)
    counts = exact(model, images).stages[1].edges
    assert counts.dense == BATCH * 10 * 10 * 16 * (8 // 4 * 9)
    assert terms["4.threshold"] == pytest.approx(1 - counts.pruned_share, abs=0.05)


def test_the_input_stage_is_optional():
    model, images = network(0), pixels(0)
    assert "1.pool" not in estimates(model, images)
    terms = estimates(model, images, input_stage=True)
    wanted = 1 - exact(model, images).stages[0].edges.pruned_share
    assert terms["1.threshold"] == pytest.approx(wanted, abs=0.1)


def test_the_same_batch_gives_the_same_value():
    images = pixels(1)
    assert estimates(network(1), images) == estimates(network(1), images)


@pytest.mark.parametrize("momentum", [0.1, None, 0.0])
def test_the_batch_s_statistics_are_found_whatever_the_momentum(momentum):
    images = pixels(1)
    wanted = estimates(network(1), images, beta=8.0)
    model = network(1)
    for module in model:
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = momentum
    forward(model, pixels(8))
    found = estimates(model, images, beta=8.0)
    assert found == pytest.approx(wanted, rel=1e-3)


def test_works_under_autocast():
    model, images = network(1), pixels(1)
    wanted = estimates(model, images)
    with PruningRegularizer(model, pool=1.0, threshold=1.0) as regularizer:
        with torch.autocast("cpu", torch.bfloat16):
            forward(model, images)
            loss = regularizer()
        assert loss.dtype == torch.float32
        loss.backward()
        assert regularizer.terms()["threshold"] == pytest.approx(wanted["threshold"], abs=0.02)


def test_large_maps_are_judged_on_the_first_images(monkeypatch):
    model, images = network(1), pixels(1)
    monkeypatch.setattr(regularizers, "NEURONS", 2 * 10 * 10 * 16)
    few = estimates(model, images)["4.pool"]
    changed = images.copy()
    changed[2:] = images[2:][::-1]
    assert few == pytest.approx(estimates(model, changed)["4.pool"], rel=1e-6)
    assert few != pytest.approx(estimates(model, images[::-1].copy())["4.pool"], rel=1e-6)


def test_close_removes_the_hooks():
    model, images = network(1), pixels(1)
    regularizer = PruningRegularizer(model, pool=1.0)
    assert any(module._forward_hooks for module in model)
    regularizer.close()
    assert not any(module._forward_hooks for module in model)
    forward(model, images)
    with pytest.raises(InputError, match="has not seen a forward"):
        regularizer()


def test_one_value_a_training_forward():
    model, images = network(1), pixels(1)
    with PruningRegularizer(model, pool=1.0) as regularizer:
        with torch.no_grad():
            model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2).float())
        with pytest.raises(InputError, match="'4' has not seen a forward in training mode"):
            regularizer()
        forward(model, images)
        regularizer()
        with pytest.raises(InputError, match="since the last call"):
            regularizer()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": -1.0}, "pool = -1.0 is not a weight"),
        ({"threshold": float("nan")}, "threshold = nan is not a weight"),
        ({"through_weights": 1.5}, "through_weights = 1.5 is not a share"),
        ({"beta": 0.0}, "beta = 0.0 is not a steepness"),
        ({"form": "best"}, "form = 'best' is none of"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        PruningRegularizer(network(0), **options)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([PixelEncoding(), nn.ReLU()], "no BinaryConv2d or BinaryLinear"),
        ([BinaryLinear(4, 3), nn.BatchNorm1d(3), Sign(), BinaryLinear(3, 2)], "does not start with a PixelEncoding"),
        ([PixelEncoding(), BinaryLinear(4, 3), nn.BatchNorm1d(3), Sign(), BinaryLinear(3, 2)], "no hidden stage"),
        ([BinaryPixelEncoding(), BinaryLinear(4, 3), Sign(), BinaryLinear(3, 2)], "0 batch norms, 1 Sign"),
        ([BinaryPixelEncoding(), BinaryLinear(4, 3), nn.ReLU(), BinaryLinear(3, 2)], r"'2' \(ReLU\)"),
        (
            [
                BinaryPixelEncoding(),
                BinaryConv2d(1, 3, 3),
                nn.BatchNorm2d(3),
                nn.MaxPool2d(2),
                Sign(),
                BinaryLinear(3, 2),
            ],
            "'3' pools between batch norm and Sign",
        ),
        (
            [
                BinaryPixelEncoding(),
                BinaryConv2d(1, 3, 3),
                nn.MaxPool2d(2, padding=1),
                nn.BatchNorm2d(3),
                Sign(),
                BinaryLinear(3, 2),
            ],
            r"'2' \(MaxPool2d\): padding",
        ),
    ],
)
def test_models_that_cannot_be_read_are_refused(modules, message):
    with pytest.raises(InputError, match=message):
        PruningRegularizer(nn.Sequential(*modules))


def test_only_a_sequence_is_read():
    with pytest.raises(InputError, match=r"reads an nn\.Sequential, not a BinaryLinear"):
        PruningRegularizer(BinaryLinear(3, 2))


def test_the_gradient_reaches_the_thresholds_and_as_much_of_the_weights_as_asked():
    images, found = pixels(1), {}
    for share in (0.0, 0.5, 1.0):
        model = network(1)
        with PruningRegularizer(model, threshold=1.0, through_weights=share) as regularizer:
            forward(model, images)
            regularizer().backward()
        found[share] = model[4].weight.grad
        assert model[5].bias.grad.abs().sum() > 0
        assert model[5].weight.grad.abs().sum() > 0
    assert found[0.0] is None
    # The sums of later layers depend on these weights too, so that halves of halves arrive there.
    assert 0 < found[0.5].abs().sum() < found[1.0].abs().sum()


def test_a_form_of_one_s_own_sees_every_neuron_and_its_edges():
    """With no share and no visit counted, what is left is each stage's edges outside constant channels."""
    model, images = network(4), pixels(4)

    def every_edge(neurons, beta):
        count = sum(place.edges.expand(place.share.shape).sum() for place in neurons.places())
        return torch.stack([count, 0 * count])

    terms = estimates(model, images, form=every_edge)
    for stage in exact(model, images).stages[1:-1]:
        assert terms[f"{stage.name}.pool"] == pytest.approx(1 - stage.edges.constant / stage.edges.dense, abs=1e-5)
        assert terms[f"{stage.name}.threshold"] == 0

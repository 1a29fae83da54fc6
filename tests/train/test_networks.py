"""The provided networks: shapes, names, options and their limits."""

import sys

import pytest
import torch

from o3bnn.errors import ArtifactError, InputError
from o3bnn.train.checkpoint import load_checkpoint, save_checkpoint
from o3bnn.train.layers import BinaryConv2d, BinaryLinear
from o3bnn.train.networks import NETWORKS, build

META = torch.device("meta")


def layers(model):
    return [
        (name, tuple(layer.weight.shape))
        for name, layer in model.named_children()
        if isinstance(layer, BinaryConv2d | BinaryLinear)
    ]


def outputs(name, image, options):
    with META:
        model = build(name, **options)
        return model(torch.empty(2, image[2], image[0], image[1])).shape


def test_cnv_is_finn_s():
    with META:
        model = build("cnv")
    assert [shape[0] for _, shape in layers(model)] == [64, 64, 128, 128, 256, 256, 512, 512, 10]
    assert dict(layers(model))["fc1"] == (512, 256)
    names = [name for name, _ in model.named_children()]
    assert names[:8] == ["encode", "conv1", "bn1", "sign1", "conv2", "bn2", "sign2", "pool2"]
    assert names[-9:] == ["flatten", "fc1", "fc_bn1", "fc_sign1", "fc2", "fc_bn2", "fc_sign2", "output", "logits"]


def test_vgg_like_pools_before_the_norm():
    with META:
        model = build("vgg_like")
    assert [name for name, _ in model.named_children()][4:8] == ["conv2", "pool2", "bn2", "sign2"]
    assert dict(layers(model))["fc1"] == (1024, 8192)


def test_imagenet_networks_have_their_usual_shapes():
    with META:
        alexnet, vgg16 = build("alexnet"), build("vgg16")
    assert dict(layers(alexnet))["fc1"] == (4096, 256 * 6 * 6)
    assert dict(layers(vgg16))["fc1"] == (4096, 512 * 7 * 7)
    assert len(layers(vgg16)) == 16
    assert sum(parameter.numel() for parameter in vgg16.parameters()) == pytest.approx(138.4e6, rel=0.001)


@pytest.mark.parametrize(
    ("name", "image", "options"),
    [
        ("mlp", (28, 28, 1), {"n": 100, "depth": 1}),
        ("mlp", (5, 7, 3), {"image": (5, 7, 3), "classes": 3}),
        ("cnv", (40, 36, 3), {"image": (40, 36, 3), "width": 0.5, "classes": 3}),
        ("vgg_like", (32, 32, 3), {"width": 2, "pool": "after_sign", "classes": 3}),
        ("alexnet", (224, 224, 3), {"classes": 3}),
        ("vgg16", (64, 64, 1), {"image": (64, 64, 1), "classes": 3}),
    ],
)
def test_networks_run_with_their_options(name, image, options):
    assert outputs(name, image, options) == (2, options.get("classes", 10))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenet", {}, "unknown network 'lenet': choose one of alexnet, cnv, mlp, vgg16, vgg_like"),
        ("cnv", {"depth": 2}, "'cnv' has no option 'depth'"),
        ("mlp", {"depth": 0}, "depth = 0"),
        ("mlp", {"n": 2.5}, "channels = 2.5"),
        ("mlp", {"image": 28}, "image = 28 is not"),
        ("mlp", {"image": (28, 28)}, "is not \\(height, width, channels\\)"),
        ("mlp", {"image": (28, 0, 1)}, "image size = 0"),
        ("cnv", {"width": 0}, "width = 0"),
        ("cnv", {"width": float("nan")}, "width = nan"),
        ("cnv", {"pool": "first"}, "pool = 'first'"),
        ("cnv", {"classes": True}, "classes = True"),
        ("cnv", {"image": (28, 28, 3)}, "the image is too small: conv6 does not fit a map of 2 x 2"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with META, pytest.raises(InputError, match=message):
        build(name, **options)


def test_every_factory_is_registered():
    assert sorted(NETWORKS) == ["alexnet", "cnv", "mlp", "vgg16", "vgg_like"]


def test_real_valued_twin_has_the_same_shapes_and_float_weights():
    for name in NETWORKS:
        with META:
            binary, real = build(name), build(name, real_valued=True)
        assert [key for key, _ in real.named_children()] == [key for key, _ in binary.named_children()]
        shapes = {key: tuple(value.shape) for key, value in binary.state_dict().items()}
        assert {key: tuple(value.shape) for key, value in real.state_dict().items()} == shapes
        assert layers(real) == []
    with pytest.raises(InputError, match="real_valued = 'yes' is neither true nor false"):
        build("mlp", real_valued="yes")


OWN = """
from torch import nn
from o3bnn.train.layers import BinaryLinear, LogitScale, PixelEncoding, Sign

def small(width, image=(6, 5, 1), classes=3):
    return nn.Sequential(PixelEncoding(), nn.Flatten(), BinaryLinear(30, width), nn.BatchNorm1d(width), Sign(),
                         BinaryLinear(width, classes), LogitScale(classes))

def tree():
    return nn.Linear(2, 2)

number = 3
"""


def test_own_networks_are_imported(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert layers(build("own_networks:small", width=7)) == [("2", (7, 30)), ("5", (3, 7))]
    assert sys.path == path
    for name, options, message in (
        ("own_networks:small", {"depth": 2}, "has no option 'depth': its options are width, image, classes"),
        ("own_networks:tree", {}, "made a Linear: return an nn.Sequential"),
        ("own_networks:number", {}, "module 'own_networks' has no function 'number'"),
        ("own_networks:missing", {}, "module 'own_networks' has no function 'missing'"),
        ("nowhere_at_all:small", {}, "module 'nowhere_at_all' cannot be imported: No module named"),
        ("small", {}, "unknown network 'small': choose one of .*, or your own as module:function"),
    ):
        with pytest.raises(InputError, match=message):
            build(name, **options)


def test_checkpoint_of_an_own_network_names_its_code(tmp_path, monkeypatch):
    (tmp_path / "own_networks_2.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    name = "own_networks_2:small"
    model = build(name, width=7)
    save_checkpoint(tmp_path / "own", model, network=name, options={"width": 7})
    del sys.modules["own_networks_2"]
    with pytest.raises(ArtifactError, match=rf"if you trust that code, name it \(o3bnn compile --network {name}\)"):
        load_checkpoint(tmp_path / "own")
    assert "own_networks_2" not in sys.modules  # a file alone has no code run
    loaded, info = load_checkpoint(tmp_path / "own", network=name)
    assert info.network == name and info.image == (6, 5, 1)
    assert torch.equal(loaded[2].weight, model[2].weight)

"""Checkpoints: round trip, atomic writing, damage, and files from somebody else."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save

from o3bnn.compiler import compile_checkpoint
from o3bnn.errors import ArtifactError, InputError
from o3bnn.model import reference
from o3bnn.train.checkpoint import load_checkpoint, save_checkpoint
from o3bnn.train.networks import build
from tests.compiler.helpers import random_images, randomize, torch_bits

OPTIONS = {"n": 33, "depth": 2, "image": (6, 5, 1)}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return randomize(build("mlp", **OPTIONS))


@pytest.fixture
def path(tmp_path, model):
    target = tmp_path / "deep" / "mlp.ckpt"
    names = [f"digit {i}" for i in range(10)]
    save_checkpoint(
        target, model, network="mlp", options=OPTIONS, class_names=names, cover=(7, 9), metadata={"accuracy": "0.5"}
    )
    return target


def test_round_trip(path, model):
    loaded, info = load_checkpoint(path)
    assert not loaded.training
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert info.network == "mlp"
    assert info.options == {"n": 33, "depth": 2, "classes": 10, "image": [6, 5, 1], "real_valued": False}
    assert (info.image, info.cover, info.metadata) == ((6, 5, 1), (7, 9), {"accuracy": "0.5"})
    assert info.class_names[3] == "digit 3"
    assert [entry.name for entry in path.parent.iterdir()] == ["mlp.ckpt"]


def test_a_loaded_model_trains(path):
    loaded, _ = load_checkpoint(path)
    loaded.train()(torch.zeros(3, 1, 6, 5)).sum().backward()


def test_channels_last_models_are_saved(tmp_path):
    model = build("cnv", width=0.05).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "cnv", model, network="cnv", options={"width": 0.05})
    loaded, info = load_checkpoint(tmp_path / "cnv")
    assert torch.equal(loaded.conv2.weight, model.conv2.weight)
    assert info.image == (32, 32, 3)


def test_compiling_a_checkpoint(path, model):
    network = compile_checkpoint(path)
    images = random_images((6, 5, 1), 20)
    _, logits = torch_bits(model, images)
    assert (reference.run(network, images).logits == logits).all()
    assert (network.name, network.input.cover, network.class_names[2]) == ("mlp", (7, 9), "digit 2")
    assert dict(network.metadata) == {"accuracy": "0.5"}


def test_a_failed_write_leaves_the_old_file(path, model, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("o3bnn.model.files.os.fsync", fail)
    with pytest.raises(ArtifactError, match=r"cannot write .*mlp\.ckpt: disk full"):
        save_checkpoint(path, model, network="mlp", options=OPTIONS)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["mlp.ckpt"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_others_may_read_a_checkpoint_as_the_umask_says(tmp_path, model):
    before = os.umask(0o022)
    try:
        save_checkpoint(tmp_path / "mlp.ckpt", model, network="mlp", options=OPTIONS)
    finally:
        os.umask(before)
    assert (tmp_path / "mlp.ckpt").stat().st_mode & 0o777 == 0o644


def test_saving_another_model_or_bad_metadata(tmp_path, model):
    target = tmp_path / "x"
    with pytest.raises(
        InputError, match=r"the model is not mlp .*: fc1.weight is F32 \[33, 30\], expected F32 \[34, 30\]"
    ):
        save_checkpoint(target, model, network="mlp", options=OPTIONS | {"n": 34})
    with pytest.raises(InputError, match=r"fc2\.weight does not belong|fc2"):
        save_checkpoint(target, model, network="mlp", options=OPTIONS | {"depth": 1})
    with pytest.raises(InputError, match="unknown network 'lenet'"):
        save_checkpoint(target, model, network="lenet")
    with pytest.raises(InputError, match="must map text to text"):
        save_checkpoint(target, model, network="mlp", options=OPTIONS, metadata={"accuracy": 0.5})
    assert not target.exists()


def parts(path):
    """The header and the tensor bytes of a safetensors file."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def write(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def change_document(change):
    def apply(path):
        header, body = parts(path)
        document = json.loads(header["__metadata__"]["o3bnn"])
        change(document)
        header["__metadata__"]["o3bnn"] = json.dumps(document)
        write(path, header, body)

    return apply


def without_metadata(path):
    header, body = parts(path)
    del header["__metadata__"]
    write(path, header, body)


def flip_dtype(path):
    header, body = parts(path)
    header["fc1.weight"]["dtype"] = "I32"
    write(path, header, body)


def other_model(path):
    header, _ = parts(path)
    path.write_bytes(save({"fc1.weight": torch.zeros(2, 2)}, header["__metadata__"]))


def set_option(**values):
    return change_document(lambda document: document["options"].update(values))


def set_field(**values):
    return change_document(lambda document: document.update(values))


DAMAGE = {
    "missing": (lambda path: path.unlink(), "not a readable safetensors file"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable safetensors file"),
    "text": (lambda path: path.write_text("hello world, not a model"), "not a readable safetensors file"),
    "directory": (lambda path: (path.unlink(), path.mkdir()), "not a readable safetensors file"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "not a readable safetensors file"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"0"), "not a readable safetensors file"),
    "no metadata": (without_metadata, "no readable 'o3bnn' in its metadata"),
    "not a document": (lambda path: write(path, {"__metadata__": {"o3bnn": "[1"}}, b""), "no readable 'o3bnn'"),
    "deep document": (lambda path: write(path, {"__metadata__": {"o3bnn": "[" * 99999}}, b""), "no readable 'o3bnn'"),
    "list": (lambda path: write(path, {"__metadata__": {"o3bnn": "[1]"}}, b""), "format is not 'o3bnn-checkpoint'"),
    "artifact": (set_field(format="o3bnn"), "a model file, compiled already: load or run it"),
    "another format": (set_field(format="other"), "format is not 'o3bnn-checkpoint'"),
    "newer": (set_field(version=2), "checkpoint version 2, but this o3bnn reads 1: upgrade"),
    "network": (set_field(network="resnet"), "network is 'resnet', which is not valid"),
    "network type": (set_field(network=["mlp"]), "network is"),
    "options": (set_field(options=None), "options is 'None'"),
    "image": (set_field(image=[6, 5]), "image is"),
    "other image": (set_field(image=[6, 5, 3]), "image is"),
    "names": (set_field(class_names=[1]), "class_names is"),
    "cover": (set_field(cover=[1, "2"]), "cover is"),
    "text map": (set_field(metadata={"a": 1}), "metadata is"),
    "unknown option": (set_option(widht=2), "'mlp' has no option 'widht'"),
    "huge": (set_option(n=10**12), "channels = 1000000000000 is not"),
    "deep": (set_option(depth=10**9), "depth = 1000000000 is not"),
    "wide": (set_option(n=65536, depth=256), "fc1.weight is F32"),
    "option type": (set_option(n="33"), "channels = '33'"),
    "shapes": (set_option(n=34), r"fc1.weight is F32 \[33, 30\], expected F32 \[34, 30\]"),
    "type": (flip_dtype, "fc1.weight is I32"),
    "tensors": (other_model, "is missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_error(path, kind):
    damage, message = DAMAGE[kind]
    damage(path)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_every_truncation_is_an_error(path):
    content = path.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for size in [*range(0, header, 97), header, *range(header, len(content), 511)]:
        path.write_bytes(content[:size])
        with pytest.raises(ArtifactError):
            load_checkpoint(path)

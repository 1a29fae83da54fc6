"""Model files: round trips, golden files in both directions, an independent reader, and writing that loses nothing."""

import dataclasses
import errno
import json
import os
import re
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings

from o3bnn.errors import ArtifactError
from o3bnn.model import ConvStage, artifact, description, geometry, reference
from tests import strategies
from tests.golden import networks, reader

NAMES = list(networks.NETWORKS)
DOCUMENT = Path(__file__).parents[2] / "docs" / "format.md"


def fields(value):
    """Everything that a network holds, as nested tuples: arrays with their type, shape and octets."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if dataclasses.is_dataclass(value):
        return type(value).__name__, *((f.name, fields(getattr(value, f.name))) for f in dataclasses.fields(value))
    if isinstance(value, tuple):
        return tuple(fields(item) for item in value)
    return dict(value) if hasattr(value, "keys") else value


def header_of(octets):
    length = int.from_bytes(octets[:8], "little")
    return json.loads(octets[8 : 8 + length])


@given(strategies.networks())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_round_trip_of_random_networks(tmp_path_factory, drawn):
    _, network = drawn
    folder = tmp_path_factory.mktemp("round")
    artifact.save(network, folder / "a")
    again = artifact.load(folder / "a")
    assert fields(again) == fields(network)
    artifact.save(again, folder / "b")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_golden_file_is_written_exactly(name, tmp_path):
    artifact.save(networks.NETWORKS[name](), tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == networks.path(name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_golden_file_is_read_exactly(name):
    assert fields(artifact.load(networks.path(name))) == fields(networks.NETWORKS[name]())


@pytest.mark.parametrize("name", NAMES)
def test_independent_reader_computes_the_same(name):
    """Written after docs/format.md alone: it reads the file and runs the network edge by edge."""
    network = networks.NETWORKS[name]()
    images = np.random.default_rng(0).integers(0, 256, (5, *network.input.shape), dtype=np.uint8)
    octets = networks.path(name).read_bytes()
    assert [reader.run(octets, image.tolist()) for image in images] == reference.run(network, images).sums.tolist()


@given(strategies.networks(small=True))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_independent_reader_on_random_networks(tmp_path_factory, drawn):
    spec, network = drawn
    path = tmp_path_factory.mktemp("reader") / "model.safetensors"
    artifact.save(network, path)
    _, tensors = reader.read(path.read_bytes())
    for index, stage in enumerate(network.stages):
        bits = reader.rows_of_bits(tensors[f"stages.{index}.weights"], stage.geometry.full_fan_in)
        assert bits == stage.weight_bits().tolist()
        assert tensors[f"stages.{index}.thresholds"] == ([*stage.thresholds.shape], stage.thresholds.ravel().tolist())
        if isinstance(stage, ConvStage):
            assert tensors[f"stages.{index}.decisive_bit"][1] == stage.decisive_bit.tolist()
    assert tensors["input.table"][1] == network.input.table.tolist()
    if sum(stage.geometry.outputs * stage.geometry.full_fan_in for stage in network.stages) < 200_000:
        image = strategies.images(spec, 1)
        assert reader.run(path.read_bytes(), image[0].tolist()) == reference.run(network, image).sums[0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_safetensors_package_reads_the_file(name):
    tensors = safetensors.numpy.load_file(networks.path(name))
    network = networks.NETWORKS[name]()
    assert np.array_equal(tensors["output.weights"], network.output.weights)
    assert np.array_equal(tensors["input.table"], network.input.table)
    with safetensors.safe_open(networks.path(name), "np") as file:
        metadata = file.metadata()
    assert list(metadata) == ["o3bnn"]
    assert json.loads(metadata["o3bnn"])["format"] == "o3bnn"


@pytest.mark.parametrize("name", NAMES)
def test_file_written_by_the_safetensors_package_is_read(name, tmp_path):
    tensors = safetensors.numpy.load_file(networks.path(name))
    with safetensors.safe_open(networks.path(name), "np") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", metadata)
    assert fields(artifact.load(tmp_path / "model.safetensors")) == fields(networks.NETWORKS[name]())


@pytest.mark.parametrize("name", NAMES)
def test_tensors_are_aligned_to_their_items(name):
    octets = networks.path(name).read_bytes()
    assert int.from_bytes(octets[:8], "little") % 8 == 0
    for key, entry in header_of(octets).items():
        if key != "__metadata__":
            item = {"U64": 8, "F32": 4, "I32": 4, "I16": 2, "U8": 1}[entry["dtype"]]
            assert entry["data_offsets"][0] % item == 0


def test_hex_dump_in_the_document_is_the_tiny_file():
    """Every line `offset: octets` of docs/format.md, and the JSON text that it shows."""
    octets = networks.path("tiny").read_bytes()
    text = DOCUMENT.read_text()
    lines = re.findall(r"^    ([0-9a-f]{8}:)((?: [0-9a-f]{2})+)", text, re.MULTILINE)
    assert len(lines) > 10
    for offset, shown in lines:
        begin = int(offset[:-1], 16)
        wanted = bytes.fromhex(shown)
        assert octets[begin : begin + len(wanted)] == wanted, offset
    blocks = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]
    header = header_of(octets)
    document = json.loads(header["__metadata__"]["o3bnn"])
    header["__metadata__"]["o3bnn"] = "..."
    assert blocks == [header, document]


def test_document_names_every_field_and_limit():
    text = DOCUMENT.read_text()
    for name in NAMES:
        metadata = header_of(networks.path(name).read_bytes())["__metadata__"]
        for key in keys_of(json.loads(metadata["o3bnn"])) - {"source", "accuracy", ""}:
            assert f"`{key}`" in text, key
    limits = (artifact.MAX_HEADER, artifact.MAX_FILE, description.MAX_POSITIONS, description.MAX_CLASS_NAMES)
    for limit in (*limits, geometry.MAX_MAP, geometry.MAX_FAN_IN, geometry.MAX_CLASS_EDGES, geometry.MAX_CHANNELS):
        assert re.search(rf"\b{limit}\b", text), limit


def keys_of(tree):
    if isinstance(tree, dict):
        return tree.keys() | set().union(*map(keys_of, tree.values()))
    return set().union(*map(keys_of, tree)) if isinstance(tree, list) else set()


def tiny(**changes):
    return dataclasses.replace(networks.tiny(), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {"note": "\ud800"}}, "not valid Unicode"),
        ({"class_names": ("a", "\udfff")}, "not valid Unicode"),
        ({"metadata": {"\ud800": "note"}}, "not valid Unicode"),
        ({"metadata": {"note": "x" * (5 << 20)}}, "its header takes 5244000 octets, more than 4194304: shorten"),
    ],
)
def test_networks_that_the_format_cannot_hold(changes, message, tmp_path):
    with pytest.raises(ArtifactError, match=message):
        artifact.save(tiny(**changes), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_text_just_below_the_header_limit(tmp_path):
    """A quote takes four octets: escaped in the document, whose escapes are escaped in the header."""
    network = tiny(metadata={"note": '"' * ((1 << 20) - 300)})
    artifact.save(network, tmp_path / "model.safetensors")
    length = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little")
    assert artifact.MAX_HEADER - 1000 < length <= artifact.MAX_HEADER
    assert artifact.load(tmp_path / "model.safetensors").metadata == network.metadata


def test_file_beyond_the_size_limit_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_FILE", 1737)
    with pytest.raises(ArtifactError, match="it takes 1738 octets, more than a file's 1737: use a smaller network"):
        artifact.save(networks.tiny(), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_bytes_do_not_depend_on_the_process(tmp_path):
    """The safetensors package writes metadata in the order of a hash map, seeded in each process: hence one key."""
    program = """
        import sys
        from o3bnn.model import artifact
        for path in sys.argv[2:]:
            network = artifact.load(path)
            artifact.save(network, sys.argv[1])
            assert open(path, "rb").read() == open(sys.argv[1], "rb").read(), path
    """
    for seed in "123":
        command = [sys.executable, "-c", textwrap.dedent(program), tmp_path / "model", *map(networks.path, NAMES)]
        subprocess.run(command, check=True, timeout=120, env={**os.environ, "PYTHONHASHSEED": seed})


def test_save_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    artifact.save(networks.tiny(), path)
    assert path.read_bytes() == networks.path("tiny").read_bytes()
    assert list(tmp_path.iterdir()) == [path]


def test_save_accepts_texts_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    artifact.save(networks.tiny(), "model.safetensors")
    assert artifact.load("model.safetensors").name == "tiny"


def test_save_gives_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    artifact.save(networks.tiny(), tmp_path / "model")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "model")]
    assert modes[0] == modes[1]


def test_save_replaces_a_symbolic_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    artifact.save(networks.tiny(), tmp_path / "link")
    assert (tmp_path / "real").read_bytes() == b"old"
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("step", ["fsync", "replace", "write"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_failed_save_keeps_the_old_file(step, failure, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def fail(*_arguments, **_options):
        raise failure

    target = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "write": (artifact, "container_of")}[step]
    network = networks.tiny()
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        expected = ArtifactError if isinstance(failure, OSError) else KeyboardInterrupt
        with pytest.raises(expected, match="free some space" if isinstance(failure, OSError) else None):
            artifact.save(network, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("place", "message"),
    [("missing/model", "No such file or directory: check the path"), (".", "Is a directory: give the path of a file")],
)
def test_save_to_impossible_places(place, message, tmp_path):
    with pytest.raises(ArtifactError, match=message):
        artifact.save(networks.tiny(), tmp_path / place)


@pytest.mark.parametrize("path", [3, None, b"model", ["model"]])
def test_a_path_that_is_none(path):
    shown = re.escape(f"the path of a model file is a text or a pathlib.Path, not {path!r} ({type(path).__name__})")
    with pytest.raises(ArtifactError, match=shown):
        artifact.load(path)
    with pytest.raises(ArtifactError, match=shown):
        artifact.save(networks.tiny(), path)


@pytest.mark.parametrize("network", ["model", None, 3])
def test_only_networks_are_saved(network, tmp_path):
    with pytest.raises(ArtifactError, match=r"save takes an o3bnn\.Network, not .*: o3bnn\.compile and"):
        artifact.save(network, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_save_does_not_replace_devices_or_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="pipe"):
        artifact.save(networks.tiny(), tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    real = os.open

    def refuse(path, *arguments, **options):
        if Path(path) == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    artifact.save(networks.tiny(), tmp_path / "model")
    assert artifact.load(tmp_path / "model").name == "tiny"


def test_order_of_metadata_does_not_matter(tmp_path):
    for name, metadata in (("a", {"x": "1", "y": "2"}), ("b", {"y": "2", "x": "1"})):
        artifact.save(tiny(metadata=metadata), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

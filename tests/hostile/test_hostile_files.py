"""Every hostile file gives one clear `ArtifactError`: no crash, no other exception, no large allocation."""

import copy
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3bnn.errors import ArtifactError, O3bnnError
from o3bnn.model import Network, artifact
from tests.golden import networks
from tests.hostile import files

CASES = files.cases()
ALLOWANCE = 256 << 20


def error_of(path):
    """The message of the error that loading gives; it names the path, fits a line and has no control characters."""
    with pytest.raises(ArtifactError) as caught:
        artifact.load(path)
    message = str(caught.value)
    assert isinstance(caught.value, O3bnnError)
    assert repr(str(path))[-20:] in message
    assert len(message) < 1000
    assert message.isprintable()
    return message


@pytest.fixture
def load_octets(tmp_path):
    """Load octets as a file: returns the network, or the error's message."""
    path = tmp_path / "hostile.safetensors"

    def load(octets):
        path.write_bytes(octets)
        try:
            return artifact.load(path)
        except ArtifactError as error:
            return str(error)

    return load


def test_the_good_file_is_good(load_octets):
    assert isinstance(load_octets(files.GOOD), Network)
    assert isinstance(load_octets(files.join(files.parts())), Network), "the generator's own way of writing is accepted"


OUTPUT_WEIGHTS = b'"output.weights":{"dtype":"U64","shape":[2,1],"data_offsets":[0,16]}'
TOLERATED = {
    "a wrong entry first": b'"output.weights":{"dtype":"I8","shape":[],"data_offsets":[9,9]},' + OUTPUT_WEIGHTS,
    "an unknown field": OUTPUT_WEIGHTS[:-1] + b',"unused":[{}]}',
    "an entry as a list": b'"output.weights":["U64",[2,1],[0,16]]',
    "spaces": OUTPUT_WEIGHTS.replace(b":", b"\n: "),
}


@pytest.mark.parametrize("name", TOLERATED)
def test_what_the_safetensors_package_tolerates_changes_no_network(name, load_octets):
    """The checksum and the exact set of names bind the contents, whatever else the header says."""
    length = int.from_bytes(files.GOOD[:8], "little")
    header = files.GOOD[8 : 8 + length]
    assert header.count(OUTPUT_WEIGHTS) == 1
    network = load_octets(files.whole(header.replace(OUTPUT_WEIGHTS, TOLERATED[name]), files.GOOD[8 + length :]))
    assert isinstance(network, Network), network
    assert artifact.encode(network) == files.GOOD


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_hostile_file(case, tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(case.octets)
    assert re.search(case.message, error_of(path)), error_of(path)


def test_names_of_cases_are_unique():
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_truncated_at_every_length(name, tmp_path):
    good = networks.path(name).read_bytes()
    path = tmp_path / "truncated.safetensors"
    path.write_bytes(good)
    step = max(1, len(good) // 2000)
    for size in [len(good) - 1, *range(len(good) - step, -1, -step), 0]:
        os.truncate(path, size)
        with pytest.raises(ArtifactError):
            artifact.load(path)


def test_every_bit_of_the_file_flipped(tmp_path):
    """The checksum covers all of the contents, so that no flip at all goes unnoticed."""
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(files.GOOD)
    with path.open("r+b") as file:
        for index, octet in enumerate(files.GOOD):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([octet ^ 1 << bit]), index)
                with pytest.raises(ArtifactError):
                    artifact.load(path)
            os.pwrite(file.fileno(), bytes([octet]), index)
    assert isinstance(artifact.load(path), Network)


def test_every_octet_of_the_header_removed(load_octets):
    length = int.from_bytes(files.GOOD[:8], "little")
    for index in range(8, 8 + length):
        shorter = (length - 1).to_bytes(8, "little") + files.GOOD[8:index] + files.GOOD[index + 1 :]
        result = load_octets(shorter)
        assert isinstance(result, str) or files.GOOD[index] == ord(" "), index


def leaves(tree, path=()):
    """Paths of all values in a JSON tree, inner ones included."""
    yield path
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, (*path, key))


NASTY = [
    None,
    True,
    -1,
    0,
    1,
    3,
    65536,
    65537,
    1 << 24,
    1 << 31,
    1 << 63,
    1 << 200,
    0.5,
    1e308,
    "",
    "1",
    [],
    [1],
    {},
    [[]],
]
FREE = {
    "network.name",
    "network.stages.0.name",
    "network.output.name",
    "network.input.cover",
    "network.stages.0.pooling.size",
    "network.stages.0.pooling.stride",
}


@pytest.mark.parametrize("attribute", ["document", "entries", "metadata"])
def test_every_field_replaced_by_nasty_values(attribute, load_octets):
    """With a correct checksum: an error, but for the fields that no other field and no tensor depends on."""
    base = files.parts()
    accepted = set()
    for path in leaves(getattr(base, attribute)):
        for value in NASTY if path else ():
            p = copy.deepcopy(base)
            if json.dumps(files.replaced(getattr(p, attribute), path, value)) == json.dumps(value):
                continue
            octets = files.join(p, place=False) if attribute == "document" else files.pack(p)
            result = load_octets(octets)
            assert isinstance(result, str | Network)
            if isinstance(result, Network):
                accepted.add(".".join(map(str, path)).removesuffix(".0").removesuffix(".1"))
    assert accepted == (FREE if attribute == "document" else set())


def test_every_field_removed(load_octets):
    base = files.parts()
    for attribute, tree in [("document", base.document), ("entries", base.entries)]:
        for path in leaves(tree):
            if path and isinstance(path[-1], str):
                p = copy.deepcopy(base)
                owner = getattr(p, attribute)
                for key in path[:-1]:
                    owner = owner[key]
                del owner[path[-1]]
                assert isinstance(load_octets(files.join(p, place=False)), str), path


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.binary(max_size=64))
def test_random_octets(tmp_path_factory, header, body):
    path = tmp_path_factory.mktemp("random") / "random.safetensors"
    for octets in (header, files.whole(header, body), files.whole(b"{" + header + b"}", body)):
        path.write_bytes(octets)
        with pytest.raises(ArtifactError):
            artifact.load(path)


def test_missing_file(tmp_path):
    assert "No such file or directory: check the path" in error_of(tmp_path / "missing.safetensors")


def test_folder(tmp_path):
    assert "Is a directory: give the path of a file" in error_of(tmp_path)


def test_path_through_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert "check the path" in error_of(tmp_path / "file" / "model.safetensors")


def test_symbolic_link_loop(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "check the symbolic links" in error_of(tmp_path / "a")


def test_symbolic_link_to_a_model(tmp_path):
    (tmp_path / "link").symlink_to(networks.path("tiny"))
    assert artifact.load(tmp_path / "link").name == "tiny"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a file" in error_of(tmp_path / "pipe")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices on this system")
def test_device():
    assert "not a file" in error_of("/dev/zero")


def test_path_that_is_no_path():
    assert "null" in error_of("model\0.safetensors")


def test_long_path():
    assert "use a shorter path" in error_of("x" * 5000)


def test_no_permission(tmp_path, monkeypatch):
    path = tmp_path / "secret.safetensors"
    path.write_bytes(files.GOOD)

    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied: check the permissions" in error_of(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission_by_the_file_system(tmp_path):
    path = tmp_path / "secret.safetensors"
    path.write_bytes(files.GOOD)
    path.chmod(0)
    assert "check the permissions" in error_of(path)


def test_file_that_shrinks_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "shrinking.safetensors"
    path.write_bytes(networks.path("deep").read_bytes())
    real = artifact.description.expected_tensors

    def shrink(*arguments):
        os.truncate(path, 9000)
        return real(*arguments)

    monkeypatch.setattr(artifact.description, "expected_tensors", shrink)
    assert "it ended after 9000 of 12052 octets" in error_of(path)


def test_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    """The tensors come from a second reading; the checksum binds them to the document of the first."""
    path = tmp_path / "changing.safetensors"
    path.write_bytes(files.GOOD)
    real = artifact.description.expected_tensors

    def change(*arguments):
        path.write_bytes(files.edited(lambda p: p.data.update({"output.scale": b"\0\0\x80\x3f" * 2})))
        return real(*arguments)

    monkeypatch.setattr(artifact.description, "expected_tensors", change)
    assert isinstance(artifact.load(path), Network), "a change of the tensors with their checksum is another good file"

    def change_text(*arguments):
        path.write_bytes(files.GOOD.replace(b"tiny", b"tony"))
        return real(*arguments)

    path.write_bytes(files.GOOD)
    monkeypatch.setattr(artifact.description, "expected_tensors", change_text)
    assert artifact.load(path).name == "tiny", "the document is that of the first reading, under its checksum"


def test_file_beyond_the_size_limit(tmp_path):
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(files.GOOD)
        file.truncate((1 << 30) + 1)
    assert "more than the 1073741824" in error_of(path)


def test_large_file_of_another_kind_is_not_read(tmp_path, monkeypatch):
    """The document bounds the file's size before the tensors are read."""
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(files.GOOD)
        file.truncate(1 << 30)
    real = artifact.read_exactly
    sizes = []
    monkeypatch.setattr(artifact, "read_exactly", lambda file, size: sizes.append(size) or real(file, size))
    assert "its tensors take 626 octets, but 1073740712 follow the header" in error_of(path)
    assert sum(sizes) == 8 + 1104


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("action", ["load", "save"])
def test_short_memory_is_an_artifact_error(action, tmp_path):
    """At every amount of free memory: the safetensors package would panic or abort where an allocation fails."""
    program = """
        import resource, sys
        import numpy as np
        from o3bnn.errors import ArtifactError
        from o3bnn.model import ConvGeometry, DenseStage, InputEncoding, Network, OutputStage, artifact
        wide = 1 << 13
        table = np.where(np.arange(256) < 128, -1, 1).astype(np.int16)
        stages = [
            DenseStage(
                name=str(i),
                geometry=ConvGeometry(1, 1, wide, wide),
                weights=np.zeros((wide, wide // 64), np.uint64),
                thresholds=np.ones((1, wide), np.int32),
            )
            for i in range(2)
        ]
        one = np.ones(1, np.float32)
        row = np.zeros((1, wide // 64), np.uint64)
        output = OutputStage(name="o", in_features=wide, weights=row, scale=one, offset=one)
        network = Network(name="n", input=InputEncoding(1, 1, wide, table), stages=stages, output=output)
        path, action = sys.argv[1:]
        artifact.save(network, path)
        found = set()
        for megabytes in range(0, 96, 3):
            pages = int(open("/proc/self/statm").read().split()[0])
            limit = pages * resource.getpagesize() + (megabytes << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            try:
                artifact.load(path) if action == "load" else artifact.save(network, path)
                found.add("done")
            except ArtifactError as error:
                assert "it does not fit in the free memory" in str(error), error
                found.add("short")
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(sorted(found))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "model.safetensors"), action]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.stdout == "['done', 'short']\n", result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_large_allocation(tmp_path):
    """All hostile files load in a process that may grow by no more than 256 MiB."""
    paths = []
    for index, case in enumerate(CASES):
        paths.append(tmp_path / f"{index}.safetensors")
        paths[-1].write_bytes(case.octets)
    program = f"""
        import resource, sys
        from o3bnn.errors import ArtifactError
        from o3bnn.model import artifact
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + {ALLOWANCE}
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for path in sys.argv[1:]:
            try:
                artifact.load(path)
            except ArtifactError as error:
                assert "free memory" not in str(error), path
            else:
                raise AssertionError(path)
        print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.stdout == "done\n", result.stderr


def test_loaded_arrays_are_read_only(tmp_path):
    network = artifact.load(networks.path("deep"))
    for array in (network.input.table, network.output.weights, network.stages[0].thresholds):
        assert isinstance(array, np.ndarray)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0

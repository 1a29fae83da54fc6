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
FREE = {"name", "stages.0.name", "output.name", "input.cover", "stages.0.pooling.size", "stages.0.pooling.stride"}


@pytest.mark.parametrize("attribute", ["network", "entries", "metadata"])
def test_every_field_replaced_by_nasty_values(attribute, load_octets):
    """With a correct checksum: an error, but for the fields that no other field and no tensor depends on."""
    base = files.parts()
    accepted = set()
    for path in leaves(getattr(base, attribute)):
        for value in NASTY if path else ():
            p = copy.deepcopy(base)
            if json.dumps(files.replaced(getattr(p, attribute), path, value)) == json.dumps(value):
                continue
            octets = files.join(p, place=False) if attribute == "network" else files.pack(p)
            result = load_octets(octets)
            assert isinstance(result, str | Network)
            if isinstance(result, Network):
                accepted.add(".".join(map(str, path)).removesuffix(".0").removesuffix(".1"))
    assert accepted == (FREE if attribute == "network" else set())


def test_every_field_removed(load_octets):
    base = files.parts()
    for attribute, tree in [("network", base.network), ("entries", base.entries)]:
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
    real = artifact.container.read_tensor

    def shrink(*arguments):
        os.truncate(path, 9000)
        return real(*arguments)

    monkeypatch.setattr(artifact.container, "read_tensor", shrink)
    assert "it ended after" in error_of(path)


def test_file_beyond_the_size_limit(tmp_path):
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(files.GOOD)
        file.truncate((1 << 30) + 1)
    assert "more than the 1073741824" in error_of(path)


def test_memory_error_is_an_artifact_error(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(files.GOOD)

    def fail(*_arguments):
        raise MemoryError

    monkeypatch.setattr(artifact.container, "read_tensor", fail)
    assert "does not fit in the free memory" in error_of(path)


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

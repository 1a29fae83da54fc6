"""The model file: a network saved to a safetensors file, and loaded again without trusting the file.

Packed bits and thresholds are tensors; everything else is one JSON text in the metadata, checked field by field.
`docs/format.md` is the specification, octet by octet.
"""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError

from o3bnn.errors import ArtifactError, InvalidNetworkError
from o3bnn.model import container, description
from o3bnn.model.container import TensorEntry, Tensors, damaged, shown
from o3bnn.model.description import NetworkDescription
from o3bnn.model.network import Network

FORMAT = "o3bnn"
VERSION = 1
MAX_SHOWN_PATH = 300
_NETWORK = TypeAdapter(NetworkDescription)

StrPath = str | os.PathLike[str]


def save(network: Network, path: StrPath) -> None:
    """Write a network to a model file. The same network gives the same octets, whenever and wherever it is saved.

    The file appears whole or not at all: it is written beside `path` and then renamed onto it, replacing what was
    there (a symbolic link is replaced, not followed).

    Raises:
        ArtifactError: the file cannot be written, or the network holds texts that the format cannot.
    """
    try:
        tensors = description.tensors_of(network)
        text = container.canonical_json(_describe(network).model_dump(mode="json"))
        metadata = {
            "format": FORMAT,
            "format_version": str(VERSION),
            "network": text.decode(),
            "sha256": _digest(text, tensors),
        }
        _write(Path(path), container.encode(metadata, tensors))
    except OSError as error:
        raise ArtifactError(f"cannot write {_place(path)}: {_reason(error)}") from error
    except (ArtifactError, ValueError) as error:
        raise ArtifactError(f"cannot write {_place(path)}: {container.shorten(str(error))}") from error


def load(path: StrPath) -> Network:
    """Read a network from a model file, which may come from anywhere: nothing in it is executed or believed unchecked.

    Raises:
        ArtifactError: the file is missing, damaged, of another format, or written by a newer version of o3bnn.
    """
    try:
        with _opened(Path(path)) as (file, size):
            header = container.read_header(file, size)
            text = _check_metadata(header.metadata)
            entries = header.entries()
            model = container.validate(_NETWORK, container.parse_json(text, "the network"), "the network")
            parts = description.geometries(model)
            _check_tensors(entries, description.expected_tensors(model, parts))
            tensors = {name: container.read_tensor(file, header.data_start, entry) for name, entry in entries.items()}
        if _digest(text.encode(), tensors) != header.metadata["sha256"]:
            raise damaged("its contents do not match its SHA-256 checksum")
        return description.build(model, parts, tensors)
    except OSError as error:
        raise ArtifactError(f"cannot read {_place(path)}: {_reason(error)}") from error
    except MemoryError as error:
        raise ArtifactError(f"cannot read {_place(path)}: it does not fit in the free memory") from error
    except (ArtifactError, InvalidNetworkError, ValueError) as error:
        raise ArtifactError(f"cannot read {_place(path)}: {container.shorten(str(error))}") from error


def _describe(network: Network) -> NetworkDescription:
    try:
        model = description.describe(network)
    except ValidationError as error:
        raise ArtifactError(container.explain(error)) from error
    description.check_positions(model)
    return model


def _check_metadata(metadata: Mapping[str, str]) -> str:
    """Check format and version, and return the JSON text of the network."""
    if metadata.get("format") != FORMAT:
        raise ArtifactError(
            f"its metadata has format {shown(metadata.get('format'))}, not {FORMAT!r}: "
            "it is not an o3bnn model; compile one with `o3bnn compile`"
        )
    version = metadata.get("format_version", "")
    if not re.fullmatch("[1-9][0-9]{0,5}", version):
        raise damaged(f"its format version is {shown(version)}, not a number such as {VERSION}")
    if int(version) > VERSION:
        raise ArtifactError(f"its format version {version} is newer than {VERSION}: upgrade o3bnn")
    wanted = {"format", "format_version", "network", "sha256"}
    for name in sorted(wanted ^ metadata.keys()):
        raise damaged(f"its metadata has {'no' if name in wanted else 'an unknown'} field {shown(name)}")
    return metadata["network"]


def _check_tensors(entries: Mapping[str, TensorEntry], expected: description.Expected) -> None:
    for name in sorted(expected.keys() ^ entries.keys()):
        raise damaged(f"tensor {shown(name)} is {'missing' if name in expected else 'unknown'}")
    for name, (dtype, shape) in expected.items():
        entry = entries[name]
        if (entry.dtype, entry.shape) != (dtype, shape):
            raise damaged(f"tensor {shown(name)} is {entry.dtype} {list(entry.shape)}, not {dtype} {list(shape)}")


def _digest(text: bytes, tensors: Tensors) -> str:
    """SHA-256 of the network's JSON text followed by the tensors' data in order of name, as 64 hexadecimal digits."""
    digest = hashlib.sha256(text)
    for name in sorted(tensors):
        digest.update(container.octets(tensors[name]))
    return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file: yields it and its size. Pipes and devices, which could block or never end, are refused."""
    _check_regular(path, path.stat().st_mode)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        _check_regular(path, status.st_mode)
        yield file, status.st_size


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        raise ArtifactError("it is a device, pipe or socket, not a file: give the path of a model file")


def _write(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file atomically: to a temporary file in the same folder, synced, renamed; removed where that fails."""
    if path.exists():
        _check_regular(path, path.stat().st_mode)
    temporary = path.with_name(f".o3bnn-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable, where the system can open folders (not on Windows)."""
    if os.name != "posix":
        return
    with suppress(OSError):  # the file is whole already; not every folder can be opened or synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _place(path: StrPath) -> str:
    """A path as it stands in a message: control characters escaped, the end kept where it is very long."""
    text = repr(os.fspath(path))
    return text if len(text) <= MAX_SHOWN_PATH else f"...{text[-MAX_SHOWN_PATH:]}"


def _reason(error: OSError) -> str:
    """What went wrong and what to do about it."""
    remedies = {
        errno.ENOENT: "check the path",
        errno.EISDIR: "give the path of a file",
        errno.ENOTDIR: "check the path",
        errno.EACCES: "check the permissions",
        errno.EPERM: "check the permissions",
        errno.ELOOP: "check the symbolic links",
        errno.ENAMETOOLONG: "use a shorter path",
        errno.ENOSPC: "free some space",
    }
    remedy = remedies.get(error.errno or 0, "check the path and the disk")
    return f"{error.strerror or type(error).__name__}: {remedy}"

"""The model file: a network saved to a safetensors file, and loaded again without trusting the file.

Packed bits and thresholds are tensors; everything else is one JSON text in the metadata, checked field by field.
`docs/format.md` is the specification, octet by octet. The safetensors package writes and parses the container.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as container_of

from o3bnn.errors import ArtifactError, InvalidNetworkError, os_error_text
from o3bnn.model import description
from o3bnn.model.description import Array, Document, Expected, Tensors
from o3bnn.model.files import check_regular, write_whole
from o3bnn.model.network import Network

FORMAT = "o3bnn"
VERSION = 1
CHECKSUM = "sha256"
DIGEST = ("uint8", (hashlib.sha256().digest_size,))
MAX_HEADER = 4 << 20
MAX_FILE = 1 << 30
LENGTH_SIZE = 8
MAX_SHOWN_PATH = 300
MAX_EXPLAINED = 64
COMPILE = "compile one with `o3bnn compile`"

StrPath = str | os.PathLike[str]
Model = TypeVar("Model", bound=BaseModel)


class _Header(BaseModel):
    """The part of a safetensors header that the package does not hand out for a file in memory."""

    model_config = ConfigDict(strict=True, extra="ignore")

    metadata: dict[str, str] = Field({}, alias="__metadata__")


class _Version(BaseModel):
    """The fields of the document that every version has."""

    model_config = ConfigDict(strict=True, extra="ignore")

    format: str | None = None
    version: int = Field(ge=1)


def save(network: Network, path: StrPath) -> None:
    """Write a network to a model file. The same network gives the same octets, whenever and wherever it is saved.

    The file appears whole or not at all: it is written beside `path` and then renamed onto it, replacing what was
    there (a symbolic link is replaced, not followed).

    Raises:
        ArtifactError: the file cannot be written, or the network holds texts that the format cannot, or one of the
            two is no network or no path.
    """
    if not isinstance(network, Network):
        raise ArtifactError(f"save takes an o3bnn.Network, not {_kind(network)}: o3bnn.compile and o3bnn.load give one")
    file = _checked(path)
    try:
        write_whole(file, encode(network))
    except OSError as error:
        raise ArtifactError(f"cannot write {_place(path)}: {os_error_text(error)}") from error
    except MemoryError as error:
        raise ArtifactError(f"cannot write {_place(path)}: it does not fit in the free memory") from error
    except (ArtifactError, SafetensorError, ValueError) as error:
        raise ArtifactError(f"cannot write {_place(path)}: {_shorten(str(error))}") from error


def load(path: StrPath) -> Network:
    """Read a network from a model file, which may come from anywhere: nothing in it is executed or believed unchecked.

    Raises:
        ArtifactError: the file is missing, damaged, of another format, or written by a newer version of o3bnn.
    """
    source = _checked(path)
    try:
        with _opened(source) as (file, size):
            return _decode(file, size)
    except OSError as error:
        raise ArtifactError(f"cannot read {_place(path)}: {os_error_text(error)}") from error
    except MemoryError as error:
        raise ArtifactError(f"cannot read {_place(path)}: it does not fit in the free memory") from error
    except (ArtifactError, InvalidNetworkError, ValueError) as error:
        raise ArtifactError(f"cannot read {_place(path)}: {_shorten(str(error))}") from error


def encode(network: Network) -> bytes:
    """The octets of a network's file; raises `ArtifactError` for what the format cannot hold."""
    text = _canonical(_describe(network))
    tensors = description.tensors_of(network)
    tensors[CHECKSUM] = _checksum(text, tensors)
    _reserve(3 * (len(text) + sum(array.nbytes for array in tensors.values())))
    octets = container_of(tensors, {FORMAT: text.decode()})
    length = int.from_bytes(octets[:LENGTH_SIZE], "little")
    if length > MAX_HEADER:
        raise ArtifactError(f"its header takes {length} octets, more than {MAX_HEADER}: shorten the metadata")
    if len(octets) > MAX_FILE:
        raise ArtifactError(f"it takes {len(octets)} octets, more than a file's {MAX_FILE}: use a smaller network")
    return octets


def _decode(file: BinaryIO, size: int) -> Network:
    """The network in a file of `size` octets. What the document asks for is bounded before the tensors are read."""
    text, data_size = _read_text(file, size)
    model = _parse(text).network
    parts = description.geometries(model)
    expected = {**description.expected_tensors(model, parts), CHECKSUM: DIGEST}
    wanted = sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in expected.values())
    if wanted != data_size:
        raise _damaged(f"its tensors take {wanted} octets, but {data_size} follow the header")
    file.seek(0)
    tensors = _read_tensors(file, size, expected)
    checksum = tensors.pop(CHECKSUM)
    if not np.array_equal(checksum, _checksum(text.encode(), tensors)):
        raise _damaged("its contents do not match its SHA-256 checksum")
    return description.build(model, parts, tensors)


def _describe(network: Network) -> Document:
    try:
        document = description.describe(network)
    except ValidationError as error:
        raise ArtifactError(_explain(error)) from error
    description.check_positions(document.network)
    return document


def _canonical(document: Document) -> bytes:
    """The one JSON text of a document: sorted keys, no spaces, UTF-8."""
    value = document.model_dump()  # not mode="json", which replaces a surrogate in a key without a word
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArtifactError(f"{text[error.start]!r} in a name or text is not valid Unicode: replace it") from error


def _checksum(text: bytes, tensors: Tensors) -> Array:
    """SHA-256 of the document's text followed by the tensors' data in order of name: uint8 [32]."""
    digest = hashlib.sha256(text)
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).data)
    return np.frombuffer(digest.digest(), np.uint8)


def _read_text(file: BinaryIO, size: int) -> tuple[str, int]:
    """The document's text in the header, and the number of octets that follow the header."""
    if size < LENGTH_SIZE:
        raise _damaged("it is empty" if size == 0 else f"it is only {size} octets long")
    if size > MAX_FILE:
        raise ArtifactError(f"it is {size} octets long, more than the {MAX_FILE} of the largest model: check the path")
    length = int.from_bytes(read_exactly(file, LENGTH_SIZE), "little")
    if length > MAX_HEADER:
        raise _damaged(f"its header would be {length} octets long, more than {MAX_HEADER}")
    if length > size - LENGTH_SIZE:
        raise _damaged(f"it ends within its header ({size} octets, of at least {length + LENGTH_SIZE})")
    metadata = _validate(_Header, read_exactly(file, length), "its header").metadata
    if FORMAT not in metadata:
        raise ArtifactError(f"its metadata has no {FORMAT!r}: it is not an o3bnn model; {COMPILE}")
    for name in sorted(metadata.keys() - {FORMAT}):
        raise _damaged(f"its metadata has an unknown field {_shown(name)}")
    return metadata[FORMAT], size - LENGTH_SIZE - length


def _parse(text: str) -> Document:
    """The document of a text, which must be the canonical one: no key twice, no other spelling of the same value."""
    kind = _validate(_Version, text, "the document")
    if kind.format != FORMAT:
        raise ArtifactError(f"its format is {_shown(kind.format)}, not {FORMAT!r}: it is not an o3bnn model; {COMPILE}")
    if kind.version > VERSION:
        raise ArtifactError(f"its format version {_shown(kind.version)} is newer than {VERSION}: upgrade o3bnn")
    document = _validate(Document, text, "the document")
    if _canonical(document) != text.encode():
        raise _damaged("the document is not in canonical form: a key comes twice, or spaces, order or escapes differ")
    return document


def _read_tensors(file: BinaryIO, size: int, expected: Expected) -> Tensors:
    """The tensors of a file: exactly those that are expected."""
    octets = read_exactly(file, size)
    _reserve(size)
    try:
        tensors = parse_tensors(octets)
    except (SafetensorError, LookupError, ValueError) as error:
        raise _damaged(f"its tensors cannot be read ({_shorten(str(error))})") from error
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise _damaged(f"tensor {_shown(name)} is {'missing' if name in expected else 'unknown'}")
    for name, (dtype, shape) in expected.items():
        array = tensors[name]
        if (array.dtype.name, array.shape) != (dtype, shape):
            raise _damaged(f"tensor {_shown(name)} is {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}")
    return tensors


def _reserve(size: int) -> None:
    """Raise `MemoryError` where `size` octets are not free: the safetensors package would panic, or even abort."""
    bytearray(size)


def read_exactly(file: BinaryIO, size: int) -> bytes:
    """The next `size` octets; raises `ArtifactError` where the file ends before."""
    data = file.read(size)
    if len(data) != size:
        raise _damaged(f"it ended after {len(data)} of {size} octets")
    return data


def _validate(model: type[Model], text: bytes | str, what: str) -> Model:
    """Parse JSON of a strict model; the message names the first wrong field."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise _damaged(f"{what}: {_explain(error)}") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file: yields it and its size. Pipes and devices, which could block or never end, are refused."""
    check_regular(path, path.stat().st_mode)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        check_regular(path, status.st_mode)
        yield file, status.st_size


def _checked(path: StrPath) -> Path:
    """The path; raises `ArtifactError` for anything else, such as an open file."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ArtifactError(f"the path of a model file is a text or a pathlib.Path, not {_kind(path)}")
    return Path(text)


def _kind(value: object) -> str:
    """A value of the wrong type, as it may stand in a message."""
    return f"{_shown(value)} ({type(value).__name__})"


def _place(path: StrPath) -> str:
    """A path as it stands in a message: control characters escaped, the end kept where it is very long."""
    text = repr(os.fspath(path))
    return text if len(text) <= MAX_SHOWN_PATH else f"...{text[-MAX_SHOWN_PATH:]}"


def _damaged(reason: str) -> ArtifactError:
    """The error for a file that no version of o3bnn has written."""
    return ArtifactError(f"{reason}; the file is damaged or not an o3bnn model: copy or compile it again")


def _explain(error: ValidationError) -> str:
    """The first of pydantic's complaints, as one short line."""
    if error.error_count() > MAX_EXPLAINED:
        return f"{error.error_count()} fields are wrong"
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = f"{_shown(place)}: {first['msg']}" if place else first["msg"]
    return message if isinstance(first["input"], dict | list | bytes) else f"{message}, not {_shown(first['input'])}"


def _shown(value: object) -> str:
    """A value as it may stand in a message: short, printable, ASCII."""
    return _shorten(ascii(value[:200] if isinstance(value, str) else value), 80)


def _shorten(text: str, length: int = 400) -> str:
    """One printable line of about `length` characters at most: what comes from a file may hold control characters."""
    cut = text if len(text) <= length else text[: length - 3] + "..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)

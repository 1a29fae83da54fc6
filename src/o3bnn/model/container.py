"""The safetensors container, written with the same bytes every time and read without trusting them.

A file is the length of its header (8 octets, little-endian), the header (JSON), and the tensors' data without a gap.
The safetensors package is not used, for two reasons given in `docs/format.md`, which is the specification.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from o3bnn.errors import ArtifactError

MAX_HEADER = 4 << 20
MAX_FILE = 1 << 30
MAX_DIMENSIONS = 8
MAX_EXPLAINED = 64
LENGTH_SIZE = 8

Array = npt.NDArray[Any]
Tensors = dict[str, Array]
Dtype = Literal["F32", "I16", "I32", "U64", "U8"]
DTYPES: Mapping[Dtype, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "U8": np.dtype("u1"),
}
Extent = Annotated[int, Field(ge=0, le=MAX_FILE)]
Value = TypeVar("Value")


class Strict(BaseModel):
    """Base of everything read from JSON: no conversions, no unknown fields, immutable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class TensorEntry(Strict):
    """One tensor in the header: data_offsets (begin, end) count octets from the end of the header."""

    dtype: Dtype
    shape: Annotated[tuple[Extent, ...], Field(strict=False, max_length=MAX_DIMENSIONS)]
    data_offsets: Annotated[tuple[Extent, Extent], Field(strict=False)]

    @property
    def size(self) -> int:
        """Octets that the shape and type ask for."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


_METADATA = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))
_ENTRIES = TypeAdapter(dict[str, TensorEntry])


@dataclass(frozen=True)
class Header:
    """A header as it was parsed; only the metadata is checked yet.

    data_start: offset of the tensors' data from the file's start. data_size: octets from there to the file's end.
    """

    metadata: dict[str, str]
    value: dict[str, object]
    data_start: int
    data_size: int

    def entries(self) -> dict[str, TensorEntry]:
        """Every tensor's entry, checked: they fill the rest of the file exactly.

        Raises:
            ArtifactError: an entry is malformed, or tensors overlap, leave a gap or end beside the file's end.
        """
        entries = validate(_ENTRIES, self.value, "the list of tensors")
        _check_layout(entries, self.data_size)
        return entries


def damaged(reason: str) -> ArtifactError:
    """The error for a file that no version of o3bnn has written."""
    return ArtifactError(f"{reason}; the file is damaged or not an o3bnn model: copy or compile it again")


def encode(metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    """The file's octets, in pieces. Tensors lie in order of falling item size, then of name, so that all are aligned.

    Raises:
        ArtifactError: text that is not valid Unicode, or more than `MAX_HEADER` of header or `MAX_FILE` in all.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    names = {dtype: key for key, dtype in DTYPES.items()}
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        array = tensors[name]
        begin, end = end, end + array.nbytes
        dtype = names[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = canonical_json(header)
    text += b" " * (-len(text) % LENGTH_SIZE)
    if len(text) > MAX_HEADER:
        raise ArtifactError(f"its texts take {len(text)} octets, more than {MAX_HEADER}: shorten the metadata")
    if LENGTH_SIZE + len(text) + end > MAX_FILE:
        raise ArtifactError(
            f"its tensors take {end} octets, more than a file of {MAX_FILE} holds: use a smaller network"
        )
    yield len(text).to_bytes(LENGTH_SIZE, "little")
    yield text
    for name in order:
        yield octets(tensors[name])


def octets(array: Array) -> memoryview:
    """An array's elements in row-major order, little-endian, as octets."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data


def canonical_json(value: object) -> bytes:
    """The one JSON text of a value that this project writes: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArtifactError(f"{text[error.start]!r} in a name or text is not valid Unicode: replace it") from error


def read_header(file: BinaryIO, size: int) -> Header:
    """Read the header of a file of `size` octets; refuses before it reads what no model file can be.

    Raises:
        ArtifactError: not a safetensors file.
    """
    if size < LENGTH_SIZE:
        raise damaged("it is empty" if size == 0 else f"it is only {size} octets long")
    if size > MAX_FILE:
        raise ArtifactError(f"it is {size} octets long, more than the {MAX_FILE} of the largest model: check the path")
    length = int.from_bytes(read_exactly(file, LENGTH_SIZE), "little")
    if length > MAX_HEADER:
        raise damaged(f"its header would be {length} octets long, more than {MAX_HEADER}")
    if length > size - LENGTH_SIZE:
        raise damaged(f"it ends within its header ({size} octets, of at least {length + LENGTH_SIZE})")
    value = parse_json(read_exactly(file, length), "its header")
    if not isinstance(value, dict):
        raise damaged("its header is not a JSON object")
    metadata = validate(_METADATA, value.pop("__metadata__", {}), "the metadata")
    return Header(metadata, value, LENGTH_SIZE + length, size - LENGTH_SIZE - length)


def _check_layout(entries: Mapping[str, TensorEntry], data_size: int) -> None:
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        if begin != position or end - begin != entry.size:
            raise damaged(
                f"tensor {shown(name)} of {entry.dtype} {list(entry.shape)} lies at octets {begin}..{end} of the data, "
                f"not at {position}..{position + entry.size}"
            )
        position = end
    if position != data_size:
        raise damaged(f"its tensors take {position} octets, but {data_size} follow the header")


def read_tensor(file: BinaryIO, data_start: int, entry: TensorEntry) -> Array:
    """Read one tensor into a new array in the machine's byte order."""
    file.seek(data_start + entry.data_offsets[0])
    data = read_exactly(file, entry.size)
    array = np.frombuffer(data, DTYPES[entry.dtype]).reshape(entry.shape)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_exactly(file: BinaryIO, size: int) -> bytes:
    """Read `size` octets, or raise an `ArtifactError` where the file ends before."""
    data = file.read(size)
    if len(data) != size:
        raise damaged(f"it ended after {len(data)} of {size} octets")
    return data


def parse_json(text: bytes | str, what: str) -> object:
    """Parse JSON; duplicate keys, deep nesting, NaN and invalid UTF-8 are errors."""
    try:
        from_json(text, allow_inf_nan=False)  # bounds the depth, whatever the interpreter's recursion limit is
        value: object = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{what} is not valid JSON ({shorten(str(error))})") from error
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"duplicate key {shown(counts.most_common(1)[0][0])}")
    return value


def validate(adapter: TypeAdapter[Value], value: object, what: str) -> Value:
    """Check a parsed JSON value against a strict model; the message names the first wrong field."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise damaged(f"{what}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """The first of pydantic's complaints, as one short line."""
    if error.error_count() > MAX_EXPLAINED:
        return f"{error.error_count()} fields are wrong"
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{shown(place)}: {first['msg']}, not {shown(first['input'])}" if place else f"{first['msg']}"


def shown(value: object) -> str:
    """A value as it may stand in a message: short, printable, ASCII."""
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, str):
        return shorten(ascii(value[:200]), 80)
    return shorten(ascii(value), 80)


def shorten(text: str, length: int = 400) -> str:
    """One printable line of about `length` characters at most: what comes from a file may hold control characters."""
    cut = text if len(text) <= length else text[: length - 3] + "..."
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)

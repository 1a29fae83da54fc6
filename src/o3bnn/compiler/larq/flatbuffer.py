"""A reader of FlatBuffers that trusts nothing: every offset is checked against the file.

A table starts with a signed offset back to its vtable, which lists where each field is (0: absent). Vectors, strings
and tables are reached by unsigned offsets from where these stand; vectors and strings start with their length.
"""

import struct

import numpy as np
import numpy.typing as npt

from o3bnn.errors import UnsupportedGraphError

MAX_LENGTH = 1 << 28


class Table:
    """One table of a FlatBuffer; fields are numbered as in its schema."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data, self._position = data, position
        vtable = position - _number(data, position, "<i")
        size = _number(data, vtable, "<H")
        fields = range(vtable + 4, vtable + max(4, size), 2)
        self._fields = [_number(data, place, "<H") for place in fields]

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> "Table":
        """The root table of a file with this identifier."""
        if data[4:8] != identifier:
            raise UnsupportedGraphError(f"it is not a file of type {identifier.decode()}, or damaged")
        return cls(data, _number(data, 0, "<I"))

    def integer(self, field: int, layout: str, default: int = 0) -> int:
        """A scalar field; layout as in `struct`."""
        place = self._place(field)
        return default if place is None else _number(self._data, place, f"<{layout}")

    def table(self, field: int) -> "Table | None":
        place = self._target(field)
        return None if place is None else Table(self._data, place)

    def octets(self, field: int) -> bytes:
        """A vector of bytes, or a string; empty where it is absent."""
        start, length = self._vector(field, 1)
        return self._data[start : start + length]

    def text(self, field: int) -> str:
        return self.octets(field).decode(errors="replace")

    def integers(self, field: int) -> npt.NDArray[np.int64]:
        """A vector of 32-bit integers, as int64; empty where it is absent."""
        start, length = self._vector(field, 4)
        return np.frombuffer(self._data, "<i4", length, start).astype(np.int64)

    def tables(self, field: int) -> list["Table"]:
        """A vector of tables; empty where it is absent."""
        start, length = self._vector(field, 4)
        places = (start + 4 * index for index in range(length))
        return [Table(self._data, place + _number(self._data, place, "<I")) for place in places]

    def _place(self, field: int) -> int | None:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._position + offset if offset else None

    def _target(self, field: int) -> int | None:
        place = self._place(field)
        return None if place is None else place + _number(self._data, place, "<I")

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Where the elements start, and how many there are."""
        place = self._target(field)
        if place is None:
            return 0, 0
        length = _number(self._data, place, "<I")
        if length > MAX_LENGTH or place + 4 + length * size > len(self._data):
            raise UnsupportedGraphError("the file is damaged: a vector reaches beyond its end")
        return place + 4, length


def _number(data: bytes, place: int, layout: str) -> int:
    try:
        if place < 0:
            raise struct.error
        return int(struct.unpack_from(layout, data, place)[0])
    except struct.error as error:
        raise UnsupportedGraphError("the file is damaged: an offset points outside of it") from error

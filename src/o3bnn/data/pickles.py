"""Read the plain data in a pickle file without unpickling it.

Unpickling runs whatever a file asks for, and even a restricted `Unpickler` lets it fill the memory. CIFAR-10's python
layout needs very little: dicts, lists, tuples, text, bytes, integers and NumPy arrays of numbers. So this module takes
the opcodes apart with `pickletools.genops` (which only parses) and interprets these few itself. No global is ever
imported: the few that such files name are stand-ins of this module. Source: the opcode table in CPython's
Lib/pickletools.py.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from o3bnn.errors import DataError

MAX_BYTES = 1 << 27  # an official batch has 31 MB


@dataclass
class PlainArray:
    """An array of numbers as a pickle describes it. kind: a type string such as `u1`."""

    kind: str = ""
    shape: tuple[int, ...] = ()
    content: bytes = field(default=b"", repr=False)
    fortran: bool = False

    def to_numpy(self) -> npt.NDArray[np.uint8]:
        """The elements of an array of kind `u1`: uint8 [*shape]."""
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order="F" if self.fortran else "C")


@dataclass(frozen=True)
class _Kind:
    """Stand-in for a NumPy dtype."""

    code: str


@dataclass(frozen=True)
class _Global:
    """Stand-in for a named global: what a call of it does here, or None where it may only be mentioned."""

    call: Callable[..., object] | None = None


def read_plain_pickle(path: Path) -> object:
    """The dicts, lists, tuples, str, bytes, int and `PlainArray` in a pickle file; raises `DataError` on all else."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES >> 20} MiB: this is not a batch of CIFAR-10")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            machine.step(opcode.name, argument)
        return machine.pop()
    except _RefusedError as refused:
        raise DataError(f"{path}: {refused}; only plain data is read from a pickle") from None
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError) as error:
        raise DataError(f"{path} is not a pickle, or a damaged one: {error}") from error


class _RefusedError(Exception):
    """A pickle that asks for more than plain data."""


class _Machine:
    """The pickle machine's stack, marks and memo, for the opcodes of plain data."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        action = _ACTIONS.get(name)
        if action is None:
            raise _RefusedError(f"its opcode {name} is refused")
        action(self, argument)

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        return self.stack.pop()

    def push_text_as_bytes(self, text: object) -> None:
        """Python 2 wrote byte strings; pickletools shows them as latin-1 text."""
        self.push(_text(text).encode("latin1"))

    def push_tuple(self, size: int) -> None:
        items = tuple(self.stack[len(self.stack) - size :])
        if len(items) != size:
            raise IndexError("the stack is empty")
        del self.stack[len(self.stack) - size :]
        self.push(items)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[object]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def append(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("items for something that is not a list")
        target.extend(items)

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or not all(isinstance(key, str | bytes) for key in items[::2]):
            raise TypeError("items for something that is not a dict of names")
        target.update(zip(items[::2], items[1::2], strict=True))

    def find(self, module: object, name: object) -> None:
        full_name = f"{module}.{name}"
        if full_name not in _GLOBALS:
            raise _RefusedError(f"it asks for {full_name!r}")
        self.push(_GLOBALS[full_name])

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or function.call is None or not isinstance(arguments, tuple):
            raise _RefusedError("it calls something")
        self.push(function.call(*arguments))

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, PlainArray):
            _fill(target, state)
        elif not isinstance(target, _Kind):
            raise _RefusedError("it sets the state of something")


def _text(value: object) -> str:
    """Text that Python 2 may have written as bytes."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise TypeError("text expected")
    return value


def _encode(text: object, encoding: object) -> bytes:
    """`_codecs.encode`, as Python 3 writes bytes in the older protocols."""
    if encoding != "latin1":
        raise _RefusedError(f"it asks for the codec {encoding!r}")
    return _text(text).encode("latin1")


def _kind(code: object, *_: object) -> _Kind:
    return _Kind(_text(code))


def _empty_array(*_: object) -> PlainArray:
    return PlainArray()


def _fill(array: PlainArray, state: object) -> None:
    """ndarray.__setstate__: (version, shape, dtype, is_fortran, content)."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise TypeError("an array's state is not five values")
    _, shape, kind, fortran, content = state
    filled = _from_buffer(content, kind, shape, "F" if fortran else "C")
    array.kind, array.shape, array.content, array.fortran = filled.kind, filled.shape, filled.content, filled.fortran


def _from_buffer(content: object, kind: object, shape: object, order: object) -> PlainArray:
    """`numpy._core.numeric._frombuffer`, as NumPy 2 writes arrays in protocol 5."""
    if not isinstance(kind, _Kind) or not isinstance(content, bytes | bytearray) or not isinstance(shape, tuple):
        raise TypeError("an array without type, content or shape")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise TypeError("an array's shape is not of integers")
    array = PlainArray(kind.code, shape, bytes(content), order == "F")
    if array.kind == "u1" and len(array.content) != int(np.prod([float(side) for side in shape])):
        raise ValueError(f"an array of {list(shape)} with {len(array.content)} bytes")
    return array


_NUMPY = ("numpy.core", "numpy._core")
_GLOBALS = MappingProxyType(
    {
        "_codecs.encode": _Global(_encode),
        "numpy.ndarray": _Global(),
        "numpy.dtype": _Global(_kind),
        **{f"{package}.multiarray._reconstruct": _Global(_empty_array) for package in _NUMPY},
        **{f"{package}.numeric._frombuffer": _Global(_from_buffer) for package in _NUMPY},
    }
)

_Action = Callable[[_Machine, object], None]


def _remember(machine: _Machine, index: object) -> None:
    machine.memo[int(str(index))] = machine.stack[-1]


def _pushes(make: Callable[[], object]) -> _Action:
    return lambda machine, _: machine.push(make())


_ACTIONS: MappingProxyType[str, _Action] = MappingProxyType(
    {
        **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, argument: None),
        **dict.fromkeys(
            (
                *("BININT", "BININT1", "BININT2", "LONG1"),
                *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
                *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
            ),
            _Machine.push,
        ),
        **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _Machine.push_text_as_bytes),
        **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _remember),
        **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[int(str(index))])),
        "MEMOIZE": lambda machine, _: _remember(machine, len(machine.memo)),
        "NONE": _pushes(lambda: None),
        "NEWTRUE": _pushes(lambda: True),
        "NEWFALSE": _pushes(lambda: False),
        "EMPTY_DICT": _pushes(dict),
        "EMPTY_LIST": _pushes(list),
        "EMPTY_TUPLE": _pushes(tuple),
        "TUPLE1": lambda machine, _: machine.push_tuple(1),
        "TUPLE2": lambda machine, _: machine.push_tuple(2),
        "TUPLE3": lambda machine, _: machine.push_tuple(3),
        "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
        "MARK": lambda machine, _: machine.mark(),
        "APPEND": lambda machine, _: machine.append([machine.pop()]),
        "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
        "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
        "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
        "GLOBAL": lambda machine, names: machine.find(*str(names).split(" ", 1)),
        "STACK_GLOBAL": lambda machine, _: machine.find(*[machine.pop(), machine.pop()][::-1]),
        "REDUCE": lambda machine, _: machine.reduce(),
        "BUILD": lambda machine, _: machine.build(),
    }
)

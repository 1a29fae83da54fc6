"""Pickles are taken apart, never executed."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from o3bnn.data import open_dataset
from o3bnn.data.pickles import PlainArray, read_plain_pickle
from o3bnn.errors import DataError
from tests.data import layouts


def read(tmp_path: Path, content: bytes) -> object:
    (tmp_path / "p").write_bytes(content)
    return read_plain_pickle(tmp_path / "p")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data(tmp_path: Path, protocol: int) -> None:
    numbers = [1, -5, 70000, 300, 1 << 40, None, True]
    plain = {"text": "é", b"bytes": b"\xff\0", "list": numbers, "tuples": ((), (1,), (1, 2, 3, 4))}
    assert read(tmp_path, pickle.dumps(plain, protocol)) == plain


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(tmp_path: Path, protocol: int, order: str) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(3, 4).copy(order=order)  # type: ignore[call-overload]
    read_back = read(tmp_path, pickle.dumps(array, protocol))
    assert isinstance(read_back, PlainArray)
    assert np.array_equal(read_back.to_numpy(), array)


class Evil:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "call", [(print, "run"), (eval, "1"), (getattr, 1, "real"), (np.load, "x"), (np.zeros, 9), (bytearray, 1 << 60)]
)
def test_nothing_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], protocol: int, call: tuple[object]
) -> None:
    with pytest.raises(DataError, match="only plain data is read from a pickle"):
        read(tmp_path, pickle.dumps({"a": Evil(*call)}, protocol))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cposix\nsystem\nU\x04true\x85R.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
        b"\x80\x02(S'x'\nios\nsystem\n.",  # INST
        b"\x80\x02cnumpy\nndarray\n)R.",  # may be mentioned, not called
        b"\x80\x02cnumpy\nndarray\n}b.",  # nor changed
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00bz2\x86R.",
        b"\x80\x02Pid\n.",  # persistent id
        b"\x80\x02\x82\x01.",  # extension registry
        b"\x80\x02]N\x81.",  # NEWOBJ
    ],
)
def test_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="only plain data is read from a pickle"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x02",
        b"no pickle",
        b"\x80\x02}N",
        b"\x80\x02e.",
        b"\x80\x02(u.",
        b"\x80\x02}(K\x01K\x02u.",  # a key that is not text
        b"\x80\x02}(U\x01au.",  # a key without a value
        b"\x80\x02h\x07.",  # nothing remembered as 7
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02N\x87.",
        b"\x80\x02NNa.",
        b"\x80\x05\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"x.",
        b"\x80\x02T\xff\xff\xff\x7fx.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"N.",
    ],
)
def test_damaged(tmp_path: Path, content: bytes) -> None:
    if content.startswith(b"\x80\x04\x95"):
        assert read(tmp_path, content) is None  # frames are of no meaning here
        return
    with pytest.raises(DataError, match="is not a pickle, or a damaged one"):
        read(tmp_path, content)


def batch(**changes: object) -> bytes:
    content: dict[object, object] = {"labels": [1, 2], "data": np.zeros((2, 3072), np.uint8)}
    return pickle.dumps(content | changes, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1]), "`data` is not a uint8 array"),
        (batch(data=None), "`data` is not a uint8 array"),
        (batch(data=np.zeros((2, 3072), np.int64)), "`data` is not a uint8 array"),
        (batch(data=np.zeros((2, 3071), np.uint8)), r"`data` is not a uint8 array \[n, 3072\]"),
        (batch(labels=None), "`labels` is not a list of small integers"),
        (batch(labels=[1, True]), "`labels` is not a list of small integers"),
        (batch(labels=[1, 1 << 70]), "`labels` is not a list of small integers"),
        (batch(labels=[1]), "2 images, but 1 labels"),
        (batch().replace(b"M\x00\x0c", b"M\x00\x0d"), "damaged"),
    ],
)
def test_a_pickle_that_is_no_batch(tmp_path: Path, content: bytes, message: str) -> None:
    (layouts.write_cifar_python(tmp_path) / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_dataset(f"cifar10:{tmp_path}")


def test_every_prefix_and_flipped_octet_is_read_or_refused(tmp_path: Path) -> None:
    whole = layouts.python2_pickle([3, 4], np.zeros((2, 8), np.uint8))
    for index in range(len(whole)):
        for content in (whole[:index], whole[:index] + bytes([whole[index] ^ 0x21]) + whole[index + 1 :]):
            try:
                read(tmp_path, content)
            except DataError as error:
                assert str(tmp_path) in str(error)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "p").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="more than 128 MiB"):
        read_plain_pickle(tmp_path / "p")

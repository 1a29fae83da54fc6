"""Tiny data sets in the layouts of the official ones."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

STEMS = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def cifar(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images, uint8 [count, 32, 32, 3], and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, count)


def planes(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))


def write_cifar_binary(root: Path, count: int = 5) -> Path:
    """Six files of `count` images; file i is `cifar(i, count)`."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for index, stem in enumerate(STEMS):
        images, labels = cifar(index, count)
        records = np.concatenate([labels[:, None].astype(np.uint8), planes(images)], axis=1)
        (folder / f"{stem}.bin").write_bytes(records.tobytes())
    return folder


def write_cifar_python(root: Path, protocol: int = 2, count: int = 5) -> Path:
    """The same images as Python 3 pickles them, or, as protocol 0, as Python 2 did in the official files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for index, stem in enumerate(STEMS):
        images, labels = cifar(index, count)
        if protocol:
            batch = {b"batch_label": b"a batch", b"labels": labels.tolist(), b"data": planes(images)}
            content = pickle.dumps(batch | {b"filenames": [b"x"] * count}, protocol)
        else:
            content = python2_pickle(labels.tolist(), planes(images))
        (folder / stem).write_bytes(content)
    return folder


def python2_pickle(labels: list[int], data: np.ndarray) -> bytes:
    """A batch as cPickle of Python 2 wrote it in protocol 2: the opcodes of the official files, in their order."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    def int16(value: int) -> bytes:
        return b"M" + struct.pack("<H", value)

    listed = b"".join(b"K" + bytes([label]) for label in labels)
    dtype = b"cnumpy\ndtype\nq\x09" + short(b"u1") + b"K\x00K\x01\x87Rq\x0a"
    dtype += b"(K\x03" + short(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    content = data.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07K\x00\x85" + short(b"b") + b"\x87Rq\x08"
    array += b"(K\x01" + int16(data.shape[0]) + int16(data.shape[1]) + b"\x86" + dtype
    array += b"\x89T" + struct.pack("<I", len(content)) + content + b"tb"
    return (
        b"\x80\x02}q\x01("
        + (short(b"batch_label") + short(b"testing batch 1 of 1"))
        + (short(b"labels") + b"q\x04]r\x05\x00\x00\x00(" + listed + b"e")
        + (short(b"data") + array)
        + (short(b"filenames") + b"]q\x0b(" + short(b"a.png") + short(b"b.png") + b"e")
        + b"u."
    )


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def mnist(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count)


def write_mnist(root: Path, *, count: int = 7, zipped: bool = True, dot: bool = False) -> Path:
    """Train is `mnist(0, count)`, test is `mnist(1, count)`."""
    root.mkdir(parents=True, exist_ok=True)
    for seed, prefix in enumerate(("train", "t10k")):
        images, labels = mnist(seed, count)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            file = f"{prefix}-{name}-ubyte".replace("-idx", ".idx" if dot else "-idx")
            content = idx(array)
            (root / (file + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)
    return root


def write_folder(root: Path, counts: dict[str, int], size: tuple[int, int] = (9, 8)) -> Path:
    """One folder a class of PNG files; image i of a class is filled with its index there."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(np.full((*size, 3), index, np.uint8)).save(root / name / f"{index:03d}.png")
    return root

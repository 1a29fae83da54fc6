"""Every layout of every data set gives the same images and labels in the same order, and every damage one error."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from o3bnn.data import Dataset, open_dataset
from o3bnn.errors import DataError, InputError
from o3bnn.model import InputEncoding
from tests.data import layouts

SHARED = Path(__file__).parents[3] / "shared" / "data"


def check(dataset: Dataset, images: np.ndarray, labels: np.ndarray) -> None:
    assert len(dataset) == len(images)
    for size in (1, 3, 4, 100):
        batches = list(dataset.batches(size))
        assert [len(batch.images) for batch in batches[:-1]] == [size] * (len(batches) - 1)
        assert all(batch.images.dtype == np.uint8 and batch.labels.dtype == np.int64 for batch in batches)
        assert np.array_equal(np.concatenate([batch.images for batch in batches]), images)
        assert np.array_equal(np.concatenate([batch.labels for batch in batches]), labels)
    assert np.array_equal(dataset.load().images, images)
    assert np.array_equal(dataset.load().labels, labels)


# ---- CIFAR-10


@pytest.mark.parametrize("protocol", [None, 0, 2, 3, 4, 5])
@pytest.mark.parametrize("parent", [True, False])
def test_cifar10(tmp_path: Path, protocol: int | None, parent: bool) -> None:
    binary = protocol is None
    folder = layouts.write_cifar_binary(tmp_path) if binary else layouts.write_cifar_python(tmp_path, protocol)
    spec = f"cifar10:{folder.parent if parent else folder}"
    test = open_dataset(spec)
    assert test.class_names[0] == "airplane" and test.class_names[9] == "truck"
    assert (test.name, test.split, test.shape) == (f"cifar10:{spec[8:]}", "test", (32, 32, 3))
    check(test, *layouts.cifar(5, 5))
    parts = [layouts.cifar(index, 5) for index in range(5)]
    images, labels = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    check(open_dataset(spec, "train"), images, labels)
    check(open_dataset(spec, "train", limit=7), images[:7], labels[:7])
    check(open_dataset(spec, "train", limit=99), images, labels)


def test_cifar10_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither cifar-10-batches-bin \(data_batch_1\.bin"):
        open_dataset(f"cifar10:{tmp_path}")
    folder = layouts.write_cifar_binary(tmp_path)
    (folder / "data_batch_2.bin").unlink()
    (folder / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"lacks data_batch_2\.bin, data_batch_4\.bin"):
        open_dataset(f"cifar10:{tmp_path}", "train")
    assert len(open_dataset(f"cifar10:{tmp_path}", "test")) == 5


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 5 * 3073 - 1])
def test_cifar10_truncated_binary_file(tmp_path: Path, size: int) -> None:
    path = layouts.write_cifar_binary(tmp_path) / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:size].ljust(size, b"\0"))
    with pytest.raises(DataError, match=rf"test_batch\.bin has {size} bytes, not a multiple of 3073"):
        open_dataset(f"cifar10:{tmp_path}")


def test_cifar10_label_out_of_range(tmp_path: Path) -> None:
    path = layouts.write_cifar_binary(tmp_path) / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"test_batch\.bin: label 10 is outside 0\.\.9"):
        open_dataset(f"cifar10:{tmp_path}").load()


def test_cifar10_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = layouts.write_cifar_binary(tmp_path) / "test_batch.bin"
    dataset = open_dataset(f"cifar10:{tmp_path}")
    path.write_bytes(path.read_bytes()[:3073])
    with pytest.raises(DataError, match="became shorter"):
        dataset.load()


# ---- MNIST


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dot", [True, False])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_mnist(tmp_path: Path, zipped: bool, dot: bool, below: str) -> None:
    layouts.write_mnist(tmp_path / below, zipped=zipped, dot=dot)
    for seed, split in enumerate(("train", "test")):
        images, labels = layouts.mnist(seed, 7)
        check(open_dataset(f"mnist:{tmp_path}", split), images[..., None], labels)  # type: ignore[arg-type]
    check(open_dataset(f"mnist:{tmp_path}", limit=4), images[:4, ..., None], labels[:4])


def test_mnist_compression_is_told_by_content(tmp_path: Path) -> None:
    layouts.write_mnist(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_suffix(""))
    assert len(open_dataset(f"mnist:{tmp_path}").load().labels) == 7


def test_mnist_missing_file_is_named(tmp_path: Path) -> None:
    layouts.write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="has no t10k-labels-idx1-ubyte"):
        open_dataset(f"mnist:{tmp_path}")


def idx_files(tmp_path: Path, images: bytes, labels: bytes) -> str:
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    return f"mnist:{tmp_path}"


IMAGES, LABELS = layouts.idx(np.zeros((3, 28, 28))), layouts.idx(np.arange(3))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", LABELS, "images-idx3-ubyte is not an IDX file"),
        (IMAGES[:10], LABELS, "images-idx3-ubyte ends too early"),
        (LABELS, LABELS, "is not an IDX file of unsigned bytes with 3 dimensions"),
        (b"\0\0\x0d\x03" + IMAGES[4:], LABELS, "not an IDX file of unsigned bytes"),
        (IMAGES[:-1], LABELS, "images-idx3-ubyte ends too early"),
        (IMAGES + b"\0", LABELS, "goes on after the 3 items"),
        (IMAGES, LABELS[:-1], "labels-idx1-ubyte ends too early"),
        (IMAGES, LABELS + b"\0", "labels-idx1-ubyte goes on"),
        (IMAGES, layouts.idx(np.arange(4)), "holds 3 images, but .* holds 4 labels"),
        (IMAGES, layouts.idx(np.array([1, 2, 10])), "label 10 is outside"),
        (layouts.idx(np.zeros((3, 28, 27))), LABELS, r"holds items of \[28, 27\], not of \[28, 28\]"),
        (layouts.idx(np.zeros((0, 28, 28))), layouts.idx(np.zeros(0)), "holds no images"),
        (struct.pack(">IIII", 0x803, 1 << 31, 28, 28), LABELS, "promises 2147483648 items"),
        (gzip.compress(IMAGES, mtime=0)[:-9], LABELS, "images-idx3-ubyte cannot be read"),
        (gzip.compress(IMAGES, mtime=0)[:-8] + b"12345678", LABELS, "images-idx3-ubyte cannot be read"),
        (b"\x1f\x8b" + b"\xff" * 40, LABELS, "images-idx3-ubyte cannot be read"),
    ],
)
def test_mnist_damaged(tmp_path: Path, images: bytes, labels: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(idx_files(tmp_path, images, labels)).load()


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(IMAGES + bytes(1 << 28), 1)
    dataset = open_dataset(idx_files(tmp_path, bomb, LABELS))
    assert len(dataset) == 3
    with pytest.raises(DataError, match="goes on after the 3 items that its header promises"):
        dataset.load()
    assert len(open_dataset(f"mnist:{tmp_path}", limit=2).load().images) == 2


def test_fixed_sizes_must_fit_the_network(tmp_path: Path) -> None:
    layouts.write_mnist(tmp_path)
    assert open_dataset(f"mnist:{tmp_path}", input=InputEncoding(28, 28, 1)).shape == (28, 28, 1)
    with pytest.raises(DataError, match="images are 28 x 28 x 1, but the network reads 32 x 32 x 3"):
        open_dataset(f"mnist:{tmp_path}", input=InputEncoding(32, 32, 3))


# ---- class folders

ENCODING = InputEncoding(4, 5, 3)


def values(dataset: Dataset) -> list[tuple[int, int]]:
    """(label, index of the image within its class) of every image, in order."""
    images, labels = dataset.load()
    assert images.shape[1:] == ENCODING.shape
    assert np.all(images == images[:, :1, :1, :1])
    return [(int(label), int(image[0, 0, 0])) for image, label in zip(images, labels, strict=True)]


def test_class_folders_take_turns(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path, {"cat": 3, "ant": 1, "bee": 2, "void": 0, ".cache": 4})
    dataset = open_dataset(f"folder:{tmp_path}", input=ENCODING)
    assert dataset.class_names == ("ant", "bee", "cat", "void")
    expected = [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2)]
    assert values(dataset) == expected
    limited = open_dataset(f"folder:{tmp_path}", limit=4, input=ENCODING)
    assert len(limited) == 4
    assert values(limited) == expected[:4]
    assert [len(batch.labels) for batch in dataset.batches(4)] == [4, 2]


def test_split_folders(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "train", {"a": 3})
    layouts.write_folder(tmp_path / "val", {"a": 2})
    assert len(open_dataset(f"folder:{tmp_path}", "train", input=ENCODING)) == 3
    assert len(open_dataset(f"folder:{tmp_path}", "test", input=ENCODING)) == 2
    layouts.write_folder(tmp_path / "test", {"a": 1})
    assert len(open_dataset(f"folder:{tmp_path}", "test", input=ENCODING)) == 1


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "train", {"a": 3})
    with pytest.raises(DataError, match="holds train, but no test or val for the test split"):
        open_dataset(f"folder:{tmp_path}", "test", input=ENCODING)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path, {"bus": 1, "train": 1})
    assert open_dataset(f"folder:{tmp_path}", input=ENCODING).class_names == ("bus", "train")


def test_bad_class_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no class folders"):
        open_dataset(f"folder:{tmp_path}", input=ENCODING)
    layouts.write_folder(tmp_path, {"a": 0, "b": 0})
    with pytest.raises(DataError, match=r"the 2 class folders in .* hold no image files"):
        open_dataset(f"folder:{tmp_path}", input=ENCODING)
    (tmp_path / "a" / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.jpg is not an image"):
        open_dataset(f"folder:{tmp_path}", input=ENCODING).load()
    with pytest.raises(InputError, match="give the network's input"):
        open_dataset(f"folder:{tmp_path}")


# ---- all


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mnist", "use one of cifar10:DIR, mnist:DIR, folder:DIR"),
        ("mnist:", "is not a data set"),
        (":x", "is not a data set"),
        ("imagenet:/tmp", "'imagenet:/tmp' is not a data set"),
        ("mnist:/nowhere/at/all", "/nowhere/at/all is not a folder: mnist:DIR needs the four IDX files"),
    ],
)
def test_bad_names(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(spec)


def test_bad_arguments(tmp_path: Path) -> None:
    layouts.write_mnist(tmp_path)
    with pytest.raises(InputError, match="limit of 0"):
        open_dataset(f"mnist:{tmp_path}", limit=0)
    with pytest.raises(DataError, match="'val' is not a split"):
        open_dataset(f"mnist:{tmp_path}", "val")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch of 0"):
        open_dataset(f"mnist:{tmp_path}").batches(0)


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    layouts.write_mnist(tmp_path / "digits")
    assert len(open_dataset("mnist:~/digits")) == 7


def test_the_real_mnist() -> None:
    if not (SHARED / "mnist").is_dir():
        pytest.skip("the shared MNIST is not here")
    dataset = open_dataset(f"mnist:{SHARED / 'mnist'}", limit=10)
    images, labels = dataset.load()
    assert labels.tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert int(images[0].sum()) == 18454
    assert len(open_dataset(f"mnist:{SHARED / 'mnist'}", "train")) == 60000

"""`o3bnn eval` counts right answers exactly."""

from pathlib import Path

import numpy as np
import pytest

from o3bnn.cli.eval import class_indices
from o3bnn.data import open_dataset
from o3bnn.errors import DataError
from o3bnn.model import InputEncoding, reference
from o3bnn.model.artifact import save
from tests.cli.helpers import DIGITS, digits, error_line, run, run_json, run_ok, tiny_network
from tests.data import layouts


def correct(images: np.ndarray, labels: np.ndarray, **options: tuple[str, ...]) -> int:
    return int((reference.run(tiny_network(**options), images).classes == labels).sum())


@pytest.mark.parametrize("batch", [1, 5, 256])
def test_accuracy_is_that_of_the_reference(model: Path, mnist: Path, batch: int) -> None:
    document = run_json("eval", model, "--data", f"mnist:{mnist}", "--batch", batch, "--threads", 1)
    expected = correct(digits(mnist), layouts.mnist(1, 23)[1])
    assert document.pop("seconds") > 0
    assert document.pop("images_per_second") > 0
    assert document.pop("isa")
    assert document == {
        "model": str(model),
        "data": f"mnist:{mnist}",
        "split": "test",
        "images": 23,
        "correct": expected,
        "accuracy": expected / 23,
        "accuracy_path": "engine",
        "speed_scope": "end-to-end",
        "batch": batch,
        "threads": 1,
        "pruning": "auto",
        "planned": False,
    }


def test_split_and_limit(model: Path, mnist: Path) -> None:
    document = run_json("eval", model, "--data", f"mnist:{mnist}", "--split", "train", "--limit", 9, "--pruning", "on")
    images, labels = layouts.mnist(0, 23)
    assert (document["split"], document["images"], document["pruning"]) == ("train", 9, "on")
    assert document["correct"] == correct(images[:9, ..., None], labels[:9])


def test_text_and_progress_lines(model: Path, mnist: Path) -> None:
    result = run_ok("eval", model, "--data", f"mnist:{mnist}", "--batch", 10)
    right = correct(digits(mnist), layouts.mnist(1, 23)[1])
    lines = result.stdout.splitlines()
    assert lines[0] == f"tiny on mnist:{mnist}, test split (engine)"
    assert lines[1] == f"accuracy  {100 * right / 23:.2f}% ({right} of 23)"
    assert lines[2].startswith("speed ") and "images/s end-to-end" in lines[2]
    assert result.stderr.splitlines() == [f"eval: {done}/23 images" for done in (10, 20, 23)]


def test_progress_has_ten_lines_at_most(model: Path, mnist: Path) -> None:
    result = run_ok("eval", model, "--data", f"mnist:{mnist}", "--batch", 1)
    assert len(result.stderr.splitlines()) == 10


def test_folders_are_matched_by_class_name(tmp_path: Path) -> None:
    save(tiny_network(class_names=("ant", "bee", "cat", *DIGITS[3:])), tmp_path / "m.safetensors")
    layouts.write_folder(tmp_path / "data", {"bee": 2, "cat": 1}, (28, 28))
    result = run_json("eval", tmp_path / "m.safetensors", "--data", f"folder:{tmp_path / 'data'}")
    images = np.array([0, 0, 1], np.uint8)[:, None, None, None] * np.ones((1, 28, 28, 1), np.uint8)
    assert (result["correct"], result["images"]) == (correct(images, np.array([1, 2, 1])), 3)


def test_class_indices(mnist: Path) -> None:
    dataset = open_dataset(f"mnist:{mnist}")
    assert class_indices(tiny_network(), dataset).tolist() == list(range(10))
    assert class_indices(tiny_network(class_names=()), dataset).tolist() == list(range(10))
    assert class_indices(tiny_network(class_names=DIGITS[::-1]), dataset).tolist() == list(range(10))[::-1]


def test_other_class_names_are_compared_by_position_and_said_so(mnist: Path, tmp_path: Path) -> None:
    save(tiny_network(class_names=tuple("abcdefghij")), tmp_path / "m.safetensors")
    result = run_ok("eval", tmp_path / "m.safetensors", "--data", f"mnist:{mnist}")
    remark = "note: the model's class names are not the data set's: classes are compared by position"
    assert result.stderr.splitlines()[0] == remark


def test_classes_that_cannot_be_matched(tmp_path: Path) -> None:
    layouts.write_folder(tmp_path / "few", {"x": 1}, (28, 28))
    layouts.write_folder(tmp_path / "many", {f"x{i}": 1 for i in range(11)}, (28, 28))
    for name in ("few", "many"):
        dataset = open_dataset(f"folder:{tmp_path / name}", input=InputEncoding(28, 28, 1))
        with pytest.raises(DataError, match="they are not among the model's 10"):
            class_indices(tiny_network(), dataset)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "mnist"), "'mnist' is not a data set: use one of cifar10:DIR, mnist:DIR, folder:DIR"),
        (("--data", "mnist:/nowhere"), "/nowhere is not a folder"),
        ((), "Missing option '--data'"),
        (("--data", "{mnist}", "--limit", "0"), "Invalid value for '--limit'"),
        (("--data", "{mnist}", "--batch", "0"), "Invalid value for '--batch'"),
        (("--data", "{mnist}", "--batch", "many"), "Invalid value for '--batch'"),
        (("--data", "{mnist}", "--threads", "-1"), "Invalid value for '--threads'"),
        (("--data", "{mnist}", "--threads", "99999999"), "threads"),
        (("--data", "{mnist}", "--pruning", "maybe"), "Invalid value for '--pruning': 'maybe' is not one of"),
        (("--data", "{mnist}", "--split", "val"), "Invalid value for '--split'"),
        (("--data", "{mnist}", "--nothing"), "No such option: --nothing"),
        (("--data", "{mnist}", "extra"), "unexpected extra argument"),
    ],
)
def test_bad_arguments(model: Path, mnist: Path, arguments: tuple[str, ...], message: str) -> None:
    given = [argument.format(mnist=f"mnist:{mnist}") for argument in arguments]
    assert message in error_line(run("eval", model, *given))


def test_another_image_size(mnist: Path, tmp_path: Path) -> None:
    save(tiny_network((32, 32, 1)), tmp_path / "m.safetensors")
    message = error_line(run("eval", tmp_path / "m.safetensors", "--data", f"mnist:{mnist}"))
    assert "images are 28 x 28 x 1, but the network reads 32 x 32 x 1: use a data set of that size" in message

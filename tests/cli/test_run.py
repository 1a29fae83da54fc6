"""`o3bnn run` classifies files, folders and arrays, with the bits of the reference."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from o3bnn.model import reference
from o3bnn.model.artifact import save
from tests.cli.helpers import digits, error_line, run, run_json, run_ok, tiny_network


def test_an_array(model: Path, mnist: Path, tmp_path: Path) -> None:
    images = digits(mnist)
    np.save(tmp_path / "a.npy", images)
    document = run_json("run", model, tmp_path / "a.npy", "--top", 3)
    logits = reference.run(tiny_network(), images).logits
    assert document["model"] == str(model)
    assert [entry["image"] for entry in document["images"]] == [f"{tmp_path}/a.npy[{i}]" for i in range(23)]
    for entry, expected in zip(document["images"], logits, strict=True):
        order = sorted(range(10), key=lambda index: (-expected[index], index))[:3]
        assert entry["top"] == [{"class": i, "name": str(i), "logit": float(expected[i])} for i in order]


@pytest.mark.parametrize("pruning", ["auto", "on", "off"])
@pytest.mark.parametrize("threads", [1, 2])
def test_pruning_and_threads_do_not_change_the_answer(
    model: Path, mnist: Path, tmp_path: Path, pruning: str, threads: int
) -> None:
    np.save(tmp_path / "a.npy", digits(mnist))
    document = run_json("run", model, tmp_path / "a.npy", "--pruning", pruning, "--threads", threads)
    assert document == run_json("run", model, tmp_path / "a.npy")
    assert len(document["images"][0]["top"]) == 1


def test_files_folders_and_arrays_together(model: Path, mnist: Path, tmp_path: Path) -> None:
    images = digits(mnist)[..., 0]
    (tmp_path / "folder").mkdir()
    for path, image in zip(("one.png", "folder/b.png", "folder/a.png"), images, strict=False):
        Image.fromarray(image).save(tmp_path / path)
    np.save(tmp_path / "single.npy", images[3])
    document = run_json("run", model, tmp_path / "single.npy", tmp_path / "folder", tmp_path / "one.png")
    names = ["single.npy", "folder/a.png", "folder/b.png", "one.png"]
    assert [entry["image"] for entry in document["images"]] == [str(tmp_path / name) for name in names]
    expected = reference.run(tiny_network(), images[[3, 2, 1, 0], ..., None]).classes
    assert [entry["top"][0]["class"] for entry in document["images"]] == expected.tolist()


def test_text(model: Path, mnist: Path, tmp_path: Path) -> None:
    images = digits(mnist)
    np.save(tmp_path / "a.npy", images[:2])
    lines = run_ok("run", model, tmp_path / "a.npy", "--top", 2).stdout.splitlines()
    logits = reference.run(tiny_network(), images[:2]).logits
    best = int(logits[0].argmax())
    assert lines[0].split() == ["image", "class", "name", "logit"]
    assert lines[1].split() == [f"{tmp_path}/a.npy[0]", str(best), str(best), f"{logits[0, best]:.4f}"]
    assert len(lines[2].split()) == 3
    assert len(lines) == 5


def test_more_classes_than_there_are(model: Path, mnist: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", digits(mnist)[0])
    assert len(run_json("run", model, tmp_path / "a.npy", "--top", 99)["images"][0]["top"]) == 10


def test_a_model_without_class_names(mnist: Path, tmp_path: Path) -> None:
    save(tiny_network(class_names=()), tmp_path / "m.safetensors")
    np.save(tmp_path / "a.npy", digits(mnist)[0])
    document = run_json("run", tmp_path / "m.safetensors", tmp_path / "a.npy")
    assert document["images"][0]["top"][0]["name"] is None
    assert run_ok("run", tmp_path / "m.safetensors", tmp_path / "a.npy").stdout


def test_a_colour_image_is_brought_to_a_grey_input(model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (90, 61), (9, 99, 200)).save(tmp_path / "a.jpg")
    assert len(run_json("run", model, tmp_path / "a.jpg")["images"]) == 1


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_bad_input(model: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    assert "nothing.png is not a file" in error_line(run("run", model, tmp_path / "nothing.png", *flags))
    assert "holds no image files" in error_line(run("run", model, tmp_path, *flags))
    np.save(tmp_path / "a.npy", np.zeros((2, 28, 28), np.float64))
    assert "holds float64" in error_line(run("run", model, tmp_path / "a.npy", *flags))
    (tmp_path / "x\ny.jpg").write_bytes(b"?")
    assert "x y.jpg is not an image" in error_line(run("run", model, tmp_path / "x\ny.jpg", *flags))
    assert "Missing argument 'INPUT...'" in error_line(run("run", model, *flags))

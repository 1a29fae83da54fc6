"""`o3bnn demo` from end to end on small networks: its document, its terminal output, and what it refuses to do."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from o3bnn.engine import Engine
from o3bnn.engine.plan import offered_methods
from o3bnn.errors import InputError
from o3bnn.model import edges, reference
from o3bnn.report import demo, measure, tables
from o3bnn.report.equality import DifferentBitsError
from tests.report import helpers

pytestmark = pytest.mark.usefixtures("little")


def run(path, shipped_set=helpers.GREY, **options):
    return demo.run(path, shipped_set=shipped_set, **options)


def printed(path, shipped_set=helpers.GREY):
    stream = io.StringIO()
    doc = run(path, shipped_set, console=Console(file=stream, width=200))
    return doc, stream.getvalue()


def test_the_document_says_what_the_reference_and_the_oracle_say(shown):
    shipped_set, doc, _ = shown
    doc = helpers.as_json(doc)
    images, labels = shipped_set.samples()
    assert doc["samples"] == {
        "images": helpers.IMAGES,
        "data_set": shipped_set.title,
        "what": f"the first {helpers.IMAGES} images of the {shipped_set.title} test set, in its own order",
        "classes": list(shipped_set.class_names),
    }
    assert [model["name"] for model in doc["models"]] == list(shipped_set.models)
    for model in doc["models"]:
        network = helpers.network(model["name"])
        classes = reference.run(network, images).classes
        assert model["accuracy"] == {
            "correct": int((classes == labels).sum()),
            "images": len(labels),
            "share": float((classes == labels).mean()),
        }
        assert model["wrong"] == [
            {"index": i, "label": int(labels[i]), "predicted": int(classes[i])}
            for i in np.flatnonzero(classes != labels)
        ]
        for row, word in zip(model["pruning"], (1, 64), strict=True):
            profile = edges.count(network, images, word=word)
            assert row["word"] == word
            assert row["edges"] == profile.total("binary").to_dict()
            assert row["all_stages"] == profile.total().to_dict()
            assert row["stages"] == helpers.as_json(profile.to_dict()["stages"])
            assert row["pruned_share"] == profile.total("binary").pruned_share
            assert row["speedup_ceiling"]["binary"] == row["edges"]["dense"] / row["edges"]["evaluated"]
        for i, share in enumerate(model["image_shares"]):
            counted = edges.count(network, images[i : i + 1]).total("binary")
            assert share == 1 - counted.pruned_share
        assert model["same_bits"]["bits"] == len(images) * sum(int(np.prod(shape)) for shape in network.out_shapes)


def test_word_widths_of_both_bounds(shown):
    shipped_set, doc, _ = shown
    images = shipped_set.samples()[0][: helpers.SWEPT]
    for model in doc["models"]:
        engine, shares = Engine(helpers.network(model["name"])), model["evaluated_by_word"]
        assert shares["images"] == helpers.SWEPT
        assert tuple(map(int, shares["simple"])) == measure.WORDS
        assert tuple(map(int, shares["sharp"])) == measure.SHARP_WORDS
        for bounds in ("simple", "sharp"):
            for word, found in shares[bounds].items():
                profile = engine.profile(images, word=int(word), bounds=bounds)
                assert found == 1 - profile.total("binary").pruned_share


def test_all_images_may_be_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "SWEPT_IMAGES", helpers.IMAGES + 1)
    for model in run(tmp_path / "page.html")["models"]:
        assert model["evaluated_by_word"]["images"] == helpers.IMAGES
        shares = {row["word"]: row["pruned_share"] for row in model["pruning"]}
        assert {word: 1 - model["evaluated_by_word"]["simple"][str(word)] for word in shares} == pytest.approx(shares)
        assert [row["images"] for row in model["pruning"]] == [helpers.IMAGES, helpers.IMAGES]


def test_times_belong_to_the_modes(tmp_path):
    for model in run(tmp_path / "page.html", threads=2)["models"]:
        timing = model["timing"]
        network = helpers.network(model["name"])
        assert timing["batch"] == helpers.TIMED
        assert list(timing["modes"]) == ["off", "on", "auto"]
        assert list(timing["speedup_over_off"]) == ["on", "auto"]
        for mode, times in timing["modes"].items():
            low, high = times["quartiles_s"]
            assert 0 < low <= times["median_s"] <= high
            assert len(times["kernels"]) == len(network.stages)
            if mode != "auto":
                assert times["kernels"] == list(Engine(network, pruning=mode).kernels)
        for method, offered in zip(timing["plan"], offered_methods(network, Engine(network).isa), strict=True):
            assert method.partition(" ")[0] in offered


def test_all_models_and_modes_are_timed_in_turns(tmp_path, monkeypatch):
    calls, right = [], Engine.run

    def recorded(engine, images):
        calls.append((engine.network.name, engine.pruning, len(images)))
        return right(engine, images)

    monkeypatch.setattr(Engine, "run", recorded)
    doc = run(tmp_path / "page.html", helpers.COLOUR)
    turn = [(name, mode, helpers.TIMED) for name in ("plain", "pruned") for mode in ("off", "on", "auto")]
    rounds = doc["models"][0]["timing"]["rounds"]
    assert rounds == doc["models"][1]["timing"]["rounds"] == 7
    timed = [turn[:: -1 if index % 2 else 1] for index in range(rounds)]
    assert calls[-(rounds + 1) * len(turn) :] == turn + [call for calls in timed for call in calls]


def test_the_terminal_shows_the_same_figures(tmp_path):
    path = tmp_path / "page.html"
    doc, text = printed(path)
    assert "What training for pruning bought" not in text
    for model in doc["models"]:
        assert model["name"] in text
        assert f"{model['accuracy']['correct']} of {helpers.IMAGES} images recognized" in text
        assert f"{100 * model['pruning'][0]['pruned_share']:.1f}% of the binary stages' edges pruned" in text
        assert f"{model['timing']['speedup_over_off']['on']['median']:.2f}x as fast as no pruning" in text
        for stage in model["stages"]:
            assert stage["name"] in text
    assert "\x1b" not in text
    assert f"Page: {path}" in text
    assert doc["page"] == str(path)


def test_the_terminal_shows_two_models_side_by_side(tmp_path):
    doc, text = printed(tmp_path / "page.html", helpers.COLOUR)
    lines = [" ".join(line.split()) for line in text[text.index("What training for pruning bought") :].splitlines()]
    accuracies = [f"{model['accuracy']['correct'] / helpers.IMAGES:.1%}" for model in doc["models"]]
    points = 100 * (doc["models"][1]["accuracy"]["share"] - doc["models"][0]["accuracy"]["share"])
    assert lines[1] == "plain pruned difference"
    assert lines[2] == f"images recognized {' '.join(accuracies)} {points:+.1f} points"
    for row, word in enumerate((1, 64)):
        shares = " ".join(f"{model['pruning'][row]['pruned_share']:.1%}" for model in doc["models"])
        assert any(line.startswith(f"edges pruned, B = {word} {shares} ") for line in lines)
    times = " ".join(tables.microseconds(model["timing"]["modes"]["auto"]["median_s"]) for model in doc["models"])
    assert f"time per image, planned {times}" in lines


@pytest.mark.parametrize("what", ["activations", "run"])
@pytest.mark.parametrize("mode", ["on", "auto"])
def test_different_bits_are_an_error_and_no_page(what, mode, tmp_path, monkeypatch):
    right = getattr(Engine, what)

    def wrong(engine, images):
        result = right(engine, images)
        if engine.pruning == mode and engine.network.name == "beta":
            last = result[-1] if what == "activations" else result
            last[7, ..., 3] = 1 - last[7, ..., 3]
        return result

    monkeypatch.setattr(Engine, what, wrong)
    stage = "dense2" if what == "activations" else "output"
    with pytest.raises(DifferentBitsError, match=f"beta: .*{stage} differ with pruning off and {mode}: 1 of .*image 7"):
        run(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_wrong_in_every_mode_is_found_by_the_reference(tmp_path, monkeypatch):
    right = Engine.activations

    def wrong(engine, images):
        bits = right(engine, images)
        bits[0][0] ^= 1
        return bits

    monkeypatch.setattr(Engine, "activations", wrong)
    with pytest.raises(
        DifferentBitsError, match="alpha: the bits of stage dense0 differ in the engine and the reference"
    ):
        run(tmp_path / "page.html")


@pytest.mark.parametrize(("missing", "renderer"), [("jinja2", "None"), ("matplotlib", "None"), ("nothing", "render")])
def test_the_page_needs_the_report_extra(missing, renderer):
    """In a fresh process, in which nothing is imported yet."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from o3bnn.report.demo import page_renderer\n"
        "print(getattr(page_renderer(), '__name__', None))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == renderer


def test_without_the_report_extra_everything_but_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "page_renderer", lambda: None)
    doc, text = printed(tmp_path / "page.html")
    assert doc["page"] is None
    assert "No page: the page needs jinja2 and matplotlib: pip install 'o3bnn[report]'" in text
    assert [model["name"] for model in doc["models"]] == ["alpha", "beta"]
    assert list(tmp_path.iterdir()) == []


def refuse_to_measure(*arguments):
    raise AssertionError("the output is checked before any work")


@pytest.mark.parametrize(("place", "message"), [("no/page.html", "there is no folder"), (".", "it is not a file")])
def test_an_output_that_cannot_be_written(place, message, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "measure", refuse_to_measure)
    with pytest.raises(InputError, match=message):
        run(tmp_path / place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "measure", refuse_to_measure)
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied: check the permissions"):
        run(tmp_path / "page.html")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_a_folder_in_which_no_file_can_be_made(monkeypatch):
    """Also for root, whom `os.access` would let write anywhere."""
    monkeypatch.setattr(demo, "measure", refuse_to_measure)
    with pytest.raises(InputError, match=r"cannot write /proc/x\.html: .*: check the path"):
        run(Path("/proc/x.html"))


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("before")

    def full(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(InputError, match=r"cannot write .*page.html: No space left on device: free some space"):
        run(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()


def test_a_terminal_is_never_too_narrow(tmp_path):
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    run(tmp_path / "page.html", helpers.COLOUR, console=console)
    lines = [line for line in stream.getvalue().splitlines() if not line.startswith("Page: ")]
    assert max(map(len, lines)) <= 80

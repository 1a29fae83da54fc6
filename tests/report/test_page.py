"""The page: needs nothing from anywhere, says what the document says, and can be read without seeing it."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from o3bnn.report import demo, page, svg, tables, views
from tests.report import helpers

URL_ATTRIBUTES = ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction")


def test_the_page_needs_nothing_from_elsewhere(shown):
    _, _, html = shown
    parsed = helpers.Page(html)
    assert parsed.open == []
    for tag, attributes in parsed.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        assert not [name for name in attributes if name.startswith("on")]
        for name in URL_ATTRIBUTES:
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert set(re.findall(r"url\(([^)#]{0,5})", html)) <= {'"data', ""}
    without_data = re.sub(r'"data:image/png;base64,[A-Za-z0-9+/=]*"', '""', html)
    assert not re.search(r"@import|https?:|//[a-z]", without_data)


def test_every_figure_of_the_page_is_in_the_document(shown):
    _, doc, html = shown
    found = helpers.Page(html).figures
    known = helpers.numbers(helpers.as_json(doc))
    assert len(found) > 100
    assert {value for value, _ in found} <= known
    for model in doc["models"]:
        binary = model["pruning"][0]
        for value, text in (
            (model["accuracy"]["correct"], str(model["accuracy"]["correct"])),
            (binary["pruned_share"], tables.percent(binary["pruned_share"])),
            (model["file_bytes"], tables.kilobytes(model["file_bytes"])),
            (
                model["timing"]["modes"]["auto"]["median_s"],
                tables.microseconds(model["timing"]["modes"]["auto"]["median_s"]),
            ),
            (binary["speedup_ceiling"]["binary"], tables.ratio(binary["speedup_ceiling"]["binary"])),
        ):
            assert (value, text) in found


def test_the_table_holds_every_stage_and_count(shown):
    _, doc, html = shown
    for model in doc["models"]:
        for row in model["pruning"]:
            table = re.search(
                f'<table class="edges" data-model="{model["name"]}" data-word="{row["word"]}">(.*?)</table>', html, re.S
            )
            parsed = helpers.Page(table[1])
            names = [text for tag, text in parsed.texts if tag == "th"][8:]
            assert names == [*(stage["name"] for stage in row["stages"]), "binary stages", "all stages"]
            counts = [*(stage["edges"] for stage in row["stages"]), row["edges"], row["all_stages"]]
            order = ("pooling", "threshold_high", "threshold_low", "constant")
            wanted = [(c["dense"], c["evaluated"], *(c["pruned_by"][cause] for cause in order)) for c in counts]
            assert [value for value, _ in parsed.figures] == [value for row in wanted for value in row]


def test_every_stage_is_named_in_every_plot(shown):
    _, doc, html = shown
    parsed = helpers.Page(html)
    labels = [label for label in parsed.attributes("svg", "aria-label") if label.startswith("Edges by stage")]
    assert len(labels) == 4
    for model, pair in zip(doc["models"], (labels[:2], labels[2:]), strict=True):
        for row, label in zip(model["pruning"], pair, strict=True):
            for stage in row["stages"]:
                share = tables.percent(tables.share(stage["edges"]["evaluated"], stage["edges"]["dense"]))
                assert f"{stage['name']} {share} evaluated" in label


def test_wrong_images_are_marked(shown):
    shipped_set, doc, html = shown
    names = shipped_set.class_names
    parsed = helpers.Page(html)
    cells = [attributes for tag, attributes in parsed.elements if tag == "li" and "title" in attributes]
    assert len(cells) == helpers.IMAGES
    for column, model in enumerate(doc["models"]):
        wrong = [i for i, cell in enumerate(cells) if f"wrong-{column}" in cell["class"].split()]
        assert wrong == [item["index"] for item in model["wrong"]]
        for item in model["wrong"]:
            title = cells[item["index"]]["title"]
            assert title.startswith(f"image {item['index']}: {names[item['label']]};")
            assert f"{model['name']} says {names[item['predicted']]}" in title


def test_the_sprite_holds_the_images(shown):
    shipped_set, _, html = shown
    encoded = re.search(r'--sprite: url\("data:image/png;base64,([^"]*)"\)', html)[1]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as sprite:
        assert sprite.mode == ("LA" if shipped_set == helpers.GREY else "RGB")
        pixels = np.asarray(sprite)
    if shipped_set == helpers.GREY:
        pixels = pixels[..., 1:]  # grey images are opacity, so that a dark page can show them in white
    images, _ = shipped_set.samples()
    side = helpers.SIDE
    for i, image in enumerate(images):
        y, x = divmod(i, 16)
        np.testing.assert_array_equal(pixels[y * side : (y + 1) * side, x * side : (x + 1) * side], image)


def test_a_dark_page_inverts_grey_images_only(shown):
    shipped_set, _, html = shown
    assert (".picture::before { filter: none; }" in html) == (shipped_set == helpers.COLOUR)


def test_two_models_are_compared_where_one_is_trained_for_pruning(shown):
    shipped_set, doc, html = shown
    table = re.search(r'<table class="compared">(.*?)</table>', html, re.S)
    assert (table is not None) == shipped_set.trained_for_pruning
    if table is None:
        return
    parsed = helpers.Page(table[1])
    plain, pruned = doc["models"]
    assert [text for tag, text in parsed.texts if tag == "th"][1:3] == ["plain", "pruned"]
    accuracies = [model["accuracy"]["share"] for model in (plain, pruned)]
    assert [value for value, _ in parsed.figures[:3]] == [*accuracies, accuracies[1] - accuracies[0]]
    labels = [label for label in helpers.Page(html).attributes("svg", "aria-label") if "plain and pruned" in label]
    for label, rows in zip(labels, zip(plain["pruning"], pruned["pruning"], strict=True), strict=True):
        assert label.startswith(f"Evaluated shares at B = {rows[0]['word']}, ")
        total = " and ".join(tables.percent(1 - row["pruned_share"]) for row in rows)
        assert label.endswith(f"; binary stages {total}.")


def test_many_images_and_mistakes_are_shown_in_part(little, tmp_path, monkeypatch):
    monkeypatch.setattr(views, "SHOWN_IMAGES", 17)
    monkeypatch.setattr(page, "SHOWN_IMAGES", 17)
    monkeypatch.setattr(page, "SHOWN_MISTAKES", 3)
    path = tmp_path / "page.html"
    doc = demo.run(path, shipped_set=helpers.COLOUR)
    html = path.read_text("utf-8")
    assert len({item["index"] for model in doc["models"] for item in model["wrong"] if item["index"] < 17}) > 3
    assert html.count('<li class="card">') == 3
    assert "the first 3 of the images below" in html
    assert html.count('title="image ') == 17
    assert "The first 17 images" in html
    columns, rows = ([int(place) for place in re.findall(rf"--{axis}: (\d+)", html)] for axis in "xy")
    assert max(row * 16 + column for column, row in zip(columns, rows, strict=True)) == 16


def test_pictures_have_words_and_tables_have_headers(shown):
    _, _, html = shown
    parsed = helpers.Page(html)
    assert all(attributes.get("alt") for tag, attributes in parsed.elements if tag == "img")
    assert all(
        attributes.get("role") == "img" and attributes["aria-label"]
        for tag, attributes in parsed.elements
        if tag == "svg"
    )
    assert all(attributes.get("aria-label") for _, attributes in parsed.elements if attributes.get("role") == "img")
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in parsed.elements if tag == "th")
    assert [tag for tag, _ in parsed.elements if tag == "h1"] == ["h1"]
    assert parsed.attributes("html", "lang") == ["en"]
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'(?:href="#|url\(#|for=")([^")]+)', html))
    assert targets <= set(ids)


def test_plots_take_their_colours_from_the_page(shown):
    _, _, html = shown
    for color, variable in svg.VARIABLES.items():
        assert color not in html
        assert f"{variable}: #" in html
    assert not re.search(r"(?:fill|stroke): #", html)
    assert "font-family: 'DejaVu" not in html


@pytest.mark.parametrize("shipped_set", [helpers.GREY, helpers.COLOUR], ids=["grey", "colour"])
def test_names_are_never_markup(shipped_set, little, tmp_path):
    path = tmp_path / "page.html"
    names = tuple(f"{helpers.HOSTILE_NAME}{index}" for index in range(10))
    doc = demo.run(path, shipped_set=replace(shipped_set, hostile=True, class_names=names))
    assert doc["models"][0]["stages"][0]["name"] == helpers.HOSTILE_NAME
    parsed = helpers.Page(path.read_text("utf-8"))
    assert parsed.text.count(helpers.HOSTILE_NAME) >= 8
    assert f"<{shipped_set.models[0]}>" in parsed.text


def test_no_template_is_left_in_the_page(shown):
    _, _, html = shown
    assert "{{" not in html
    assert "{%" not in html
    assert page.TITLE in html


@pytest.mark.parametrize(
    ("values", "placed"),
    [
        ([0.1, 0.5], [0.1, 0.5]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.1, 0.5, 0.5, 0.55, 0.9], [0.1, 0.5 - 0.25 / 3, 0.5 + 0.05 / 3, 0.5 + 0.35 / 3, 0.9]),
        ([0.98, 1.0, 1.0], [0.8, 0.9, 1.0]),
        ([], []),
    ],
)
def test_labels_do_not_overlap(values, placed):
    from o3bnn.report.plots import spread

    assert spread(values, gap=0.1) == pytest.approx(placed)

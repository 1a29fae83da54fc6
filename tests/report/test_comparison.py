"""Two models side by side: against counts by hand, and on two small networks against the document."""

import copy
import statistics

import pytest

from o3bnn.report import words
from o3bnn.report.comparison import comparison
from tests.report import helpers


def model(name, wrong, evaluated, ceiling, seconds):
    """A model's part of a document: 10 images, 1,000 edges of binary stages."""
    causes = {"constant": 0, "threshold_high": 100, "threshold_low": 0, "pooling": 900 - evaluated}
    return {
        "name": name,
        "accuracy": {"images": 10, "share": 1 - len(wrong) / 10},
        "wrong": [{"index": index} for index in wrong],
        "pruning": [
            {
                "word": 1,
                "pruned_share": 1 - evaluated / 1000,
                "edges": {"dense": 1000, "evaluated": evaluated, "pruned_by": causes},
                "speedup_ceiling": {"binary": ceiling, "all": 1.0},
            }
        ],
        "timing": {"modes": {mode: {"median_s": seconds} for mode in ("off", "auto")}},
    }


PLAIN = model("plain", [0, 1, 2, 3], 750, 4 / 3, 2e-6)
PRUNED = model("pruned", [2, 3, 4], 500, 2.0, 1e-6)


def test_by_hand():
    found = comparison(PLAIN, PRUNED)
    assert found["models"] == ["plain", "pruned"]
    assert found["right"] == {"images": 10, "both": 5, "first_only": 1, "second_only": 2, "neither": 2}
    assert found["accuracy"]["values"] == [0.6, 0.7]
    assert found["accuracy"]["difference"] == 0.7 - 0.6
    differences = [1] * 2 + [-1] + [0] * 7  # image by image: the second model's success less the first's
    assert found["accuracy"]["standard_error"] == pytest.approx(statistics.pstdev(differences) / 10**0.5)
    assert found["edges"] == [
        {
            "word": 1,
            "pruned_share": {"values": [0.25, 0.5], "difference": 0.25},
            "pruned_by": {
                "constant": [0, 0],
                "threshold_high": [0.1, 0.1],
                "threshold_low": [0, 0],
                "pooling": [0.15, 0.4],
            },
            "speedup_ceiling": [4 / 3, 2.0],
        }
    ]
    assert found["seconds"] == {"off": [2e-6, 1e-6], "auto": [2e-6, 1e-6]}


def test_as_a_table():
    rows = words.comparison_rows(comparison(PLAIN, PRUNED))
    texts = [(row.label, *(value.text for value in row.values), row.difference and row.difference.text) for row in rows]
    assert texts == [
        ("images recognized", "60.0%", "70.0%", "+10.0 points"),
        ("edges pruned, B = 1", "25.0%", "50.0%", "+25.0 points"),
        ("window already settled", "15.0%", "40.0%", None),
        ("threshold reached", "10.0%", "10.0%", None),
        ("ceiling on the speedup, B = 1", "1.33x", "2.00x", None),
        ("time per image, pruning off", "2.00 µs", "1.00 µs", None),
        ("time per image, planned", "2.00 µs", "1.00 µs", None),
    ]
    assert [row.part for row in rows] == [False, False, True, True, False, False, False]


def test_a_model_that_evaluates_nothing_has_no_ceiling():
    nothing = copy.deepcopy(PRUNED)
    nothing["pruning"][0]["speedup_ceiling"]["binary"] = None
    row = next(row for row in words.comparison_rows(comparison(PLAIN, nothing)) if row.label.startswith("ceiling"))
    assert [(figure.value, figure.text) for figure in row.values] == [(4 / 3, "1.33x"), (None, "unbounded")]


def test_as_a_sentence():
    assert words.agreement_text(comparison(PLAIN, PRUNED)) == (
        "Of the 10 images, both are right on 5, only plain on 1, only pruned on 2, neither on 2: the difference in "
        "accuracy has a standard error of 17.0 points."
    )


def test_in_the_document(shown):
    shipped_set, doc, _ = shown
    if not shipped_set.trained_for_pruning:
        assert doc["comparison"] is None
        return
    plain, pruned = doc["models"]
    assert doc["comparison"] == comparison(plain, pruned)
    right = doc["comparison"]["right"]
    assert right["both"] + right["first_only"] == plain["accuracy"]["correct"]
    assert right["both"] + right["second_only"] == pruned["accuracy"]["correct"]
    assert sum(right.values()) == 2 * helpers.IMAGES

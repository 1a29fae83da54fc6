"""Two models of one network side by side: what training for pruning bought, and what it cost."""

import math
from typing import Any

Json = dict[str, Any]


def comparison(plain: Json, pruned: Json) -> Json:
    """Compare two models' parts of the demo's document, which were run on the same images.

    A list of two holds the plain model's value and that of the model trained for pruning; a difference is the second
    less the first. `right` counts images; the standard error is that of the difference in accuracy, of shares of the
    same images. `edges` are those of the binary stages, one entry a word width.
    """
    models = (plain, pruned)
    first, second = ({item["index"] for item in model["wrong"]} for model in models)
    images = plain["accuracy"]["images"]
    only = (len(second - first), len(first - second))
    accuracies = [model["accuracy"]["share"] for model in models]
    return {
        "models": [model["name"] for model in models],
        "right": {
            "images": images,
            "both": images - len(first | second),
            "first_only": only[0],
            "second_only": only[1],
            "neither": len(first & second),
        },
        "accuracy": {
            "values": accuracies,
            "difference": accuracies[1] - accuracies[0],
            "standard_error": _standard_error(only, images),
        },
        "edges": [_edges(rows) for rows in zip(plain["pruning"], pruned["pruning"], strict=True)],
        "seconds": {
            mode: [model["timing"]["modes"][mode]["median_s"] for model in models] for mode in plain["timing"]["modes"]
        },
    }


def _edges(rows: tuple[Json, Json]) -> Json:
    shares = [row["pruned_share"] for row in rows]
    return {
        "word": rows[0]["word"],
        "pruned_share": {"values": shares, "difference": shares[1] - shares[0]},
        "pruned_by": {
            cause: [row["edges"]["pruned_by"][cause] / row["edges"]["dense"] for row in rows]
            for cause in rows[0]["edges"]["pruned_by"]
        },
        "speedup_ceiling": [row["speedup_ceiling"]["binary"] for row in rows],
    }


def _standard_error(only: tuple[int, int], images: int) -> float:
    """Of the difference between two shares of the same images: the variance of a mean of -1, 0 and 1."""
    mean = (only[1] - only[0]) / images
    return math.sqrt((sum(only) / images - mean**2) / images)

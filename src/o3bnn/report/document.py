"""The demo's result as one JSON document. The page takes every figure that it prints from here."""

import math
from collections.abc import Sequence
from typing import Any

from o3bnn.model import DenseStage, Network
from o3bnn.model.edges import PruningProfile
from o3bnn.report.comparison import comparison
from o3bnn.report.host import host
from o3bnn.report.measure import SHARP_WORDS, TABLE_WORDS, WORDS, Measurement
from o3bnn.report.shipped import ShippedSet
from o3bnn.report.tables import count, speedup_ceiling
from o3bnn.report.timing import Timings

Json = dict[str, Any]

METHOD = (
    "interleaved runs of all models and modes; median of all rounds; a speedup is the median of the ratios within each "
    "round"
)


def document(
    shipped: ShippedSet, measurements: Sequence[Measurement], timings: Sequence[Timings], threads: int
) -> Json:
    """Everything that the demo prints, as JSON types: the same keys on every run.

    `comparison` is null where no model is another one trained for pruning.
    """
    images = len(measurements[0].labels)
    pairs = zip(measurements, timings, strict=True)
    models = [{**model_document(m), "timing": timing_document(m, times)} for m, times in pairs]
    return {
        "samples": {
            "images": images,
            "data_set": shipped.title,
            "what": f"the first {count(images)} images of the {shipped.title} test set, in its own order",
            "classes": list(shipped.class_names),
        },
        "host": {**host(), "isa": measurements[0].isa},
        "threads": threads,
        "models": models,
        "comparison": comparison(*models) if shipped.trained_for_pruning else None,
    }


def model_document(m: Measurement) -> Json:
    """One model's part, but for its times."""
    images = len(m.labels)
    return {
        "name": m.name,
        "file_bytes": m.file_bytes,
        "in_shape": list(m.network.input.shape),
        "binary_weights": binary_weights(m.network),
        "metadata": dict(m.network.metadata),
        "stages": stage_rows(m.network),
        "accuracy": {"correct": m.correct, "images": images, "share": m.correct / images},
        "wrong": [{"index": int(i), "label": int(m.labels[i]), "predicted": int(m.predictions[i])} for i in m.wrong],
        "same_bits": {
            "modes": list(m.engines),
            "bits": m.bits_compared,
            "logits": images * m.network.output.classes,
            "reference_images": len(m.examples),
        },
        "pruning": [pruning_document(m.profiles[word]) for word in TABLE_WORDS],
        "evaluated_by_word": {
            "images": m.sweep["simple", 1].images,
            "simple": {str(word): m.swept_share(word) for word in WORDS},
            "sharp": {str(word): m.swept_share(word, "sharp") for word in SHARP_WORDS},
        },
        "image_shares": [float(share) for share in m.image_shares],
    }


def binary_weights(network: Network) -> int:
    """Number of 1-bit weights of a network."""
    hidden = sum(stage.geometry.out_channels * stage.geometry.full_fan_in for stage in network.stages)
    return hidden + network.output.classes * network.output.in_features


def stage_rows(network: Network) -> list[Json]:
    """Name, kind, fan-in, neurons and output shape of every stage, the output stage last."""
    rows: list[Json] = [
        {
            "name": stage.name,
            "kind": "dense" if isinstance(stage, DenseStage) else "conv",
            "fan_in": stage.geometry.full_fan_in,
            "neurons": stage.geometry.outputs,
            "out_shape": list(stage.out_shape),
        }
        for stage in network.stages
    ]
    output = network.output
    shape = [1, 1, output.classes]
    return [
        *rows,
        {
            "name": output.name,
            "kind": "dense",
            "fan_in": output.in_features,
            "neurons": output.classes,
            "out_shape": shape,
        },
    ]


def pruning_document(profile: PruningProfile) -> Json:
    """Counts at one word width, with the shares and the ceilings on speedup (null where no edge is evaluated)."""
    binary, everything = profile.total("binary"), profile.total()
    return {
        **profile.to_dict(),
        "bounds": profile.bounds,
        "images": profile.images,
        "pruned_share": binary.pruned_share,
        "speedup_ceiling": {"binary": _finite(speedup_ceiling(binary)), "all": _finite(speedup_ceiling(everything))},
    }


def timing_document(m: Measurement, timings: Timings) -> Json:
    """Times per image and speedups over `off`, with the method; `plan` is what `auto` runs each stage by."""
    images = m.timed_images
    modes, speedups = {}, {}
    for mode in timings.seconds:
        low, high = timings.quartiles(mode)
        modes[mode] = {
            "median_s": timings.median(mode) / images,
            "quartiles_s": [low / images, high / images],
            "kernels": list(m.engines[mode].kernels),
        }
        if mode != "off":
            slow, middle, fast = timings.speedup(mode, "off")
            speedups[mode] = {"median": middle, "deciles": [slow, fast]}
    return {
        "what": "end-to-end Engine.run, per image",
        "batch": images,
        "rounds": timings.rounds,
        "method": METHOD,
        "plan": [choice.label for choice in m.plan.stages],
        "modes": modes,
        "speedup_over_off": speedups,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

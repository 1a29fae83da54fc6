"""What a training run is told beside its network and its data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from o3bnn.errors import InputError

Optimizer = Literal["adam", "adamw"]
Precision = Literal["bf16", "float32"]

MAX_EPOCHS = 100_000
MAX_BATCH = 1 << 20
MAX_SHIFT = 1 << 10


@dataclass(frozen=True)
class TrainSettings:
    """A recipe; every field is checked.

    epochs: passes over the training images. batch: images a step, over all processes.
    optimizer, lr, weight_decay: the rate rises linearly over `warmup` epochs, then falls to 0 along half a cosine.
    clip: latent weights stay in [-clip, clip]. label_smoothing: of the cross-entropy, 0 up to 1.
    lambda_pool, lambda_threshold: weights of the two pruning terms (`regularizers`), which rise linearly from 0 over
        the epochs ramp_start .. ramp_start + ramp. through_weights: the share of their gradient that reaches weights
        and earlier layers, 0 up to 1; the rest moves thresholds only (batch norm's gamma and beta).
    norm_rate: factor on the learning rate of batch norm's parameters.
    distill: share of the loss that comes from the teacher's logits, softened by `temperature`, 0 up to 1.
    shift: images are moved by up to so many pixels each way (black comes in). flip: mirror every other image.
    seed: of weights, order and augmentation. precision: of the forward and backward pass; weights stay float32.
    """

    epochs: int = 40
    batch: int = 125
    optimizer: Optimizer = "adam"
    lr: float = 3e-3
    weight_decay: float = 0.0
    warmup: float = 1.0
    clip: float = 1.0
    label_smoothing: float = 0.0
    lambda_pool: float = 0.0
    lambda_threshold: float = 0.0
    ramp_start: float = 0.0
    ramp: float = 0.0
    through_weights: float = 0.0
    norm_rate: float = 1.0
    distill: float = 0.0
    temperature: float = 2.0
    shift: int = 0
    flip: bool = False
    seed: int = 0
    precision: Precision = "bf16"

    def __post_init__(self) -> None:
        _whole(self, "epochs", 1, MAX_EPOCHS)
        _whole(self, "batch", 1, MAX_BATCH)
        _whole(self, "shift", 0, MAX_SHIFT)
        _whole(self, "seed", 0, (1 << 63) - 1)
        for name in ("lr", "clip", "temperature", "norm_rate"):
            _number(self, name, above=True)
        for name in ("weight_decay", "warmup", "lambda_pool", "lambda_threshold", "ramp_start", "ramp"):
            _number(self, name)
        for name in ("label_smoothing", "distill", "through_weights"):
            _number(self, name, most=1.0)
        for name, values in (("optimizer", get_args(Optimizer)), ("precision", get_args(Precision))):
            if getattr(self, name) not in values:
                raise InputError(f"{name} = {getattr(self, name)!r} is none of {', '.join(values)}")

    def rate(self, epoch: float) -> float:
        """The learning rate's factor after so many epochs: warm-up, then half a cosine to 0."""
        if epoch < self.warmup:
            return epoch / self.warmup
        rest = max(self.epochs - self.warmup, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min((epoch - self.warmup) / rest, 1.0)))

    def pruning_weight(self, epoch: float) -> float:
        """The factor of both pruning terms after so many epochs, 0..1."""
        if epoch < self.ramp_start:
            return 0.0
        return 1.0 if self.ramp == 0 else min((epoch - self.ramp_start) / self.ramp, 1.0)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def difference(self, other: Mapping[str, Any]) -> str | None:
        """The first field that `other` (as `to_json` gives it) has otherwise, with both values, or None.

        What an older version did not know had its default.
        """
        for field in fields(self):
            mine, theirs = getattr(self, field.name), other.get(field.name, field.default)
            if mine != theirs:
                return f"{field.name} is {mine!r}, but was {theirs!r}"
        return None


def _whole(settings: TrainSettings, name: str, least: int, most: int) -> None:
    value = getattr(settings, name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name} = {value!r} is not an integer in {least}..{most}")


def _number(settings: TrainSettings, name: str, *, above: bool = False, most: float = math.inf) -> None:
    value = getattr(settings, name)
    valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or value < 0 or (above and value == 0) or value > most:
        wanted = "above 0" if above else "of at least 0"
        raise InputError(
            f"{name} = {value!r} is not a number {wanted}{'' if most == math.inf else f' and up to {most:g}'}"
        )

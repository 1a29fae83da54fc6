"""How 8-bit pixels become what a model of another tool reads. Needs NumPy only."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from o3bnn.errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """How an 8-bit pixel p enters a graph: float32((float32(p / divisor) - mean) / std), one rounding each.

    divisor: 255 gives 0..1, as torchvision's ToTensor; 1 gives 0..255. mean, std: one value, or one a channel.
    A graph whose input is an integer tensor gets p itself.
    """

    divisor: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        values = (self.divisor, *self.mean, *self.std)
        if not self.mean or not self.std or not np.all(np.isfinite(values)) or 0 in (self.divisor, *self.std):
            raise InputError(f"{self}: divisor and std must be finite and not 0, mean finite")

    def apply(self, images: npt.NDArray[np.uint8], dtype: np.dtype[np.generic]) -> npt.NDArray[Any]:
        """What the graph reads: [..., channels] of pixels to the same shape of `dtype`."""
        if dtype.kind in "iu":
            return images.astype(dtype)
        values = images.astype(np.float32) / np.float32(self.divisor)
        return (values - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)

    def to_json(self) -> str:
        """As text, for the metadata of a network."""
        return json.dumps({"divisor": self.divisor, "mean": self.mean, "std": self.std})

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Inverse of `to_json`; raises InputError on anything else."""
        try:
            values = json.loads(text)
            mean, std = (tuple(float(value) for value in values[key]) for key in ("mean", "std"))
            return cls(float(values["divisor"]), mean, std)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{text!r} does not describe how pixels enter a graph") from error

    def describe(self, dtype: np.dtype[np.generic]) -> str:
        """In words, for the metadata of a network."""
        if dtype.kind in "iu":
            return f"p as {dtype}"
        shown = ["/".join(f"{value:.9g}" for value in part) for part in (self.mean, self.std)]
        text = "p" if self.divisor == 1 else f"p / {self.divisor:.9g}"
        return text if shown == ["0", "1"] else f"({text} - {shown[0]}) / {shown[1]}"

"""The native simulator core (native/accel). Use `o3bnn.accel.simulate`, which validates what is handed over."""

from typing import Any

import numpy as np
import numpy.typing as npt

class Deadlock(RuntimeError):  # noqa: N818  (the event, as the field calls it)
    """The machine stood still; the message holds every unit's state."""

class Machine:
    def __init__(
        self,
        sizes: tuple[int, int, int, int, int, int, int, int],
        switches: tuple[bool, bool, bool, bool, bool, bool],
        memory: tuple[int, int, int, int],
        images: int,
    ) -> None: ...
    def add_stage(
        self,
        *,
        in_shape: tuple[int, int, int],
        conv_shape: tuple[int, int, int],
        shape: tuple[tuple[int, int], ...],
        groups: int,
        planes: int,
        edge_words: int,
        flags: tuple[bool, bool, bool, bool],
        image_places: int,
        weights: npt.NDArray[np.uint64],
        exists: npt.NDArray[np.uint64],
        thresholds: npt.NDArray[np.int64],
        decisive: npt.NDArray[np.uint8],
        class_map: npt.NDArray[np.int32],
    ) -> None: ...
    def add_pass(
        self, *, groups: int, channels: npt.NDArray[np.int32], resident: bool, strip: int, neuron_map_rows: int
    ) -> None: ...
    def run(
        self, *, image: npt.NDArray[np.uint16], first: int, last: int, limit: int
    ) -> tuple[list[npt.NDArray[np.uint8]], list[int], list[dict[str, Any]], npt.NDArray[np.int64]]: ...

"""The native engine. Use `o3bnn.Engine`, which checks arguments and explains errors; a misfit here is a ValueError."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

def available_isas() -> list[str]:
    """Instruction sets that this machine runs and this build contains, the best first, `scalar` last."""

def stage_methods(plan: Plan, isa: str) -> list[list[str]]:
    """The methods that an instruction set offers for each stage: some of `dense`, `pooling`, `threshold`, `words`."""

def roofline(isa: str) -> float:
    """Edges a second of the instruction set's popcount loop on one thread, from registers; takes some 50 ms."""

class Plan:
    """A network on its way to an `Engine`: stages in order, then the output stage. Arrays are copied, C-contiguous."""

    def __init__(self, image: tuple[int, int, int], table: npt.NDArray[np.int16], binary_input: bool) -> None: ...
    def add_stage(
        self,
        *,
        in_shape: tuple[int, int, int],
        conv_shape: tuple[int, int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        groups: int,
        pool_size: tuple[int, int],
        pool_stride: tuple[int, int],
        integer_input: bool,
        method: str,
        checks: Sequence[int],
        magnitude: int,
        weights: npt.NDArray[np.uint64],
        thresholds: npt.NDArray[np.int32],
        constant: npt.NDArray[np.int8],
        decisive: npt.NDArray[np.uint8],
        class_map: npt.NDArray[np.int32],
        exists: npt.NDArray[np.uint64],
    ) -> None:
        """Append a stage. padding: (top, left). A pool of size and stride (1, 1) is none.

        method: one of `stage_methods`; an engine refuses another. checks: words of a patch after which `threshold` may
        stop, increasing, inside the patch; other methods ignore them.

        weights [channels, words], thresholds and constant [classes, channels], decisive [channels], class_map
        [conv height, conv width], exists (packed masks of the edges of each class) [classes, words].
        """

    def set_output(self, features: int, weights: npt.NDArray[np.uint64]) -> None:
        """The output stage: weights [classes, words]."""

class Engine:
    """A network ready to run. Immutable; every method releases the GIL and may be called from several threads at once.

    images: uint8 [n, height, width, channels], C-contiguous.
    """

    def __init__(self, plan: Plan, isa: str, threads: int, shared_edges: int) -> None:
        """shared_edges: edges of an image from which on all threads work on one, where there are fewer images."""

    def sums(self, images: npt.NDArray[np.uint8], out: npt.NDArray[np.int32]) -> None:
        """Write the output stage's sums to out: int32 [n, classes]."""

    def activations(self, images: npt.NDArray[np.uint8], maps: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Write the bits after each stage to maps: uint8 [n, height, width, channels] each."""

    def profile(self, images: npt.NDArray[np.uint8], word: int, sharp: bool) -> list[tuple[int, int, int, int, int]]:
        """Edges of each stage: evaluated, and pruned as constant, threshold_high, threshold_low and pooling."""

    def stage_seconds(self, images: npt.NDArray[np.uint8], out: npt.NDArray[np.float64]) -> None:
        """Write the seconds that each stage took, then the output stage's, to out [n, stages + 1]; one thread."""

    def kernel_names(self) -> list[str]:
        """The kernel object that runs each stage, such as `conv_b1_scalar` or `conv_b1_pooling_avx512`."""

    def dense_edges(self) -> list[int]:
        """Edges of each stage for one image, over all neurons that some window reads."""

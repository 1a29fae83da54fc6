"""The CPU engine: native kernels behind NumPy arrays."""

import math
import os
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from o3bnn import _native
from o3bnn.engine.machine import chosen_isa
from o3bnn.engine.plan import StagePlan, default_plan, native_plan, offered_methods
from o3bnn.engine.saved import EnginePlan
from o3bnn.errors import InputError
from o3bnn.model.edges import Bounds, EdgeCounts, PruningProfile, check_word, stage_entry
from o3bnn.model.network import Network, OutputStage

Pruning = Literal["auto", "on", "off"]
Images = npt.NDArray[np.uint8]

MAX_THREADS = 1024

# What one thread works through between two looks at pending signals (Ctrl-C): some 0.1 s. Measured in dense edges of
# long fan-in; a neuron and a pixel count as some edges more: short neurons and small networks are mostly overhead.
_WORK_PER_LOOK = 1 << 32
_EDGES_PER_NEURON = 512
_EDGES_PER_PIXEL = 64
_IMAGES_PER_LOOK = 4
# With fewer images than threads, all threads work on one image at a time if it has this many dense edges. A smaller
# image is done before a sleeping thread has woken up.
_SHARED_EDGES = 1 << 26
_PROFILE_SLOWDOWN = 8


class Engine:
    """A network ready to run. Immutable; one engine may be used from several Python threads at the same time.

    network: what to run. threads: how many CPU threads share the images of a call (or one image, where it is large and
    there are fewer images than threads); by default one for each CPU that this process may use. pruning: `off`
    evaluates every edge; `on` prunes every stage that reads bits, by what the instruction set offers for it (a pooling
    kernel, else tiles that stop once all their neurons are decided, else neuron by neuron, some edge words at a time);
    `auto` does what `plan` says and without a plan evaluates every edge. plan: what `o3bnn.engine.plan_engine` found to
    be fastest, or a `StagePlan` for each stage. All give the same bits.

    Images are uint8 [n, height, width, channels] as the network's input says ([n, height, width] will do for one
    channel), contiguous or not; n = 0 is fine. Every method raises `InputError` for anything else. The instruction set
    is the best that the machine has; the environment variable `O3BNN_ISA` forces one by name when an engine is made.

    Errors: `InputError` for a bad argument, or an instruction set that is unknown or not available. `PlanError` for the
    plan of another network or instruction set; one of another processor is taken, and may be slower than dense.
    """

    def __init__(
        self,
        network: Network,
        *,
        threads: int | None = None,
        pruning: Pruning = "auto",
        plan: EnginePlan | Sequence[StagePlan] | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise InputError(f"network is a {type(network).__name__}: pass an o3bnn.Network, as o3bnn.load returns")
        if pruning not in get_args(Pruning):
            raise InputError(f"pruning = {pruning!r} is none of {', '.join(map(repr, get_args(Pruning)))}")
        if plan is not None and pruning != "auto":
            raise InputError(f"a plan is given, and pruning = {pruning!r}: leave one of them out")
        self._network = network
        self._threads = _thread_count(threads)
        self._pruning: Pruning = pruning
        self._isa = chosen_isa()
        self._plan = plan if isinstance(plan, EnginePlan) else None
        self._stages = _stage_plans(network, self._isa, pruning, plan)
        native = native_plan(network, self._stages)
        self._native = _native.Engine(native, self._isa, self._threads, _SHARED_EDGES)
        self._dense_edges = self._native.dense_edges()
        self._work = _work(network, sum(self._dense_edges))
        self._finite = _logits_are_finite(network.output)

    @property
    def network(self) -> Network:
        return self._network

    @property
    def threads(self) -> int:
        """Threads that share the images of a call, the calling one included."""
        return self._threads

    @property
    def pruning(self) -> Pruning:
        """As asked for: `auto`, `on` or `off`."""
        return self._pruning

    @property
    def plan(self) -> EnginePlan | None:
        """The plan that it was made with, if any."""
        return self._plan

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        """How each stage is evaluated."""
        return self._stages

    @property
    def isa(self) -> str:
        """Name of the instruction set whose kernels run."""
        return self._isa

    @property
    def kernels(self) -> tuple[str, ...]:
        """Name of the kernel that runs each stage, such as `conv_b1_scalar`."""
        return tuple(self._native.kernel_names())

    def run(self, images: Images) -> npt.NDArray[np.float32]:
        """Logits: float32 [n, classes]."""
        output, sums = self._network.output, self.sums(images).astype(np.float32)
        if self._finite:  # np.errstate would cost as much as a small stage
            return sums * output.scale + output.offset
        with np.errstate(over="ignore"):  # a sum times a finite scale may exceed float32: that is an infinite logit
            return sums * output.scale + output.offset

    def predict(self, images: Images) -> npt.NDArray[np.int64]:
        """Class of the greatest logit, the lowest on ties: int64 [n]."""
        classes: npt.NDArray[np.int64] = self.run(images).argmax(axis=1).astype(np.int64, copy=False)
        return classes

    def sums(self, images: Images) -> npt.NDArray[np.int32]:
        """Signed sums 2m - K of the output stage: int32 [n, classes]."""
        images = self.check_images(images)
        out = np.empty((len(images), self._network.output.classes), np.int32)
        for part in self._parts(len(images)):
            self._native.sums(np.ascontiguousarray(images[part]), out[part])
        return out

    def activations(self, images: Images) -> tuple[npt.NDArray[np.uint8], ...]:
        """Bits after every stage, pooling included: a uint8 array [n, height, width, channels] of 0 and 1 a stage."""
        images = self.check_images(images)
        maps = tuple(np.empty((len(images), *shape), np.uint8) for shape in self._network.out_shapes)
        for part in self._parts(len(images)):
            self._native.activations(np.ascontiguousarray(images[part]), [bits[part] for bits in maps])
        return maps

    def stage_seconds(self, images: Images) -> npt.NDArray[np.float64]:
        """Seconds that each stage took for each image, then the output stage: float64 [n, stages + 1].

        On the calling thread alone, one image after another; encoding the image counts with the first stage.
        """
        images = self.check_images(images)
        out = np.empty((len(images), len(self._network.stages) + 1))
        for part in self._parts(len(images)):
            self._native.stage_seconds(np.ascontiguousarray(images[part]), out[part])
        return out

    def profile(self, images: Images, *, word: int = 64, bounds: Bounds = "simple") -> PruningProfile:
        """Edges that pruning evaluates and saves on these images, per stage and cause; see `o3bnn.model.edges`.

        word: edges that are evaluated at once, 1..2^20. bounds: `simple` or `sharp`. Counts follow the rules alone:
        they do not depend on how this engine runs. At 64 they are what the portable kernels of method `words` spend.
        """
        images = self.check_images(images)
        word = check_word(word, bounds)
        totals = np.zeros((len(self._dense_edges), 5), np.int64)
        for part in self._parts(len(images), slowdown=_PROFILE_SLOWDOWN):
            counts = self._native.profile(np.ascontiguousarray(images[part]), word, bounds == "sharp")
            totals += np.array(counts, np.int64).reshape(totals.shape)
        edges = [
            EdgeCounts(len(images) * dense, *row) for dense, row in zip(self._dense_edges, totals.tolist(), strict=True)
        ]
        output = len(images) * self._network.output.in_features * self._network.output.classes
        edges.append(EdgeCounts(output, output))
        stages = tuple(stage_entry(self._network, index, counts) for index, counts in enumerate(edges))
        return PruningProfile(word, bounds, len(images), stages)

    def check_images(self, images: Images) -> Images:
        """The images as uint8 [n, height, width, channels], or an `InputError` that says what to change."""
        height, width, channels = shape = self._network.input.shape
        try:
            images = np.asarray(images)
        except (TypeError, ValueError) as error:
            raise InputError(f"images are not an array ({error}): pass a uint8 NumPy array") from error
        if images.dtype != np.uint8:
            raise InputError(f"images are {images.dtype}: pass uint8 pixels 0..255, the network encodes them itself")
        if images.ndim == 3 and channels == 1 and images.shape[1:] == (height, width):
            return images[..., None]
        if images.shape == shape or (channels == 1 and images.shape == (height, width)):
            raise InputError(f"images of shape {images.shape} lack the batch axis: pass images[None] for a single one")
        if images.ndim != 4 or images.shape[1:] != shape:
            raise InputError(
                f"images have shape {images.shape}, but the network reads (n, {height}, {width}, {channels}): "
                "scale and crop them, channels last"
            )
        return images

    def _parts(self, n: int, slowdown: int = 1) -> Iterator[slice]:
        """Cut n images into calls that are short enough for Ctrl-C to work between them."""
        size = self._threads * max(_IMAGES_PER_LOOK, _WORK_PER_LOOK // (self._work * slowdown))
        return (slice(start, min(n, start + size)) for start in range(0, n, size))


def _stage_plans(
    network: Network, isa: str, pruning: Pruning, plan: EnginePlan | Sequence[StagePlan] | None
) -> tuple[StagePlan, ...]:
    """How to evaluate each stage; raises for a plan that does not fit."""
    if plan is None:
        return tuple(default_plan(network, isa, pruning))
    if isinstance(plan, EnginePlan):
        plan.check(network, isa)
        return tuple(plan.stage_plans)
    if not isinstance(plan, Sequence) or not all(isinstance(stage, StagePlan) for stage in plan):
        raise InputError(f"plan is a {type(plan).__name__}: pass an EnginePlan, or a StagePlan for each stage")
    if len(plan) != len(network.stages):
        raise InputError(f"the plan has {len(plan)} stages, the network {len(network.stages)}: pass one for each")
    for stage, how, offered in zip(network.stages, plan, offered_methods(network, isa), strict=True):
        if how.method not in offered:
            raise InputError(f"{stage.name}: {isa} offers no method {how.method!r}: use one of {', '.join(offered)}")
    return tuple(plan)


def _work(network: Network, dense_edges: int) -> int:
    """Work of one image, in edges; see _WORK_PER_LOOK."""
    neurons = sum(stage.geometry.outputs for stage in network.stages) + network.output.classes
    return dense_edges + _EDGES_PER_NEURON * neurons + _EDGES_PER_PIXEL * math.prod(network.input.shape)


def _logits_are_finite(output: OutputStage) -> bool:
    """Whether no sum makes a logit that exceeds float32."""
    scale, offset = np.abs(output.scale.astype(np.float64)), np.abs(output.offset.astype(np.float64))
    return bool((scale * output.in_features + offset).max() < np.finfo(np.float32).max / 2)


def _thread_count(threads: int | None) -> int:
    if threads is None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(MAX_THREADS, usable)
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise InputError(f"threads = {threads!r} is not an integer in 1..{MAX_THREADS}: leave it out to use every CPU")
    return threads

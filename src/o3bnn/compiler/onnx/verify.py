"""Runs a source model and a compiled network side by side, and says where they differ: `verify`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from o3bnn.compiler.onnx.execute import Runner
from o3bnn.compiler.onnx.graph import Array, Graph, graph_of, read_model
from o3bnn.compiler.onnx.importer import import_graph
from o3bnn.compiler.onnx.preprocessing import Preprocessing
from o3bnn.compiler.onnx.result import Imported, StageOrigin
from o3bnn.errors import InputError
from o3bnn.model import Network

Images = npt.NDArray[np.uint8]

ROUNDING = 2.0**-16


class Machine(Protocol):
    """What runs the network: an `o3bnn.Engine`, or the reference."""

    def run(self, images: Images) -> npt.NDArray[np.float32]:
        """Logits: float32 [n, classes]."""

    def activations(self, images: Images) -> tuple[npt.NDArray[np.uint8], ...]:
        """Bits after every stage: uint8 [n, height, width, channels] each."""


@dataclass
class StageReport:
    """Differing bits of one stage: how many, in how many images, and the first as (image, row, column, channel)."""

    name: str
    tensor: str
    bits: int = 0
    images: int = 0
    first: tuple[int, int, int, int] | None = None


@dataclass
class Report:
    """What a verification found.

    images: compared. classes: images whose class differs. ties: those whose class differs where the source's two
    logits are equal up to rounding (counted apart, only where exact_logits is false). logits: images in which a logit
    differs in any bit (beyond rounding, where exact_logits is false). largest: greatest absolute difference of a
    logit. exact_logits: whether the source's logits have an exact form in the network. stages: bit by bit, empty where
    the stages do not correspond.
    """

    exact_logits: bool
    images: int = 0
    classes: int = 0
    ties: int = 0
    logits: int = 0
    largest: float = 0.0
    stages: list[StageReport] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether no class and no logit differs."""
        return not self.classes and not self.logits


def verify(
    path: Path,
    network: Network,
    machine: Machine,
    batches: Iterable[Images],
    *,
    preprocessing: Preprocessing | None = None,
) -> Report:
    """Compare a network with the ONNX file that it came from, on uint8 images [n, height, width, channels].

    machine: what runs `network`. preprocessing: by default that of the compilation, which is in the metadata.

    Raises:
        UnsupportedGraphError: the file cannot be read or run. InputError: network and file do not belong together.
    """
    model = read_model(path)
    graph = graph_of(model, path.stem)
    imported = import_graph(graph, image=network.input.shape, preprocessing=preprocessing or _stored(network, graph))
    if imported.network.output.classes != network.output.classes:
        raise InputError(
            f"{path} has {imported.network.output.classes} classes, the network {network.output.classes}: they do not "
            f"belong together"
        )
    runner = Runner(model, graph)
    origins = imported.origins if network.out_shapes == imported.network.out_shapes else ()
    report = Report(imported.exact_logits)
    report.stages = [StageReport(s.name, o.tensor) for s, o in zip(network.stages, origins, strict=False)]
    for images in batches:
        inputs = graph_inputs(imported, images, graph.input_type, len(graph.input_shape))
        tensors = runner.run_images(inputs, [imported.logits, *(origin.tensor for origin in origins)])
        _compare_logits(report, tensors[0].reshape(len(images), -1), machine.run(images))
        bits = machine.activations(images) if origins else ()
        for stage, origin, tensor, found in zip(report.stages, origins, tensors[1:], bits, strict=True):
            _compare_stage(stage, origin, tensor, found, report.images)
        report.images += len(images)
    return report


def _stored(network: Network, graph: Graph) -> Preprocessing | None:
    """How pixels entered the graph when the network was compiled, where the graph itself does not say."""
    text = network.metadata.get("preprocessing")
    return None if text is None or graph.input_is_integer else Preprocessing.from_json(text)


def graph_inputs(imported: Imported, images: Images, dtype: np.dtype[np.generic], rank: int) -> Array:
    """Images as the input tensor of the source graph: preprocessed, in its layout."""
    values = imported.preprocessing.apply(images, dtype)
    if imported.layout != "NHWC":
        values = values.transpose(0, 3, 1, 2)
    shape = values.shape
    if rank == 3:
        values = values.reshape(shape[0], *shape[2:])
    elif rank == 2:
        values = values.reshape(shape[0], -1)
    return np.ascontiguousarray(values)


def _compare_logits(report: Report, source: Array, ours: npt.NDArray[np.float32]) -> None:
    source = source.astype(np.float64)
    difference = np.abs(source - ours)
    allowed = 0.0 if report.exact_logits else ROUNDING * np.abs(source).max(initial=0.0)
    theirs, mine = source.argmax(axis=1), ours.argmax(axis=1)
    rows = np.arange(len(source))
    tied = (theirs != mine) & (source[rows, theirs] - source[rows, mine] <= 2 * allowed) & (not report.exact_logits)
    report.classes += int(((theirs != mine) & ~tied).sum())
    report.ties += int(tied.sum())
    report.logits += int((~(difference <= allowed)).any(axis=1).sum())
    report.largest = max(report.largest, float(difference.max(initial=0.0)))


def _compare_stage(stage: StageReport, origin: StageOrigin, tensor: Array, bits: Images, before: int) -> None:
    elements, index = tensor.reshape(len(bits), -1), origin.index.reshape(-1)
    inside = index >= 0
    source = np.empty((len(bits), bits[0].size), np.bool_)
    source[:, index[inside]] = elements[:, inside] == np.float32(origin.high)
    wrong = source.reshape(bits.shape) != (bits == 1)
    if np.any(wrong) and stage.first is None:
        image, row, column, channel = (int(value) for value in np.argwhere(wrong)[0])
        stage.first = (before + image, row, column, channel)
    stage.bits += int(wrong.sum())
    stage.images += int(wrong.reshape(len(bits), -1).any(axis=1).sum())

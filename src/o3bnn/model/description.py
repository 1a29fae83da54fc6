"""The JSON document of a network, as the model file carries it: strict models, and the way to and from `Network`.

Arrays are not part of it: they are tensors, named after their stage's index (`stages.0.weights`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from o3bnn.errors import ArtifactError, InvalidNetworkError
from o3bnn.model.geometry import MAX_CHANNELS, MAX_SIDE, ConvGeometry, Pooling, output_size
from o3bnn.model.network import (
    MAX_STAGES,
    ConvStage,
    DenseStage,
    InputEncoding,
    Network,
    OutputStage,
    PaddingMode,
    Stage,
)
from o3bnn.model.packing import word_count

MAX_CLASS_NAMES = 1 << 20
MAX_POSITIONS = 1 << 22

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Margin = Annotated[int, Field(ge=0, le=MAX_SIDE)]
Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
Pair = tuple[Side, Side]
Margins = tuple[Margin, Margin, Margin, Margin]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Array = npt.NDArray[Any]
Tensors = dict[str, Array]
Expected = Mapping[str, tuple[str, tuple[int, ...]]]


class Strict(BaseModel):
    """Base of everything read from JSON: no conversions, no unknown fields, immutable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class PoolingDescription(Strict):
    """See `Pooling`."""

    size: Pair
    stride: Pair


class InputDescription(Strict):
    """See `InputEncoding`."""

    height: Side
    width: Side
    channels: Channels
    cover: Pair


class ConvDescription(Strict):
    """See `ConvStage` and `ConvGeometry`."""

    kind: Literal["conv"]
    name: Name
    in_height: Side
    in_width: Side
    in_channels: Channels
    out_channels: Channels
    kernel: Pair
    stride: Pair
    padding: Margins
    padding_mode: PaddingMode
    groups: Channels
    pooling: PoolingDescription | None
    integer_input: bool

    def geometry(self) -> ConvGeometry:
        return ConvGeometry(
            self.in_height,
            self.in_width,
            self.in_channels,
            self.out_channels,
            self.kernel,
            self.stride,
            self.padding,
            self.groups,
        )

    @property
    def positions(self) -> int:
        """Output rows plus output columns."""
        top, left, bottom, right = self.padding
        rows = output_size(self.in_height, self.kernel[0], self.stride[0], top, bottom)
        return max(rows, 0) + max(output_size(self.in_width, self.kernel[1], self.stride[1], left, right), 0)


class DenseDescription(Strict):
    """See `DenseStage`."""

    kind: Literal["dense"]
    name: Name
    in_features: Channels
    out_features: Channels
    integer_input: bool

    def geometry(self) -> ConvGeometry:
        return ConvGeometry(1, 1, self.in_features, self.out_features)

    @property
    def positions(self) -> int:
        return 2


StageDescription = Annotated[ConvDescription | DenseDescription, Field(discriminator="kind")]


class OutputDescription(Strict):
    """See `OutputStage`."""

    name: Name
    in_features: Channels
    classes: Channels


class NetworkDescription(Strict):
    """See `Network`."""

    name: Name
    input: InputDescription
    stages: Annotated[tuple[StageDescription, ...], Field(max_length=MAX_STAGES)]
    output: OutputDescription
    class_names: Annotated[tuple[str, ...], Field(max_length=MAX_CLASS_NAMES)]
    metadata: dict[str, str]


class Document(Strict):
    """The whole JSON text of a model file."""

    format: Literal["o3bnn"]
    version: Literal[1]
    network: NetworkDescription


def describe(network: Network) -> Document:
    """The document of a network.

    Raises:
        pydantic.ValidationError: a text or a list of the network is longer than the format allows.
    """
    i, o = network.input, network.output
    cover = i.cover or (i.height, i.width)
    description = NetworkDescription(
        name=network.name,
        input=InputDescription(height=i.height, width=i.width, channels=i.channels, cover=cover),
        stages=tuple(_describe_stage(stage) for stage in network.stages),
        output=OutputDescription(name=o.name, in_features=o.in_features, classes=o.classes),
        class_names=network.class_names,
        metadata=dict(network.metadata),
    )
    return Document(format="o3bnn", version=1, network=description)


def _describe_stage(stage: Stage) -> ConvDescription | DenseDescription:
    g = stage.geometry
    if isinstance(stage, DenseStage):
        return DenseDescription(
            kind="dense",
            name=stage.name,
            in_features=g.in_channels,
            out_features=g.out_channels,
            integer_input=stage.integer_input,
        )
    pooling = None
    if stage.pooling is not None:
        pooling = PoolingDescription(size=stage.pooling.size, stride=stage.pooling.stride)
    return ConvDescription(
        kind="conv",
        name=stage.name,
        in_height=g.in_height,
        in_width=g.in_width,
        in_channels=g.in_channels,
        out_channels=g.out_channels,
        kernel=g.kernel,
        stride=g.stride,
        padding=g.padding,
        padding_mode=stage.padding_mode,
        groups=g.groups,
        pooling=pooling,
        integer_input=stage.integer_input,
    )


def tensors_of(network: Network) -> Tensors:
    """The arrays of a network by their names in the file."""
    tensors: dict[str, Array] = {"input.table": network.input.table}
    for index, stage in enumerate(network.stages):
        tensors[f"stages.{index}.weights"] = stage.weights
        tensors[f"stages.{index}.thresholds"] = stage.thresholds
        if isinstance(stage, ConvStage):
            tensors[f"stages.{index}.decisive_bit"] = stage.decisive_bit
    output = network.output
    return tensors | {"output.weights": output.weights, "output.scale": output.scale, "output.offset": output.offset}


def check_positions(model: NetworkDescription) -> None:
    """Bound the border-class tables of all stages together, which a small file could make large.

    Raises:
        ArtifactError: the output rows and columns of all stages add up to more than `MAX_POSITIONS`.
    """
    total = sum(stage.positions for stage in model.stages)
    if total > MAX_POSITIONS:
        raise ArtifactError(
            f"the output rows and columns of its stages add up to {total}, above {MAX_POSITIONS}: use smaller images"
        )


def geometries(model: NetworkDescription) -> list[ConvGeometry]:
    """The geometry of every stage.

    Raises:
        ArtifactError: a stage whose sizes do not fit together.
    """
    check_positions(model)
    result = []
    for index, stage in enumerate(model.stages):
        try:
            result.append(stage.geometry())
        except InvalidNetworkError as error:
            raise ArtifactError(f"stage {index}: {error}") from error
    return result


def expected_tensors(model: NetworkDescription, parts: list[ConvGeometry]) -> Expected:
    """Name of the NumPy type, and shape, of every tensor of a network."""
    expected: dict[str, tuple[str, tuple[int, ...]]] = {"input.table": ("int16", (256,))}
    for index, (stage, g) in enumerate(zip(model.stages, parts, strict=True)):
        expected[f"stages.{index}.weights"] = "uint64", (g.out_channels, word_count(g.full_fan_in))
        expected[f"stages.{index}.thresholds"] = "int32", (g.class_count, g.out_channels)
        if isinstance(stage, ConvDescription):
            expected[f"stages.{index}.decisive_bit"] = "uint8", (g.out_channels,)
    classes = model.output.classes
    expected["output.weights"] = "uint64", (classes, word_count(model.output.in_features))
    expected["output.scale"] = expected["output.offset"] = "float32", (classes,)
    return expected


def build(model: NetworkDescription, parts: list[ConvGeometry], tensors: Tensors) -> Network:
    """The network of a description, its geometries and its tensors.

    Raises:
        InvalidNetworkError: the parts do not fit together, or a value is out of range.
    """
    i, o = model.input, model.output
    return Network(
        name=model.name,
        input=InputEncoding(i.height, i.width, i.channels, tensors["input.table"], i.cover),
        stages=tuple(
            _build_stage(stage, g, tensors, f"stages.{index}")
            for index, (stage, g) in enumerate(zip(model.stages, parts, strict=True))
        ),
        output=OutputStage(
            name=o.name,
            in_features=o.in_features,
            weights=tensors["output.weights"],
            scale=tensors["output.scale"],
            offset=tensors["output.offset"],
        ),
        class_names=model.class_names,
        metadata=model.metadata,
    )


def _build_stage(model: ConvDescription | DenseDescription, g: ConvGeometry, tensors: Tensors, prefix: str) -> Stage:
    weights, thresholds = tensors[f"{prefix}.weights"], tensors[f"{prefix}.thresholds"]
    if isinstance(model, DenseDescription):
        return DenseStage(
            name=model.name, geometry=g, weights=weights, thresholds=thresholds, integer_input=model.integer_input
        )
    return ConvStage(
        name=model.name,
        geometry=g,
        weights=weights,
        thresholds=thresholds,
        integer_input=model.integer_input,
        decisive_bit=tensors[f"{prefix}.decisive_bit"],
        pooling=None if model.pooling is None else Pooling(model.pooling.size, model.pooling.stride),
        padding_mode=model.padding_mode,
    )

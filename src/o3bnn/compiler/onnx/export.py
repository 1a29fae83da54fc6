"""Writes a network as an ONNX graph: `export_onnx`.

The graph reads float32 [n, channels, height, width] of pixel values 0..255 and yields float32 logits [n, classes]. A
neuron fires where its signed sum s over the existing edges reaches a threshold; zero padding of values -1 and +1 leaves
the padded edges out, just as the contract does:

    bits in:      m >= t   <=>   s = 2 m - K_b >= 2 t - K_b        (K_b: fan-in of the border class)
    integers in:  s >= t

The plain form compares with GreaterOrEqual and Where; the QONNX form subtracts and applies BipolarQuant. Every sum is
an integer below 2^24, so float32 computes it exactly in any order. Channels with AND windows are negated around the
pool.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from o3bnn.errors import ArtifactError, InvalidNetworkError
from o3bnn.model import ConvStage, Network, Stage

OPSET = 17
IR_VERSION = 8
MAX_EXACT = 1 << 24
QONNX_DOMAIN = "qonnx.custom_op.general"


def export_onnx(network: Network, path: str | Path, *, qonnx: bool = False) -> None:
    """Write `network` as an ONNX file.

    qonnx: write BipolarQuant nodes and a batch of one image with all shapes, as the QONNX tools need it; else standard
    float operators and any number of images, for ONNX Runtime.

    Raises:
        InvalidNetworkError: sums exceed 2^24, where float32 is no longer exact.
        ArtifactError: the file cannot be written.
    """
    model = export_model(network, qonnx=qonnx)
    try:
        Path(path).write_bytes(model.SerializeToString())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot write {path}: {error}") from error


def export_model(network: Network, *, qonnx: bool = False) -> onnx.ModelProto:
    """The graph of a network as a protobuf message; see `export_onnx`."""
    writer = _Writer(qonnx)
    height, width, channels = network.input.shape
    tensor = writer.encoding(network, "image")
    for stage in network.stages:
        _check_exact(stage.name, stage.geometry.full_fan_in * network.magnitude(stage))
        tensor = writer.stage(stage, tensor)
    _check_exact(network.output.name, network.output.in_features)
    writer.output(network, tensor)
    batch: int | str = 1 if qonnx else "n"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, channels, height, width])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, network.output.classes])
    graph = helper.make_graph(writer.nodes, "network", [image], [logits], writer.initializers, value_info=writer.shapes)
    pixels = onnx.TensorAnnotation(tensor_name="image")
    pixels.quant_parameter_tensor_names.append(onnx.StringStringEntryProto(key="finn_datatype", value="UINT8"))
    graph.quantization_annotation.append(pixels)
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(QONNX_DOMAIN, 1)] if qonnx else [])]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="o3bnn")
    model.ir_version = IR_VERSION
    properties = {"o3bnn.image": f"{height}x{width}x{channels}", "o3bnn.name": network.name}
    if network.class_names:
        properties["o3bnn.classes"] = json.dumps(network.class_names)
    helper.set_model_props(model, properties)
    return model


def _check_exact(name: str, largest: int) -> None:
    if largest > MAX_EXACT:
        raise InvalidNetworkError(f"{name}: its sums reach {largest}, above 2^24, where float32 is no longer exact")


class _Writer:
    """Collects the nodes of a graph; every tensor that it makes has one image, [1, ...], in its recorded shape."""

    def __init__(self, qonnx: bool) -> None:
        self.qonnx = qonnx
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shapes: list[onnx.ValueInfoProto] = []

    def encoding(self, network: Network, tensor: str) -> str:
        """Pixels to the values of the input table."""
        table = network.input.table.astype(np.int64)
        height, width, channels = network.input.shape
        shape = (1, channels, height, width)
        steps = np.diff(table)
        if np.all(steps == steps[0]):
            scaled = self.node(
                "Mul", [tensor, self.constant("input.step", np.float32(steps[0]))], "input.scaled", shape
            )
            return self.node("Add", [scaled, self.constant("input.first", np.float32(table[0]))], "input", shape)
        if network.input.is_binary and np.count_nonzero(steps) == 1 and steps.max() > 0:
            return self.bits(tensor, np.array(np.argmax(table > 0), np.float32), "input", shape)
        index = self.node("Cast", [tensor], "input.index", shape, TensorProto.INT64, to=TensorProto.INT64)
        return self.node("Gather", [self.constant("input.table", table.astype(np.float32)), index], "input", shape)

    def stage(self, stage: Stage, tensor: str) -> str:
        """A layer, its thresholds and its pool."""
        g = stage.geometry
        weights = 2 * stage.weight_bits().astype(np.float32) - 1
        theta = stage.thresholds.astype(np.int64)
        if not stage.integer_input:
            theta = 2 * theta - g.class_fan_in[:, None]
        if not isinstance(stage, ConvStage):
            sums = self.dense(stage.name, tensor, weights)
            return self.bits(sums, theta.astype(np.float32), stage.name, (1, g.out_channels))
        kernel = weights.reshape(g.out_channels, *g.kernel, g.group_channels).transpose(0, 3, 1, 2)
        shape = (1, g.out_channels, g.out_height, g.out_width)
        sums = self.node(
            "Conv",
            [tensor, self.weights(stage.name, kernel)],
            f"{stage.name}.sums",
            shape,
            kernel_shape=list(g.kernel),
            strides=list(g.stride),
            pads=list(g.padding),
            group=g.groups,
        )
        limits = theta.T[None, :, :, None] if g.class_count == 1 else theta[g.class_map].transpose(2, 0, 1)[None]
        bits = self.bits(sums, limits.astype(np.float32), stage.name, shape)
        return self.pool(stage, bits, shape) if stage.pooling is not None else bits

    def pool(self, stage: ConvStage, tensor: str, shape: tuple[int, ...]) -> str:
        """OR windows as a max-pool; AND windows as one of the negated bits."""
        assert stage.pooling is not None
        height, width, channels = stage.out_shape
        pooled = (1, channels, height, width)
        signs = np.where(stage.decisive_bit == 1, 1, -1).astype(np.float32).reshape(1, -1, 1, 1)
        negate = bool(np.any(signs < 0))
        if negate:
            factor = self.constant(f"{stage.name}.windows", signs)
            tensor = self.node("Mul", [tensor, factor], f"{stage.name}.or", shape)
        tensor = self.node(
            "MaxPool",
            [tensor],
            f"{stage.name}.pooled",
            pooled,
            kernel_shape=list(stage.pooling.size),
            strides=list(stage.pooling.stride),
        )
        return self.node("Mul", [tensor, factor], f"{stage.name}.windowed", pooled) if negate else tensor

    def output(self, network: Network, tensor: str) -> None:
        """Logits = sum * scale + offset."""
        last = network.output
        shape = (1, last.classes)
        sums = self.dense(last.name, tensor, 2 * last.weight_bits().astype(np.float32) - 1)
        scale = last.scale
        if scale.size == 1:  # ONNX Runtime would fuse a scalar into the matrix product, which then rounds differently
            sums, scale = self.node("Neg", [sums], f"{last.name}.negated", shape), -scale
        scaled = self.node("Mul", [sums, self.constant(f"{last.name}.scale", scale)], f"{last.name}.scaled", shape)
        self.nodes.append(
            helper.make_node("Add", [scaled, self.constant(f"{last.name}.offset", last.offset)], ["logits"], "logits")
        )

    def dense(self, name: str, tensor: str, weights: npt.NDArray[np.float32]) -> str:
        """A matrix product on the flattened map; weights [outputs, features] in (row, column, channel) order."""
        flat = self.flattened(tensor, name)
        shape = self.shape_of(tensor)
        if len(shape) == 4:
            _, channels, height, width = shape
            weights = weights.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(weights), -1)
        matrix = self.weights(name, np.ascontiguousarray(weights.T))
        return self.node("MatMul", [flat, matrix], f"{name}.sums", (1, len(weights)))

    def flattened(self, tensor: str, name: str) -> str:
        """A map in (channel, row, column) order as features."""
        shape = self.shape_of(tensor)
        if len(shape) == 2:
            return tensor
        return self.node("Flatten", [tensor], f"{name}.flat", (1, int(np.prod(shape))), axis=1)

    def bits(self, tensor: str, theta: npt.NDArray[np.float32], name: str, shape: tuple[int, ...]) -> str:
        """+1 where a tensor reaches theta, else -1."""
        limit = self.constant(f"{name}.threshold", theta)
        if self.qonnx:
            distance = self.node("Sub", [tensor, limit], f"{name}.distance", shape)
            return self.quantized(distance, name, shape)
        fires = self.node("GreaterOrEqual", [tensor, limit], f"{name}.fires", shape, TensorProto.BOOL)
        one, minus = self.constant("one", np.float32(1)), self.constant("minus_one", np.float32(-1))
        return self.node("Where", [fires, one, minus], f"{name}.bits", shape)

    def quantized(self, tensor: str, name: str, shape: tuple[int, ...]) -> str:
        return self.node(
            "BipolarQuant",
            [tensor, self.constant("one", np.float32(1))],
            f"{name}.bits",
            shape,
            domain=QONNX_DOMAIN,
        )

    def weights(self, name: str, values: npt.NDArray[np.float32]) -> str:
        """Weights as a constant, quantized by a node in the QONNX form."""
        tensor = self.constant(f"{name}.weights", values)
        return self.quantized(tensor, f"{name}.weights", values.shape) if self.qonnx else tensor

    def constant(self, name: str, value: npt.NDArray[np.float32] | np.float32) -> str:
        if all(tensor.name != name for tensor in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.array(value, np.float32, order="C"), name))
        return name

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        name: str,
        shape: tuple[int, ...],
        kind: int = TensorProto.FLOAT,
        **attributes: Any,
    ) -> str:
        """Append a node; returns the name of its output, which is also the node's."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        batch: Sequence[int | str] = shape if self.qonnx or name.endswith(".weights.bits") else ("n", *shape[1:])
        self.shapes.append(helper.make_tensor_value_info(name, kind, batch))
        return name

    def shape_of(self, tensor: str) -> tuple[int, ...]:
        """Recorded shape of a tensor that a node made."""
        info = next(info for info in self.shapes if info.name == tensor)
        return tuple(d.dim_value if d.HasField("dim_value") else 1 for d in info.type.tensor_type.shape.dim)

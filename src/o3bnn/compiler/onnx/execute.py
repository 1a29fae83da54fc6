"""Runs a source graph as it is: ONNX Runtime for standard operators, the QONNX package's own code for the others.

Runs of standard nodes become one ONNX Runtime session each, without graph optimizations, which could change the order
of float operations. This computes what `qonnx.core.onnx_exec.execute_onnx` computes (tests compare them with `==`),
but builds the sessions once instead of for every node and call.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from o3bnn.compiler.onnx.graph import DOMAINS, QONNX, Array, Graph, graph_of
from o3bnn.errors import MissingExtraError, UnsupportedGraphError

IR_VERSION = 9


class Runner:
    """A source model, ready to run.

    model: as read. graph: its plain form, see `graph_of`.
    """

    def __init__(self, model: onnx.ModelProto, graph: Graph | None = None) -> None:
        self.graph = graph or graph_of(model)
        wanted = {output for node in self.graph.nodes for output in node.outputs if output}
        nodes = [node for node in _sorted(model, self.graph) if wanted & set(node.output)]
        varying = {self.graph.input}
        for node in nodes:
            varying |= set(node.output) if varying & set(node.input) else set()
        self.parts = self._parts([node for node in nodes if varying & set(node.input)])
        self.constants = {name: np.asarray(value) for name, value in self.graph.constants.items()}
        fixed = self._parts([node for node in nodes if not varying & set(node.input)])
        for index, part in enumerate(fixed):
            part.run(self.constants, {name for other in fixed[index + 1 :] + self.parts for name in other.reads})

    def _parts(self, nodes: list[onnx.NodeProto]) -> list["_Part"]:
        return [
            _Custom(list(group), self.graph) if custom else _Part(list(group), self.graph)
            for custom, group in groupby(nodes, lambda node: DOMAINS[node.domain] == QONNX)
        ]

    @property
    def batch(self) -> int | None:
        """Number of images that the graph takes at a time, None where it is free."""
        return self.graph.input_shape[0]

    def run(self, inputs: Array, names: Sequence[str]) -> list[Array]:
        """Values of tensors for one input of the graph, of its own shape and type.

        Raises:
            UnsupportedGraphError: a node fails.
        """
        values: dict[str, Array] = {**self.constants, self.graph.input: inputs}
        for index, part in enumerate(self.parts):
            later = {name for other in self.parts[index + 1 :] for name in other.reads}
            part.run(values, later | set(names))
        return [values[name] for name in names]

    def run_images(self, inputs: Array, names: Sequence[str]) -> list[Array]:
        """The same for any number of images, in as many calls as the graph's own batch size needs."""
        size = self.batch or len(inputs)
        found: list[list[Array]] = [[] for _ in names]
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            missing = size - len(part)
            padded = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
            for values, value in zip(found, self.run(padded, names), strict=True):
                values.append(value[: len(part)])
        return [np.concatenate(values) for values in found]


class _Part:
    """Consecutive standard nodes: one ONNX Runtime session."""

    def __init__(self, nodes: list[onnx.NodeProto], graph: Graph) -> None:
        self.nodes, self.graph = nodes, graph
        self.writes = {name for node in nodes for name in node.output if name}
        self.reads = {name for node in nodes for name in node.input if name} - self.writes
        self.session: Any = None
        self.outputs: list[str] = []

    def run(self, values: dict[str, Array], wanted: set[str]) -> None:
        if self.session is None or not self.writes & wanted <= set(self.outputs):
            self.outputs = sorted(self.writes & wanted)
            if not self.outputs:
                return
            self.session = self._open(values)
        feeds = {entry.name: values[entry.name] for entry in self.session.get_inputs()}
        try:
            results = self.session.run(self.outputs, feeds)
        except Exception as error:  # ONNX Runtime's exceptions derive from Exception only
            raise UnsupportedGraphError(f"ONNX Runtime fails on the source: {error}") from error
        values.update(zip(self.outputs, map(np.asarray, results), strict=True))

    def _open(self, values: Mapping[str, Array]) -> Any:
        runtime = _runtime()
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values[name].dtype), None)
            for name in sorted(self.reads - set(self.graph.constants))  # computed before, constants included
        ]
        constants = [
            numpy_helper.from_array(np.asarray(self.graph.constants[name]), name)
            for name in sorted(self.reads & set(self.graph.constants))
        ]
        outputs = [helper.make_empty_tensor_value_info(name) for name in self.outputs]
        proto = helper.make_graph(self.nodes, "part", inputs, outputs, constants)
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", self.graph.opset)])
        model.ir_version = IR_VERSION
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        if self.graph.input_shape[0] is not None:  # few images at a time: threads would only wait for each other
            options.intra_op_num_threads = 1
        try:
            return runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions derive from Exception only
            raise UnsupportedGraphError(f"ONNX Runtime refuses the source: {error}") from error


class _Custom(_Part):
    """Consecutive QONNX nodes, run by the QONNX package."""

    def __init__(self, nodes: list[onnx.NodeProto], graph: Graph) -> None:
        super().__init__(nodes, graph)
        self.operators = [_custom_operator(node) for node in nodes]

    def run(self, values: dict[str, Array], wanted: set[str]) -> None:
        for operator in self.operators:
            try:
                operator.execute_node(values, None)
            except Exception as error:  # whatever the package raises is about this node
                node = operator.onnx_node
                raise UnsupportedGraphError(
                    f"node {node.name or node.output[0]!r} ({node.op_type}): the QONNX executor fails: {error}"
                ) from error


def _custom_operator(node: onnx.NodeProto) -> Any:
    try:
        from qonnx.custom_op.registry import getCustomOp  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingExtraError("running QONNX operators needs the package qonnx: pip install 'o3bnn[onnx]'") from error
    own = onnx.NodeProto()
    own.CopyFrom(node)
    own.domain = "qonnx.custom_op.general"
    return getCustomOp(own)


def _runtime() -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingExtraError("running an ONNX graph needs onnxruntime: pip install 'o3bnn[onnx]'") from error
    return onnxruntime


def _sorted(model: onnx.ModelProto, graph: Graph) -> list[onnx.NodeProto]:
    """The model's nodes in the order of the plain graph."""
    place = {name: index for index, node in enumerate(graph.nodes) for name in node.outputs if name}
    listed = [node for node in model.graph.node if any(name in place for name in node.output)]
    return sorted(listed, key=lambda node: min(place[name] for name in node.output if name in place))

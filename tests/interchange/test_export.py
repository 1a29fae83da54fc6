"""`export_onnx`: the graph gives the network's logits, and comes back as the same network."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings

from o3bnn.compiler.onnx import compile_onnx
from o3bnn.compiler.onnx.export import export_model, export_onnx
from o3bnn.compiler.onnx.graph import graph_of
from o3bnn.compiler.onnx.importer import import_graph
from o3bnn.errors import ArtifactError, InvalidNetworkError
from o3bnn.model import ConvGeometry, DenseStage, InputEncoding, Network, OutputStage, packing, reference
from tests import strategies
from tests.interchange.test_files import qonnx_executor


def planar(images):
    return images.transpose(0, 3, 1, 2).astype(np.float32)


def run(model, images):
    """Logits from ONNX Runtime with its usual graph optimizations."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": planar(images)})[0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(strategies.networks(small=True))
def test_standard_graph_and_back(case):
    spec, network = case
    images = strategies.images(spec, 3)
    trace = reference.run(network, images)
    model = export_model(network)
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {""}
    np.testing.assert_array_equal(run(model, images), trace.logits)
    same(network, import_graph(graph_of(model)), images)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(strategies.networks(small=True))
def test_qonnx_graph_and_back(case):
    spec, network = case
    images = strategies.images(spec, 2)
    model = export_model(network, qonnx=True)
    assert any(node.op_type == "BipolarQuant" for node in model.graph.node)
    np.testing.assert_array_equal(qonnx_executor(model, planar(images)), reference.run(network, images).logits)
    same(network, import_graph(graph_of(model)), images)


def same(network, imported, images):
    """The imported network computes the same, at every stage, without a remark."""
    assert imported.exact_logits and not imported.notes
    assert imported.network.name == network.name
    assert imported.network.class_names == network.class_names
    np.testing.assert_array_equal(imported.network.input.table, network.input.table)
    expected, found = reference.run(network, images), reference.run(imported.network, images)
    for one, other, stage in zip(expected.stages, found.stages, network.stages, strict=True):
        np.testing.assert_array_equal(one.bits, other.bits, err_msg=stage.name)
    np.testing.assert_array_equal(found.logits, expected.logits)


def tiny(features: int = 4, table: object = None, class_names: tuple[str, ...] = ()) -> Network:
    ones = packing.pack(np.ones((2, features), np.uint8))
    return Network(
        name="tiny",
        input=InputEncoding(1, features, 1, **({} if table is None else {"table": table})),
        stages=(
            DenseStage(
                name="hidden",
                geometry=ConvGeometry(1, 1, features, 2),
                weights=ones,
                thresholds=np.zeros((1, 2), np.int32),
                integer_input=True,
            ),
        ),
        output=OutputStage(
            name="last",
            in_features=2,
            weights=packing.pack(np.eye(2, dtype=np.uint8)),
            scale=np.ones(2, np.float32),
            offset=np.zeros(2, np.float32),
        ),
        class_names=class_names,
    )


def test_class_names_and_size_come_back(tmp_path):
    network = tiny(class_names=("cat", "dog"))
    export_onnx(network, tmp_path / "m.onnx")
    found = compile_onnx(tmp_path / "m.onnx").network
    assert found.class_names == ("cat", "dog")
    assert found.input.shape == (1, 4, 1)


def test_sums_beyond_float32_are_refused():
    table = np.full(256, 30_000, np.int16)
    table[0] = -30_000
    with pytest.raises(InvalidNetworkError, match=r"hidden: its sums reach 30000000, above 2\^24"):
        export_model(tiny(1000, table))


def test_a_path_that_cannot_be_written(tmp_path):
    with pytest.raises(ArtifactError, match="cannot write"):
        export_onnx(tiny(), tmp_path / "no" / "m.onnx")

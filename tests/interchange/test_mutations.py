"""Damaged graphs and files: one clear error, or a network that computes what the damaged graph computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3bnn.compiler.onnx import compile_onnx
from o3bnn.compiler.onnx import verify as verifying
from o3bnn.compiler.onnx.graph import graph_of
from o3bnn.compiler.onnx.importer import import_graph
from o3bnn.errors import UnsupportedGraphError
from tests.interchange.graphs import random_model
from tests.interchange.helpers import MODELS, Reference, pixels
from tests.interchange.mutations import mutate


def outcome(seed, monkeypatch):
    """An error, equal results, or invalid where ONNX Runtime refuses the damaged graph that was read."""
    damaged, kind = mutate(random_model(seed % 50), np.random.default_rng(seed))
    try:
        imported = import_graph(graph_of(damaged))
    except UnsupportedGraphError as error:
        text = str(error)
        assert 10 < len(text) < 4000, text
        return "error"
    monkeypatch.setattr(verifying, "read_model", lambda path: damaged)
    machine, images = Reference(imported.network), pixels(imported.network, 4)
    try:
        with np.errstate(all="ignore"):
            report = verifying.verify(verifying.Path("model"), imported.network, machine, [images])
    except UnsupportedGraphError:
        return "invalid"
    assert report.equal, (kind, report)
    assert not any(stage.bits for stage in report.stages), (kind, report)
    return "equal"


def test_damaged_graphs(monkeypatch):
    seen = {"error": 0, "equal": 0, "invalid": 0}
    for seed in range(600):
        seen[outcome(seed, monkeypatch)] += 1
    assert seen["error"] > 300
    assert seen["equal"] > 60
    assert seen["invalid"] < 6


@pytest.mark.slow
def test_damaged_graphs_many(monkeypatch):
    for seed in range(600, 20_000):
        outcome(seed, monkeypatch)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_damaged_files(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    content = bytearray((MODELS / "brevitas_fc.onnx").read_bytes())
    for _ in range(int(rng.integers(1, 4))):
        content[int(rng.integers(len(content)))] = int(rng.integers(256))
    if rng.random() < 0.3:
        del content[int(rng.integers(len(content))) :]
    path = tmp_path_factory.mktemp("damaged") / "m.onnx"
    path.write_bytes(bytes(content))
    try:
        compile_onnx(path)
    except UnsupportedGraphError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("mutation", "match"),
    [
        ("nan", r"node .*BatchNormalization.*epsilon.*its variance is nan in channel 0"),
        ("gone", r"the graph has 2 inputs without a value"),
        ("float", r"node .*MatMul.*its weights are not binary: channel 0 has the values"),
        ("relu", r"node .*MatMul.*is not binary: in channel \d+ it takes \d+ values.*BipolarQuant"),
        ("domain", r"its domain 'com\.example' is unknown: read are"),
        ("sigmoid", r"Sigmoid has no integer form here\. Read on data: Conv, "),
    ],
)
def test_errors_say_what_and_where(mutation, match):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(MODELS / "brevitas_fc.onnx")
    graph = model.graph
    norm = next(node for node in graph.node if node.op_type == "BatchNormalization")
    quants = [node for node in graph.node if node.op_type == "BipolarQuant"]
    weights = next(node for node in quants if any(t.name == node.input[0] for t in graph.initializer))
    data = next(node for node in quants if node.input[0] == norm.output[0])
    if mutation == "nan":
        tensor = next(t for t in graph.initializer if t.name == norm.input[4])
        values = numpy_helper.to_array(tensor).copy()
        values[0] = np.nan
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    elif mutation == "gone":
        del graph.initializer[0]
    elif mutation == "float":
        weights.op_type, weights.domain = "Identity", ""
        del weights.input[1]
    elif mutation in ("relu", "sigmoid"):
        data.op_type, data.domain = mutation.capitalize(), ""
        del data.input[1]
    else:
        data.domain = "com.example"
    with pytest.raises(UnsupportedGraphError, match=match):
        import_graph(graph_of(model))


@pytest.mark.parametrize("sizes", [(1, 1, 60_000, 60_000), (1, 1, 2**40, 2**40), (2**40, 1, 8, 8)])
def test_huge_inputs_are_refused_at_once(sizes):
    import onnx

    model = onnx.load(MODELS / "brevitas_fc.onnx")
    for place, size in zip(model.graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
        place.dim_value = size
    with pytest.raises(UnsupportedGraphError, match=r"limit|larger|more than|not an integer in"):
        import_graph(graph_of(model))

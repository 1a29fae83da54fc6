"""Random graphs of the supported operators: the network's bits are the executor's, at every stage."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from o3bnn.compiler.onnx import verify as verifying
from o3bnn.compiler.onnx.execute import Runner
from o3bnn.compiler.onnx.graph import graph_of
from o3bnn.compiler.onnx.importer import import_graph
from tests.interchange.graphs import random_model
from tests.interchange.helpers import Reference, pixels
from tests.interchange.test_files import qonnx_executor

SEEDS = st.integers(0, 2**32 - 1)


def check(model, monkeypatch, count=5):
    imported = import_graph(graph_of(model))
    monkeypatch.setattr(verifying, "read_model", lambda path: model)
    images = pixels(imported.network, count)
    report = verifying.verify(verifying.Path("model"), imported.network, Reference(imported.network), [images])
    assert [stage.bits for stage in report.stages] == [0] * len(imported.network.stages)
    assert report.equal
    return imported, report


@pytest.mark.parametrize(("plain", "exact"), [(False, True), (True, True), (False, False)])
def test_importer_equals_executor(plain, exact, monkeypatch):
    @settings(max_examples=80, deadline=None, derandomize=True)
    @given(SEEDS)
    def holds(seed):
        check(random_model(seed, plain=plain, exact=exact), monkeypatch)

    holds()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEEDS)
def test_the_runner_is_the_qonnx_executor(seed):
    model = random_model(seed)
    graph = graph_of(model)
    if all(node.domain for node in graph.nodes) or graph.opset < 9:
        return
    size = graph.input_shape[0] or 1
    inputs = np.random.default_rng(seed).random((size, *graph.input_shape[1:]), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = qonnx_executor(model, inputs)
    np.testing.assert_array_equal(Runner(model).run_images(inputs, [graph.output])[0], expected)


@pytest.mark.slow
def test_importer_equals_executor_on_many(monkeypatch):
    for seed in range(3000):
        check(random_model(seed, plain=seed % 4 == 0), monkeypatch)

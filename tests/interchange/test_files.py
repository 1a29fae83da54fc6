"""Model files of other tools: they compile, and compute the same as in ONNX Runtime and the QONNX executor."""

import warnings

import numpy as np
import onnx
import pytest

from o3bnn.compiler.onnx import compile_onnx
from o3bnn.compiler.onnx.execute import Runner
from o3bnn.compiler.onnx.graph import graph_of
from o3bnn.compiler.onnx.importer import import_graph
from o3bnn.compiler.onnx.verify import verify
from o3bnn.data import open_dataset
from o3bnn.engine import Engine
from o3bnn.errors import UnsupportedGraphError
from tests.interchange.helpers import MODELS, SHARED, Reference, pixels

FILES = sorted(path for path in MODELS.glob("*.onnx"))


def qonnx_executor(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    """The output of the QONNX package's own executor, image by image (or in the model's batch)."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    graph = graph_of(model)
    wrapper = ModelWrapper(model).transform(InferShapes())
    size = graph.input_shape[0] or 1
    parts = [
        execute_onnx(wrapper, {graph.input: inputs[start : start + size]})[graph.output]
        for start in range(0, len(inputs), size)
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_difference(path):
    network = compile_onnx(path).network
    report = verify(path, network, Engine(network, threads=1), [pixels(network, 60), pixels(network, 5, seed=1)])
    assert report.equal and report.images == 65
    assert report.ties == 0
    assert [stage.bits for stage in report.stages] == [0] * len(network.stages)


@pytest.mark.parametrize("name", ["brevitas_cnv", "brevitas_fc", "brevitas_scaled_channels"])
def test_the_runner_is_the_qonnx_executor(name):
    model = onnx.load(MODELS / f"{name}.onnx")
    graph = graph_of(model)
    inputs = np.random.default_rng(3).random((3, *graph.input_shape[1:]), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = qonnx_executor(model, inputs)
    np.testing.assert_array_equal(Runner(model).run_images(inputs, [graph.output])[0], expected)


def test_tfc_on_the_shipped_digits():
    network = compile_onnx(MODELS / "TFC_1W1A.onnx").network
    assert network.input.shape == (28, 28, 1)
    assert [stage.geometry.out_channels for stage in network.stages] == [64, 64, 64]
    np.testing.assert_array_equal(network.input.table, np.where(np.arange(256) >= 128, 1, -1))


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data" / "mnist").is_dir(), reason="MNIST is not at ../shared/data/mnist")
def test_tfc_on_the_whole_test_set():
    path = MODELS / "TFC_1W1A.onnx"
    network = compile_onnx(path).network
    images, labels = open_dataset(f"mnist:{SHARED / 'data' / 'mnist'}").load()
    engine = Engine(network)
    report = verify(path, network, engine, [images])
    assert report.equal and report.images == 10_000 and report.ties == 0
    assert not any(stage.bits for stage in report.stages)
    assert int((engine.predict(images) == labels).sum()) == 9296


def test_cnv_is_what_the_example_is():
    network = compile_onnx(MODELS / "brevitas_cnv.onnx").network
    assert network.input.shape == (32, 32, 3)
    np.testing.assert_array_equal(network.input.table[[0, 1, 128, 254, 255]], [-128, -127, 1, 127, 127])
    shapes = [stage.out_shape for stage in network.stages]
    assert shapes == [(30, 30, 6), (14, 14, 8), (12, 12, 8), (5, 5, 12), (3, 3, 12), (1, 1, 16), (1, 1, 24), (1, 1, 24)]
    assert network.metadata["pixel"] == "p / 255"


def test_a_difference_is_found_and_placed():
    path = MODELS / "brevitas_cnv.onnx"
    network = compile_onnx(path).network
    other = compile_onnx(path, name="other").network
    thresholds = network.stages[2].thresholds.copy()
    thresholds[0, 5] = 0
    stage = type(network.stages[2])(**{**vars_of(network.stages[2]), "thresholds": thresholds})
    changed = type(network)(
        name="changed",
        input=network.input,
        stages=(*network.stages[:2], stage, *network.stages[3:]),
        output=network.output,
    )
    report = verify(path, changed, Reference(changed), [pixels(network, 20)])
    first = next(stage for stage in report.stages if stage.bits)
    assert first.name == network.stages[2].name and first.first is not None and first.first[3] == 5
    assert verify(path, other, Reference(other), [pixels(network, 5)]).equal


def vars_of(stage):
    return {name: getattr(stage, name) for name in stage.__dataclass_fields__}


def test_external_data(tmp_path):
    expected = compile_onnx(MODELS / "brevitas_fc.onnx").network
    path = tmp_path / "m.onnx"
    model = onnx.load(MODELS / "brevitas_fc.onnx")
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    found = compile_onnx(path).network
    for one, other in zip(expected.stages, found.stages, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UnsupportedGraphError, match=r"cannot read .*m\.onnx"):
        compile_onnx(path)


@pytest.mark.parametrize(
    ("content", "match"), [(b"", "no graph"), (b"\x08\x07", "no graph"), (b"no model" * 50, "cannot read")]
)
def test_files_that_are_none(tmp_path, content, match):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(UnsupportedGraphError, match=match):
        compile_onnx(path)
    with pytest.raises(UnsupportedGraphError, match="check the path"):
        compile_onnx(tmp_path / "none.onnx")


def test_other_executions_of_qonnx_tools():
    """Graphs that the QONNX tools have cleaned up and rewritten stay what they are."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.batchnorm_to_affine import BatchNormToAffine
    from qonnx.transformation.bipolar_to_xnor import ConvertBipolarMatMulToXnorPopcount
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.util.cleanup import cleanup_model

    images = None
    for name in ("TFC_1W1A", "brevitas_cnv", "brevitas_fc", "brevitas_scaled_bias"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cleaned = cleanup_model(ModelWrapper(onnx.load(MODELS / f"{name}.onnx")))
            affine = cleaned.transform(BatchNormToAffine()).transform(GemmToMatMul())
            xnor = cleaned.transform(ConvertBipolarMatMulToXnorPopcount())
        for wrapper in (cleaned, affine, xnor):
            graph = graph_of(wrapper.model)
            imported = import_graph(graph)
            images = pixels(imported.network, 4)
            inputs = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
            expected = Runner(wrapper.model).run_images(inputs, [graph.output])[0]
            found = Reference(imported.network).run(images)
            np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
            np.testing.assert_allclose(found, expected, atol=1e-6)

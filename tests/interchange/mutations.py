"""Random damage to a graph: what hostile or broken exporters could write."""

import copy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _node(model, rng):
    return model.graph.node[int(rng.integers(len(model.graph.node)))]


def _tensor(model, rng):
    return model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def _replace(tensor, array):
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def drop_node(model, rng):
    del model.graph.node[int(rng.integers(len(model.graph.node)))]


def bypass_node(model, rng):
    node = _node(model, rng)
    target, source = node.output[0], node.input[0] if node.input else ""
    for other in model.graph.node:
        for index, name in enumerate(other.input):
            if name == target:
                other.input[index] = source


def swap_inputs(model, rng):
    nodes = [node for node in model.graph.node if len(node.input) > 1]
    node = nodes[int(rng.integers(len(nodes)))]
    one, two = rng.choice(len(node.input), 2, replace=False)
    node.input[one], node.input[two] = node.input[two], node.input[one]


def redirect_input(model, rng):
    names = [name for node in model.graph.node for name in node.output] + [t.name for t in model.graph.initializer]
    node = _node(model, rng)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = str(rng.choice([*names, "image", "nowhere", ""]))


def drop_input(model, rng):
    node = _node(model, rng)
    if node.input:
        del node.input[int(rng.integers(len(node.input)))]


def duplicate_output(model, rng):
    _node(model, rng).output[0] = _node(model, rng).output[0]


def change_rank(model, rng):
    tensor = _tensor(model, rng)
    array = numpy_helper.to_array(tensor)
    _replace(tensor, array[None] if rng.random() < 0.5 else array.reshape(-1))


def cut_array(model, rng):
    tensor = _tensor(model, rng)
    array = numpy_helper.to_array(tensor)
    _replace(tensor, array[..., :-1] if array.ndim else np.zeros(2, array.dtype))


def change_values(model, rng):
    tensor = _tensor(model, rng)
    array = numpy_helper.to_array(tensor).copy()
    if array.size and array.dtype.kind == "f":
        values = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e38, 1e-40, -0.0)
        array.reshape(-1)[int(rng.integers(array.size))] = rng.choice(values)
    elif array.size:
        array.reshape(-1)[int(rng.integers(array.size))] = rng.choice([-(2**62), -2, -1, 0, 1, 7, 2**40])
    _replace(tensor, array)


def change_type(model, rng):
    tensor = _tensor(model, rng)
    _replace(
        tensor, numpy_helper.to_array(tensor).astype(rng.choice([np.float64, np.int64, np.float16, np.uint8, np.bool_]))
    )


def damage_tensor(model, rng):
    tensor = _tensor(model, rng)
    if rng.random() < 0.5 and tensor.raw_data:
        tensor.raw_data = tensor.raw_data[:-1]
    else:
        tensor.data_type = int(rng.integers(0, 30))


def drop_initializer(model, rng):
    del model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def change_attribute(model, rng):
    nodes = [node for node in model.graph.node if node.attribute]
    if not nodes:
        return
    node = nodes[int(rng.integers(len(nodes)))]
    attribute = node.attribute[int(rng.integers(len(node.attribute)))]
    if rng.random() < 0.2:
        node.attribute.remove(attribute)
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = int(rng.choice([-1, 0, 1, 2, 3, 2**40]))
    elif attribute.type == onnx.AttributeProto.INTS and attribute.ints:
        attribute.ints[int(rng.integers(len(attribute.ints)))] = int(rng.choice([-1, 0, 1, 2, 5, 2**40]))
    elif attribute.type == onnx.AttributeProto.FLOAT:
        attribute.f = float(rng.choice([np.nan, np.inf, 0.0, -1.0, 3.5]))
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = bytes(rng.choice([b"", b"SAME_UPPER", b"nonsense", b"\xff\xfe"]))
    else:
        attribute.name = "unknown"


def change_operator(model, rng):
    node = _node(model, rng)
    names = (
        "Relu",
        "Sigmoid",
        "Softmax",
        "AveragePool",
        "Add",
        "Sub",
        "Neg",
        "Abs",
        "Sign",
        "MaxPool",
        "Quant",
        "Loop",
    )
    node.op_type = str(rng.choice(names))


def change_domain(model, rng):
    _node(model, rng).domain = str(rng.choice(["", "com.example", "onnx.brevitas"]))


def change_opset(model, rng):
    model.opset_import[0].version = int(rng.choice([1, 8, 9, 11, 13, 21, 22, 99]))


def change_input(model, rng):
    shape = model.graph.input[0].type.tensor_type.shape
    if rng.random() < 0.3:
        model.graph.input[0].type.tensor_type.elem_type = int(rng.choice([TensorProto.UINT8, TensorProto.DOUBLE, 0]))
    elif rng.random() < 0.3:
        del shape.dim[int(rng.integers(len(shape.dim)))]
    else:
        shape.dim[int(rng.integers(len(shape.dim)))].dim_value = int(rng.choice([-1, 0, 1, 2, 50, 2**40]))


def change_output(model, rng):
    name = _node(model, rng).output[0]
    kind = int(rng.integers(3))
    if kind == 0:
        model.graph.output[0].name = name
    elif kind == 1:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    else:
        del model.graph.output[:]


MUTATIONS = (
    drop_node, bypass_node, swap_inputs, redirect_input, drop_input, duplicate_output, change_rank, cut_array,
    change_values, change_type, damage_tensor, drop_initializer, change_attribute, change_operator, change_domain,
    change_opset, change_input, change_output,
)  # fmt: skip


def mutate(model, rng):
    """A damaged copy of a model, and what was done to it."""
    damaged = copy.deepcopy(model)
    kind = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
    kind(damaged, rng)
    return damaged, kind.__name__

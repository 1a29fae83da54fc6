"""Random QONNX and plain ONNX graphs of binary networks, in the many forms that exporters and tools write them.

Shapes and forms are drawn from one NumPy generator, so that a failing seed reproduces a graph.
"""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

F32 = np.float32
DOMAINS = ("qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general")
OPSETS = (9, 11, 12, 13, 15, 18, 20, 21)


@dataclass
class Builder:
    """A graph in the making. plain: only standard operators. exact: only scales that float32 sums keep exact."""

    rng: np.random.Generator
    plain: bool = False
    exact: bool = True
    nodes: list = field(default_factory=list)
    initializers: list = field(default_factory=list)

    def __post_init__(self):
        self.opset = int(self.rng.choice(OPSETS))
        self.domain = str(self.rng.choice(DOMAINS[:2]))
        self.batch = int(self.rng.choice([1, 1, 3]))

    def pick(self, *options):
        return options[int(self.rng.integers(len(options)))]

    def const(self, value, dtype=F32):
        """A constant, as an initializer or (sometimes) a Constant node."""
        name = f"c{len(self.initializers) + len(self.nodes)}"
        tensor = numpy_helper.from_array(np.array(value, dtype), name)
        if self.rng.random() < 0.2:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def node(self, operator, *inputs, custom=False, outputs=1, **attributes):
        name = f"t{len(self.nodes)}"
        domain = {"domain": self.domain} if custom else {}
        label = {} if self.rng.random() < 0.3 else {"name": f"{operator}_{len(self.nodes)}"}
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **label, **domain, **attributes))
        return name

    def scale(self):
        return F32(self.pick(1.0, 1.0, 0.5, 0.25, 2.0) if self.exact else self.rng.uniform(0.01, 0.3))

    def clip(self, x, low, high):
        if self.opset < 11:
            return self.node("Clip", x, min=low, max=high)
        return self.node("Clip", x, self.const(low), self.const(high))

    def weights(self, shape):
        """Binary weights [out, ...]; in one of the forms that graphs have them."""
        latent = self.rng.normal(0, 1, shape)
        signs = np.where(latent >= 0, 1, -1)
        forms = ["raw", "scaled", "sign"] + (["where"] if self.opset >= 12 else [])
        forms += [] if self.plain else ["bipolar", "bipolar", "bipolar_channels", "quant"]
        form = self.pick(*forms)
        channels = (shape[0], *(1,) * (len(shape) - 1))
        if form == "raw":
            return self.const(signs)
        if form == "scaled":
            return self.const(signs * self.scale())
        if form == "sign":
            return self.node("Sign", self.const(latent))
        if form == "where":
            positive = self.node("GreaterOrEqual", self.const(latent), self.const(0))
            return self.node("Where", positive, self.const(1), self.const(-1))
        if form == "quant":
            scale, zero, bits = self.const(self.scale()), self.const(0), self.const(1)
            return self.node("Quant", self.const(latent), scale, zero, bits, custom=True, signed=1, narrow=1)
        scale = np.array([self.scale() for _ in range(shape[0])]).reshape(channels)
        return self.node(
            "BipolarQuant", self.const(latent), self.const(scale if "ch" in form else self.scale()), custom=True
        )

    def per_channel(self, values, rank):
        return self.const(np.asarray(values).reshape(1, -1, *(1,) * (rank - 2)))

    def norm(self, x, channels, rank, fan_in, magnitude):
        """Batch norm, or what it is split into, with statistics of the size of the sums."""
        spread = magnitude * np.sqrt(fan_in)
        gamma = self.rng.normal(0, 1, channels)
        gamma[self.rng.random(channels) < 0.05] = 0
        beta, mean = self.rng.normal(0, 0.5, channels), self.rng.normal(0, spread / 2, channels)
        variance = (spread * self.rng.uniform(0.2, 2, channels)) ** 2
        form = self.pick("batch", "batch", "affine", "sub_div", "none")
        if form == "batch":
            return self.node("BatchNormalization", x, *map(self.const, (gamma, beta, mean, variance)), epsilon=1e-4)
        if form == "affine":
            scaled = self.node("Mul", x, self.per_channel(gamma, rank))
            return self.node("Add", scaled, self.per_channel(beta * spread, rank))
        if form == "sub_div":
            centred = self.node("Sub", x, self.per_channel(mean, rank))
            return self.node("Div", centred, self.per_channel(np.sqrt(variance), rank))
        return self.node("Add", x, self.per_channel(np.full(channels, 0.5 * magnitude), rank))

    def binarize(self, x, channels, rank, final=False):
        """One of the quantizers that leave two values; binary (0, 1) ones are for a later XnorPopcountMatMul."""
        if self.rng.random() < 0.2:
            x = self.clip(x, -1.0, 1.0)
        forms = ["sign"] + (["where", "compare"] if self.opset >= 12 else [])
        forms = forms if self.plain else ["bipolar", "bipolar", "bipolar", "quant", "threshold", *forms]
        form = self.pick(*forms)
        if form == "bipolar":
            return self.node("BipolarQuant", x, self.const(self.scale()), custom=True)
        if form == "quant":
            scale = self.const(self.scale())
            return self.node("Quant", x, scale, self.const(0), self.const(1), custom=True, signed=1, narrow=1)
        if form == "threshold":
            limits = self.rng.normal(0, 0.3, (self.pick(1, channels), 1))
            names = {"out_dtype": "BIPOLAR", "out_scale": 2.0, "out_bias": -1.0}
            return self.node("MultiThreshold", x, self.const(limits), custom=True, **names)
        if form == "sign":
            return self.node("Sign", self.node("Add", x, self.const(1e-3 * np.pi)))
        fires = self.node("GreaterOrEqual", x, self.const(0))
        if form == "where":
            return self.node("Where", fires, self.const(1), self.const(-1))
        number = self.node("Cast", fires, to=TensorProto.FLOAT)
        return self.node("Sub", self.node("Mul", number, self.const(2)), self.const(1))

    def encode(self, x):
        """The input quantizer: bits, 8-bit integers, or an affine map of the pixels. Yields the largest value too."""
        form = (
            self.pick("bits", "affine", "affine")
            if self.plain
            else self.pick("bits", "quant", "quant", "affine", "unsigned")
        )
        if form == "unsigned":
            scale, zero, bits = self.const(2.0**-8), self.const(0), self.const(8)
            return self.node("Quant", x, scale, zero, bits, custom=True, signed=0, narrow=0, rounding_mode="FLOOR"), 1.0
        x = self.node("Sub", self.node("Mul", x, self.const(2)), self.const([1]))
        if form == "bits":
            return self.binarize(x, 1, 4), 1.0
        if form == "quant":
            scale, zero, bits = self.const(2.0**-7), self.const(0), self.const(8)
            mode = self.pick("ROUND", "CEIL", "FLOOR")
            return self.node("Quant", x, scale, zero, bits, custom=True, signed=1, narrow=0, rounding_mode=mode), 1.0
        return self.node("Round", self.node("Mul", x, self.const(64))) if self.opset >= 11 else self.node(
            "Floor", self.node("Mul", x, self.const(64))
        ), 64.0

    def conv(self, x, shape, magnitude):
        """A convolution with its norm, quantizer and pool; returns the tensor and its (height, width, channels)."""
        height, width, channels = shape
        kernel = (int(self.pick(1, 2, 3)), int(self.pick(1, 3)))
        groups = self.pick(1, 1, 1, *(g for g in (2, 3) if channels % g == 0))
        outputs = groups * int(self.rng.integers(1, 5))
        strides = [int(self.pick(1, 1, 2)), int(self.pick(1, 2))]
        pads = [int(p) for p in self.rng.integers(0, 2, 4)]
        if height + pads[0] + pads[2] < kernel[0] or width + pads[1] + pads[3] < kernel[1]:
            kernel = (1, 1)
        inputs = [x, self.weights((outputs, channels // groups, *kernel))]
        if self.rng.random() < 0.3:
            inputs.append(
                self.const(self.rng.integers(-3, 4, outputs) if self.exact else self.rng.normal(0, 1, outputs))
            )
        x = self.node("Conv", *inputs, kernel_shape=list(kernel), strides=strides, pads=pads, group=groups)
        height = (height + pads[0] + pads[2] - kernel[0]) // strides[0] + 1
        width = (width + pads[1] + pads[3] - kernel[1]) // strides[1] + 1
        pool = self.pick(None, ((2, 2), (2, 2)), ((3, 2), (2, 1)))
        if pool is not None and (height < pool[0][0] or width < pool[0][1]):
            pool = None
        place = self.pick("before", "between", "after")
        fan_in = channels // groups * kernel[0] * kernel[1]
        steps = [
            lambda t: self.node("MaxPool", t, kernel_shape=list(pool[0]), strides=list(pool[1])) if pool else t,
            lambda t: self.norm(t, outputs, 4, fan_in, magnitude),
            lambda t: self.binarize(t, outputs, 4),
        ]
        order = {"before": (0, 1, 2), "between": (1, 0, 2), "after": (1, 2, 0)}[place]
        for index in order:
            x = steps[index](x)
        if pool is not None:
            height = (height - pool[0][0]) // pool[1][0] + 1
            width = (width - pool[0][1]) // pool[1][1] + 1
        return x, (height, width, outputs)

    def flatten(self, x, shape):
        """The map as features, in one of the ways that exporters write it; returns also their number."""
        features = int(np.prod(shape))
        form = self.pick(
            "flatten", "reshape", "chain", "channels_last", "squeeze" if shape[:2] == (1, 1) else "flatten"
        )
        if form == "flatten":
            return self.node("Flatten", x), features
        if form == "reshape":
            return self.node(
                "Reshape", x, self.const(self.pick([self.batch, -1], [-1, features], [0, -1]), np.int64)
            ), features
        if form == "squeeze":
            if self.opset < 13:
                return self.node("Squeeze", x, axes=[2, 3]), features
            return self.node("Squeeze", x, self.const([2, 3], np.int64)), features
        if form == "channels_last":
            turned = self.node("Transpose", x, perm=[0, 2, 3, 1])
            return self.node("Reshape", turned, self.const([self.batch, features], np.int64)), features
        size = self.node("Gather", self.node("Shape", x), self.const(0, np.int64), axis=0)
        if self.opset < 13:
            size = self.node("Unsqueeze", size, axes=[0])
        else:
            size = self.node("Unsqueeze", size, self.const([0], np.int64))
        return self.node("Reshape", x, self.node("Concat", size, self.const([-1], np.int64), axis=0)), features

    def dense(self, x, features, outputs):
        form = self.pick("matmul", "matmul", "gemm")
        weights = self.weights((outputs, features))
        if form == "gemm":
            bias = self.rng.integers(-3, 4, outputs) if self.exact else self.rng.normal(0, 1, outputs)
            return self.node("Gemm", x, weights, self.const(bias), transB=1)
        return self.node("MatMul", x, self.node("Transpose", weights, perm=[1, 0]))

    def xnor(self, x, features, outputs):
        """A layer that counts matches of bits 0 and 1."""
        name = {"out_dtype": "BINARY"}
        x = self.node("MultiThreshold", x, self.const([[0.1]]), custom=True, **name)
        weights = self.const(self.rng.integers(0, 2, (features, outputs)))
        return self.node("XnorPopcountMatMul", x, weights, custom=True)

    def tail(self, x, classes, features):
        form = self.pick("none", "scale", "norm", "tensor_norm", "bias")
        if form == "scale":
            return self.node("Mul", x, self.const(self.rng.uniform(0.01, 2)))
        if form == "norm":
            values = (self.rng.normal(0, 1, classes), self.rng.normal(0, 1, classes), self.rng.normal(0, 2, classes))
            return self.node(
                "BatchNormalization", x, *map(self.const, values), self.const(self.rng.uniform(1, 9, classes))
            )
        if form == "tensor_norm":
            x = self.node("Sub", x, self.const([0.449]))
            x = self.node("Div", x, self.node("Pow", self.const([318.2]), self.const(0.5)))
            return self.node("Add", self.node("Mul", x, self.const([0.734])), self.const([-1.1437]))
        return self.node("Add", x, self.const(self.rng.normal(0, 1, classes))) if form == "bias" else x


def random_model(seed: int, plain: bool = False, exact: bool = True) -> onnx.ModelProto:
    """A random network as an ONNX model; its image is in the metadata, as `o3bnn export` writes it."""
    b = Builder(np.random.default_rng(seed), plain, exact)
    shape = (int(b.rng.integers(3, 9)), int(b.rng.integers(3, 9)), int(b.pick(1, 3, 4)))
    image = shape
    x, magnitude = b.encode("image")
    for _ in range(int(b.rng.integers(0, 3))):
        x, shape = b.conv(x, shape, magnitude)
        magnitude = 1.0
    x, features = b.flatten(x, shape)
    for _ in range(int(b.rng.integers(1, 3))):
        outputs = int(b.rng.integers(2, 20))
        x = b.dense(x, features, outputs)
        x = b.norm(x, outputs, 2, features, magnitude)
        x, features, magnitude = b.binarize(x, outputs, 2), outputs, 1.0
    classes = int(b.rng.integers(1, 6))
    x = b.xnor(x, features, classes) if not plain and b.rng.random() < 0.2 else b.dense(x, features, classes)
    output = b.tail(x, classes, features)
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [b.batch, image[2], image[0], image[1]])]
    if b.rng.random() < 0.3:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in b.initializers]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [b.batch, classes])]
    graph = helper.make_graph(b.nodes, "random", inputs, outputs, b.initializers)
    opsets = [helper.make_opsetid("", b.opset), *([] if plain else [helper.make_opsetid(b.domain, 1)])]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 8
    helper.set_model_props(model, {"o3bnn.image": "x".join(map(str, image))})
    return model

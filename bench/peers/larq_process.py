"""Larq Compute Engine on the topology of `vgg_like`, as a process that `latency.py` asks for rounds.

Runs in an environment of its own (see `latency.py`). Each line on standard input is a number of inferences; the answer
is the milliseconds of each, one thread, batch 1, Larq's own converter and interpreter.
"""

import sys
import time

import larq
import larq_compute_engine as lce
import numpy as np
import tensorflow as tf
from larq_compute_engine.tflite.python.interpreter import Interpreter

KERNEL = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}
BINARY = {"input_quantizer": "ste_sign", **KERNEL}


def vgg_like() -> tf.keras.Model:
    """Convolutions padded with +1, the form that Larq keeps in bits; pool and batch norm as in the original."""
    layers = [tf.keras.layers.Input((32, 32, 3)), larq.layers.QuantConv2D(128, 3, padding="same", **KERNEL)]
    layers.append(tf.keras.layers.BatchNormalization())
    for filters, pools in ((128, True), (256, False), (256, True), (512, False), (512, True)):
        layers.append(larq.layers.QuantConv2D(filters, 3, padding="same", pad_values=1.0, **BINARY))
        layers += [tf.keras.layers.MaxPool2D(2)] if pools else []
        layers.append(tf.keras.layers.BatchNormalization())
    layers.append(tf.keras.layers.Flatten())
    for units in (1024, 1024, 10):
        layers += [larq.layers.QuantDense(units, **BINARY), tf.keras.layers.BatchNormalization()]
    return tf.keras.Sequential(layers)


def main() -> None:
    interpreter = Interpreter(lce.convert_keras_model(vgg_like()), num_threads=1)
    image = np.random.default_rng(0).random((1, 32, 32, 3), dtype=np.float32)
    interpreter.predict(image)
    print(f"larq_compute_engine {lce.__version__} tensorflow {tf.__version__}", flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            interpreter.predict(image)
            times.append(1e3 * (time.perf_counter() - start))
        print(" ".join(f"{ms:.4f}" for ms in times), flush=True)


if __name__ == "__main__":
    main()

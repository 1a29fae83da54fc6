"""Make the small Larq models under tests/interchange/models: .tflite files, and what Larq Compute Engine computes.

Needs its own environment, since Larq Compute Engine 0.16 pins TensorFlow 2.13 and NumPy 1:

    python3.11 -m venv .venv-larq
    .venv-larq/bin/pip install larq-compute-engine==0.16.0 larq 'tensorflow-cpu==2.13.*' 'numpy<2'
    .venv-larq/bin/python bench/make_larq_models.py tests/interchange/models

Each NAME.tflite comes with NAME.npz: uint8 images, and the float32 logits of LCE's own interpreter for pixel / 255.
"""

import argparse
from pathlib import Path

import larq
import larq_compute_engine as lce
import numpy as np
import tensorflow as tf

BINARY = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip", "use_bias": False}


def binary_conv(filters: int, kernel: int, **options: object) -> larq.layers.QuantConv2D:
    return larq.layers.QuantConv2D(filters, kernel, input_quantizer="ste_sign", **BINARY, **options)


def one_padded(first: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
    """Padding with +1, so that bits go from one binary convolution to the next."""
    return [
        first,
        tf.keras.layers.MaxPool2D(2),
        tf.keras.layers.BatchNormalization(),
        binary_conv(64, 3, padding="same", pad_values=1.0),
        tf.keras.layers.BatchNormalization(),
        binary_conv(32, 3, padding="same", pad_values=1.0, strides=2),
        tf.keras.layers.MaxPool2D(2),
        tf.keras.layers.BatchNormalization(),
        binary_conv(33, 1),
        tf.keras.layers.BatchNormalization(),
    ]


def zero_padded(first: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
    """Padding with 0, a pool after the batch norm, no padding."""
    return [
        first,
        tf.keras.layers.BatchNormalization(),
        binary_conv(32, 3, padding="same"),
        tf.keras.layers.BatchNormalization(),
        tf.keras.layers.MaxPool2D(3, 2),
        binary_conv(40, (2, 3), padding="valid"),
        tf.keras.layers.BatchNormalization(),
    ]


def tail(classes: int) -> list[tf.keras.layers.Layer]:
    return [
        tf.keras.layers.Flatten(),
        larq.layers.QuantDense(24, input_quantizer="ste_sign", **BINARY),
        tf.keras.layers.BatchNormalization(),
        larq.layers.QuantDense(classes, input_quantizer="ste_sign", **BINARY),
        tf.keras.layers.BatchNormalization(),
    ]


def model_of(layers: list[tf.keras.layers.Layer], shape: tuple[int, int, int], seed: int) -> tf.keras.Model:
    """A model with random latent weights and batch norms of the size of the sums; pixels enter as 2 x - 1."""
    rng = np.random.default_rng(seed)
    scale = tf.keras.layers.Rescaling(2.0, -1.0, input_shape=shape)
    model = tf.keras.Sequential([scale, *layers])
    fan_in = 1
    for layer in model.layers:
        if isinstance(layer, larq.layers.QuantConv2D | larq.layers.QuantDense):
            shape = layer.get_weights()[0].shape
            fan_in = int(np.prod(shape[:-1]))
            layer.set_weights([rng.uniform(-1, 1, shape)])
        elif isinstance(layer, tf.keras.layers.BatchNormalization):
            n = layer.get_weights()[0].shape[0]
            last = layer is model.layers[-1]
            gamma, beta = rng.normal(1 if last else 0.6, 0.1 if last else 0.7, n), rng.normal(0, 0.6, n)
            spread = 0.05 if last else 0.4
            mean, variance = rng.normal(0, spread * fan_in**0.5, n), np.abs(rng.normal(1, 0.5, n)) * fan_in + 0.5
            beta *= 0.1 if last else 1
            layer.set_weights([gamma, beta, mean, variance])
    return model


def random_images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Coarse blocks with some noise, which differ more than noise alone does."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (count, -(-shape[0] // 4), -(-shape[1] // 4), shape[2]))
    images = blocks.repeat(4, axis=1).repeat(4, axis=2)[:, : shape[0], : shape[1]]
    return np.clip(images + rng.integers(-40, 41, images.shape), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    bits = binary_conv(16, 3, padding="same", pad_values=1.0)
    reals = larq.layers.QuantConv2D(16, 3, padding="same", **BINARY)
    cases = {
        "larq_one_padded": model_of(one_padded(reals) + tail(10), (16, 16, 3), 1),
        "larq_zero_padded": model_of(zero_padded(bits) + tail(7), (12, 14, 1), 5),
    }
    for name, model in cases.items():
        content = lce.convert_keras_model(model, inference_input_type=tf.float32)
        path = folder / f"{name}.tflite"
        path.write_bytes(content)
        images = random_images(40, model.input_shape[1:])
        interpreter = lce.testing.Interpreter(content)
        logits = interpreter.predict(images.astype(np.float32) / np.float32(255))
        np.savez_compressed(folder / f"{name}.npz", images=images, logits=np.asarray(logits))
        print(f"{path}: {len(content)} octets, classes {np.bincount(np.argmax(logits, axis=1))}")


if __name__ == "__main__":
    main()

"""Training: layers, networks and checkpoints in PyTorch. Needs the `train` extra, never the native extension."""

from o3bnn.train.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from o3bnn.train.layers import (
    BinaryConv2d,
    BinaryLinear,
    BinaryPixelEncoding,
    LogitScale,
    PixelEncoding,
    Sign,
    binarize,
    clip_latent_weights,
)
from o3bnn.train.networks import NETWORKS, build

__all__ = [
    "NETWORKS",
    "BinaryConv2d",
    "BinaryLinear",
    "BinaryPixelEncoding",
    "CheckpointInfo",
    "LogitScale",
    "PixelEncoding",
    "Sign",
    "binarize",
    "build",
    "clip_latent_weights",
    "load_checkpoint",
    "save_checkpoint",
]

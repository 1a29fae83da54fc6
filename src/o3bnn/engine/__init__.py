"""Runs networks on the CPU, natively and exactly, and counts the edges that pruning saves."""

from o3bnn.engine.engine import Engine

__all__ = ["Engine"]

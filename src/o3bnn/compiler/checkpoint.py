"""Compiles a training checkpoint."""

from pathlib import Path

from o3bnn.compiler.lower import compile  # noqa: A004  (the field's word for this step)
from o3bnn.model import Network
from o3bnn.train.checkpoint import load_checkpoint


def compile_checkpoint(path: str | Path, *, network: str | None = None) -> Network:
    """The integer network of a checkpoint that `o3bnn.train.checkpoint.save_checkpoint` wrote.

    network: as in `load_checkpoint`, the `module:function` of a network of one's own.

    Raises:
        ArtifactError: the file is missing, damaged, of another format or too new.
    """
    module, info = load_checkpoint(path, network=network)
    return compile(
        module,
        image=info.image,
        name=info.network,
        class_names=info.class_names,
        cover=info.cover,
        metadata=info.metadata,
    )

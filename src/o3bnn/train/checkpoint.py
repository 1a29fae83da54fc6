"""Checkpoints without pickle: a safetensors file of the state dict, and the rest as JSON in its metadata.

Metadata key `o3bnn` holds {"format": "o3bnn-checkpoint", "version": 1, "network", "options", "class_names", "image",
"cover", "metadata"}. A file from anybody can be opened safely: the network is first built without memory, and its
shapes are compared with the file's before any tensor is read.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from o3bnn.errors import ArtifactError, InputError, os_error_text
from o3bnn.model.files import write_whole
from o3bnn.train.networks import NETWORKS, build, defaults

FORMAT = "o3bnn-checkpoint"
VERSION = 1
METADATA_KEY = "o3bnn"
OWN_NETWORK = re.compile(r"[\w.]{1,200}:\w{1,100}")


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about its model.

    network, options: what `networks.build` makes the module from; `module:function` is one of the user's own.
    image: (height, width, channels).
    class_names: one a class, or none. cover: (height, width) that larger images are scaled to cover, or None.
    metadata: free text (data, accuracy, seed).
    """

    network: str
    options: Mapping[str, Any]
    image: tuple[int, int, int]
    class_names: tuple[str, ...] = ()
    cover: tuple[int, int] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    *,
    network: str,
    options: Mapping[str, Any] | None = None,
    image: tuple[int, int, int] | None = None,
    class_names: Sequence[str] = (),
    cover: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> CheckpointInfo:
    """Write a model that `networks.build(network, **options)` made; the file appears whole or not at all.

    image: (height, width, channels), where the network has no option of that name.

    Raises:
        InputError: an unknown network or option, a model of other shapes, or metadata that is not text.
        ArtifactError: the file cannot be written.
    """
    resolved = {key: _plain(value) for key, value in {**defaults(network), **(options or {})}.items()}
    size = _plain(resolved.get("image", image))
    if not _is_sizes(size, 3):
        raise InputError(f"image = {size!r} is not (height, width, channels)")
    image = cast("tuple[int, int, int]", tuple(size))
    text = {str(key): value for key, value in (metadata or {}).items()}
    if not all(isinstance(value, str) for value in text.values()):
        raise InputError(f"checkpoint metadata {text!r} must map text to text")
    info = CheckpointInfo(network, resolved, image, tuple(class_names), cover and (cover[0], cover[1]), text)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    _check_state(_skeleton(info), _shapes(state), InputError, f"the model is not {network} with options {resolved}")
    document = {"format": FORMAT, "version": VERSION, **vars(info)}
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, save(state, {METADATA_KEY: json.dumps(document, allow_nan=False)}))
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {os_error_text(error)}") from error
    return info


def load_checkpoint(path: str | Path, *, network: str | None = None) -> tuple[nn.Sequential, CheckpointInfo]:
    """The module, on the CPU and in eval mode, and what the file says about it.

    network: the `module:function` that makes it, where it is not a provided one. A file cannot have code imported that
    the caller has not named.

    Raises:
        ArtifactError: the file is missing, damaged, of another format or too new, or its shapes do not fit its network.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            info = _read_info(file.metadata(), path)
            if info.network not in NETWORKS and info.network != network:
                raise ArtifactError(
                    f"{path}: its network is made by {info.network}, not a provided one: if you trust that code, name "
                    f"it (o3bnn compile --network {info.network})"
                )
            module = _skeleton(info)
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
            shapes = {key: (tuple(part.get_shape()), part.get_dtype()) for key, part in slices.items()}
            _check_state(module, shapes, ArtifactError, f"{path}: its tensors do not fit network {info.network!r}")
            state = {key: file.get_tensor(key) for key in slices}
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: not a readable safetensors file: {error}: save or copy it again") from error
    except InputError as error:
        raise ArtifactError(f"{path}: {error}") from error
    module.load_state_dict(state, assign=True)
    return module.eval(), info


def _plain(value: Any) -> Any:
    return [int(item) for item in value] if isinstance(value, tuple | list) else value


def _skeleton(info: CheckpointInfo) -> nn.Sequential:
    """The module with shapes and no memory."""
    try:
        with torch.device("meta"):
            return build(info.network, **info.options)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        options = dict(info.options)
        raise InputError(f"network {info.network!r} with options {options} cannot be built: {error}") from error


_DTYPES = {torch.float32: "F32", torch.int64: "I64", torch.int16: "I16"}

Shapes = dict[str, tuple[tuple[int, ...], str]]


def _shapes(state: Mapping[str, Tensor]) -> Shapes:
    return {key: (tuple(value.shape), _DTYPES.get(value.dtype, str(value.dtype))) for key, value in state.items()}


def _check_state(module: nn.Module, found: Shapes, error: type[Exception], what: str) -> None:
    """Raise unless the tensors found are the module's, by name, shape and type."""
    wanted = _shapes(module.state_dict())
    for key in sorted(wanted.keys() | found.keys()):
        if key not in found:
            raise error(f"{what}: {key} is missing")
        if key not in wanted:
            raise error(f"{what}: {key} does not belong to it")
        if wanted[key] != found[key]:
            raise error(f"{what}: {key} is {_text(found[key])}, expected {_text(wanted[key])}")


def _text(shape: tuple[tuple[int, ...], str]) -> str:
    return f"{shape[1]} {list(shape[0])}"


def _read_info(metadata: Mapping[str, str] | None, path: Path) -> CheckpointInfo:
    """Parse and check the JSON document; raises ArtifactError."""
    try:
        document = json.loads((metadata or {})[METADATA_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: not an o3bnn checkpoint: no readable {METADATA_KEY!r} in its metadata") from error
    if isinstance(document, dict) and document.get("format") == METADATA_KEY:
        raise ArtifactError(f"{path}: not an o3bnn checkpoint but a model file, compiled already: load or run it")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ArtifactError(f"{path}: not an o3bnn checkpoint (format is not {FORMAT!r})")
    if document.get("version") != VERSION:
        raise ArtifactError(
            f"{path}: checkpoint version {document.get('version')!r}, but this o3bnn reads {VERSION}: upgrade o3bnn"
        )

    def check(key: str, valid: bool) -> None:
        if not valid:
            raise ArtifactError(f"{path}: {key} is {str(document.get(key))[:100]!r}, which is not valid")

    network: Any = document.get("network")
    options: Any = document.get("options")
    image: Any = document.get("image")
    names: Any = document.get("class_names")
    cover: Any = document.get("cover")
    text: Any = document.get("metadata")
    provided = isinstance(network, str) and network in NETWORKS
    check("network", provided or (isinstance(network, str) and OWN_NETWORK.fullmatch(network) is not None))
    check("options", isinstance(options, dict))
    check("image", _is_sizes(image, 3) and image == options.get("image", None if provided else image))
    check("class_names", isinstance(names, list) and all(isinstance(name, str) for name in names))
    check("cover", cover is None or _is_sizes(cover, 2))
    check("metadata", isinstance(text, dict) and all(isinstance(value, str) for value in text.values()))
    return CheckpointInfo(network, options, tuple(image), tuple(names), None if cover is None else tuple(cover), text)


def _is_sizes(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(v, int) and not isinstance(v, bool) and 0 < v < 1 << 20 for v in value)
    )

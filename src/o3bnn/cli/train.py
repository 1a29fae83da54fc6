"""`o3bnn train`: a network on a data set, into a folder."""

from collections.abc import Mapping
from enum import StrEnum
from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer

from o3bnn.cli.console import print_json, printable, results
from o3bnn.cli.imports import ImportOptions
from o3bnn.cli.options import JsonOption, LimitOption
from o3bnn.errors import InputError, MissingExtraError

AUGMENTATION: dict[str, tuple[int, bool]] = {"mnist": (2, False), "cifar10": (4, True), "folder": (8, True)}


class OptimizerName(StrEnum):
    """Which optimizer."""

    ADAM = "adam"
    ADAMW = "adamw"


class PrecisionName(StrEnum):
    """Of the forward and backward pass."""

    BF16 = "bf16"
    FLOAT32 = "float32"


def train_command(
    network: Annotated[
        str, typer.Argument(metavar="NET", help="cnv, vgg_like, alexnet, vgg16, mlp, or your own as module:function.")
    ],
    data: Annotated[
        str, typer.Option("--data", metavar="NAME:DIR", help="Data set: cifar10:DIR, mnist:DIR or folder:DIR.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out after its last epoch.")] = False,
    epochs: Annotated[int, typer.Option("--epochs", min=1)] = 40,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images a step, over all devices.")] = 125,
    optimizer: Annotated[OptimizerName, typer.Option("--optimizer")] = OptimizerName.ADAM,
    lr: Annotated[float, typer.Option("--lr", help="Highest learning rate.")] = 3e-3,
    weight_decay: Annotated[float, typer.Option("--weight-decay")] = 0.0,
    warmup: Annotated[
        float, typer.Option("--warmup", help="Epochs of rising learning rate; then half a cosine.")
    ] = 1.0,
    clip: Annotated[float, typer.Option("--clip", help="Latent weights stay within this.")] = 1.0,
    label_smoothing: Annotated[float, typer.Option("--label-smoothing")] = 0.0,
    lambda_pool: Annotated[float, typer.Option("--lambda-pool", help="Weight of the pooling term.")] = 0.0,
    lambda_threshold: Annotated[float, typer.Option("--lambda-threshold", help="Weight of the threshold term.")] = 0.0,
    ramp_start: Annotated[float, typer.Option("--ramp-start", help="Epochs before the pruning terms begin.")] = 0.0,
    ramp: Annotated[float, typer.Option("--ramp", help="Epochs over which the pruning terms rise.")] = 0.0,
    through_weights: Annotated[
        float, typer.Option("--through-weights", help="Share of the pruning terms' gradient that reaches the weights.")
    ] = 0.0,
    norm_rate: Annotated[
        float, typer.Option("--norm-rate", help="Factor on the learning rate of batch norm's parameters.")
    ] = 1.0,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", metavar="CHECKPOINT", help="Learn from this network's logits too.")
    ] = None,
    distill: Annotated[float, typer.Option("--distill", help="The teacher's share of the loss, 0 to 1.")] = 0.5,
    temperature: Annotated[float, typer.Option("--temperature", help="Softens the teacher's logits.")] = 2.0,
    shift: Annotated[
        int | None, typer.Option("--shift", min=0, help="Move images by up to so many pixels; default: by data set.")
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror every other image; default: by data set.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Option of the network, such as width=0.5."),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="HxWxC", help="Image size, for folder:DIR; default: the network's.")
    ] = None,
    stored: Annotated[
        str | None,
        typer.Option(
            "--stored-size", metavar="HxWxC", help="Keep a folder's images at this size, scale up on the device."
        ),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="CHECKPOINT", help="Start from these weights (fine-tuning).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    precision: Annotated[PrecisionName, typer.Option("--precision")] = PrecisionName.BF16,
    profile_images: Annotated[
        int, typer.Option("--profile-images", min=1, metavar="N", help="Test images whose pruned edges are counted.")
    ] = 200,
    limit: LimitOption = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads of a process.")] = None,
    accelerator: Annotated[str, typer.Option("--accelerator", help="cpu, gpu or auto.")] = "auto",
    devices: Annotated[str, typer.Option("--devices", help="How many devices, or auto.")] = "auto",
    nodes: Annotated[int, typer.Option("--nodes", min=1)] = 1,
    json: JsonOption = False,
) -> None:
    """Train a binarized network; every epoch is evaluated as compiled."""
    shifted, mirrored = AUGMENTATION.get(data.partition(":")[0], (0, False))
    recipe = {
        "epochs": epochs,
        "batch": batch,
        "optimizer": optimizer.value,
        "lr": lr,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "clip": clip,
        "label_smoothing": label_smoothing,
        "lambda_pool": lambda_pool,
        "lambda_threshold": lambda_threshold,
        "ramp_start": ramp_start,
        "ramp": ramp,
        "through_weights": through_weights,
        "norm_rate": norm_rate,
        "distill": 0.0 if teacher is None else distill,
        "temperature": temperature,
        "shift": shifted if shift is None else shift,
        "flip": mirrored if flip is None else flip,
        "seed": seed,
        "precision": precision.value,
    }
    try:
        from o3bnn.cli.training import Job
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"torch", "lightning"}:
            raise
        raise MissingExtraError("training needs PyTorch and Lightning: pip install 'o3bnn[train]'") from error
    job = Job(
        network=network,
        options=_options(option or []),
        image=ImportOptions(image).image_shape(),
        stored=ImportOptions(stored).image_shape(),
        data=data,
        limit=limit,
        folder=out,
        recipe=recipe,
        start=start,
        teacher=teacher,
        profile_images=profile_images,
        threads=threads,
    )
    rows = job.run(resume=resume, accelerator=accelerator, devices=devices, nodes=nodes)
    if not rows:
        return
    if json:
        print_json({"folder": str(out), "network": network, "data": data, "settings": recipe, "epochs": rows})
    else:
        results().print(printable(f"{out}: {describe(rows[-1])}; o3bnn compile {out / 'last.safetensors'} -o MODEL"))


def _options(texts: list[str]) -> dict[str, Any]:
    """`KEY=VALUE`, where a value that is JSON is taken as such."""
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"--option {text!r} is not KEY=VALUE, such as width=0.5")
        try:
            options[key] = loads(value)
        except ValueError:
            options[key] = value
    return options


def describe(row: Mapping[str, float]) -> str:
    """One epoch in one line."""
    parts = [f"epoch {row['epoch']:.0f}", f"loss {row['loss']:.4f}"]
    if "pruning_loss" in row:
        parts.append(f"pruning loss {row['pruning_loss']:.4f}")
    if "accuracy" in row:
        parts.append(f"accuracy {100 * row['accuracy']:.2f}%")
    if "pruned_b1" in row:
        parts.append(f"pruned {100 * row['pruned_b1']:.1f}% (B=1), {100 * row['pruned_b64']:.1f}% (B=64)")
    return ", ".join([*parts, f"{row['train_seconds']:.0f} s"])

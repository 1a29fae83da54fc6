"""What `o3bnn train` does once its options are read. Needs torch, so `cli/train.py` imports it late."""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from o3bnn.cli.console import note
from o3bnn.cli.eval import class_indices
from o3bnn.cli.train import describe
from o3bnn.compiler import compile as compile_module
from o3bnn.data import Dataset, open_dataset
from o3bnn.engine import Engine
from o3bnn.engine.engine import Images
from o3bnn.errors import InputError, MissingExtraError
from o3bnn.model import InputEncoding
from o3bnn.report.training import plot_training
from o3bnn.train.checkpoint import load_checkpoint
from o3bnn.train.networks import build, defaults, factory
from o3bnn.train.session import Row, Run, train
from o3bnn.train.settings import TrainSettings

CURVE = "curve.svg"
EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Job:
    """The command's options; see `o3bnn train --help`."""

    network: str
    options: dict[str, Any]
    image: tuple[int, int, int] | None
    stored: tuple[int, int, int] | None
    data: str
    limit: int | None
    folder: Path
    recipe: Mapping[str, Any]
    start: Path | None
    teacher: Path | None
    profile_images: int
    threads: int | None

    def run(self, *, resume: bool, accelerator: str, devices: str, nodes: int) -> list[Row]:
        """Train; returns the log's rows."""
        settings = TrainSettings(**self.recipe)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        size = self._image()
        training = open_dataset(self.data, "train", self.limit, _encoding(self.stored or size))
        test = open_dataset(self.data, "test", self.limit, _encoding(size))
        options = self._options(test)
        torch.manual_seed(settings.seed)
        net = build(self.network, **options)
        if self.start is not None:
            _take_weights(net, self.start)
        teacher = None if self.teacher is None else load_checkpoint(self.teacher)[0]
        real = bool(options.get("real_valued"))
        watcher = Watcher(test, self.profile_images, self.threads, self.folder / CURVE, settings.epochs)
        run = Run(
            folder=self.folder,
            build=lambda: build(self.network, **options),
            network=self.network,
            options=options,
            image=test.shape,
            class_names=training.class_names,
            data=self.data,
            start="" if self.start is None else str(self.start),
            teacher="" if self.teacher is None else str(self.teacher),
            evaluate=watcher.accuracy if real else watcher.evaluate,
            on_epoch=watcher.show,
        )
        count = int(devices) if devices.isdecimal() and int(devices) else devices
        if isinstance(count, str) and count != "auto":
            raise InputError(f"--devices {devices!r} is neither a number of devices nor auto")
        return train(
            net,
            training.load(),
            settings,
            run,
            resume=resume,
            teacher=teacher,
            accelerator=accelerator,
            devices=count,
            nodes=nodes,
        )

    def _image(self) -> tuple[int, int, int] | None:
        """The size that a folder's images are scaled to; None where the data set has a size of its own."""
        if not self.data.startswith("folder:"):
            if self.image or self.stored:
                raise InputError(f"--image and --stored-size are for folder:DIR; {self.data} has a size of its own")
            return None
        size = self.image or defaults(self.network).get("image")
        if size is None:
            raise InputError(f"give --image HxWxC: network {self.network} does not say how large its images are")
        return tuple(size)

    def _options(self, dataset: Dataset) -> dict[str, Any]:
        """The network's options, with the image size and classes of the data where it has such options."""
        parameters = inspect.signature(factory(self.network)).parameters
        found = {"image": list(dataset.shape), "classes": len(dataset.class_names)}
        return {key: value for key, value in found.items() if key in parameters} | self.options


def _encoding(size: tuple[int, int, int] | None) -> InputEncoding | None:
    return None if size is None else InputEncoding(*size)


def _take_weights(net: nn.Sequential, path: Path) -> None:
    """Start from a checkpoint of the same network."""
    source, info = load_checkpoint(path)
    try:
        net.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"--from {path}: it is {info.network} with options {dict(info.options)}, of other shapes"
        ) from error


class Watcher:
    """Evaluates every epoch's network as users will run it, and shows how the run goes."""

    def __init__(self, test: Dataset, profile_images: int, threads: int | None, curve: Path, epochs: int) -> None:
        self.test, self.profile_images, self.threads = test, profile_images, threads
        self.curve, self.epochs = curve, epochs

    def evaluate(self, module: nn.Sequential) -> Row:
        """Accuracy of the compiled network on the native engine over the whole test split, and exact pruned shares.

        Shares are over the binary stages and the first images of the split, at B = 1 and B = 64.
        """
        network = compile_module(module, image=self.test.shape, class_names=self.test.class_names)
        engine = Engine(network, threads=self.threads)
        class_of = class_indices(network, self.test)
        correct, first = 0, list[Images]()
        for images, labels in self.test.batches(EVALUATION_BATCH):
            correct += int((engine.predict(images) == class_of[labels]).sum())
            if sum(len(part) for part in first) < self.profile_images:
                first.append(images)
        sample = np.concatenate(first)[: self.profile_images]
        row: Row = {"accuracy": correct / len(self.test)}
        for word in (1, 64):
            row[f"pruned_b{word}"] = engine.profile(sample, word=word).total("binary").pruned_share
        return row

    @torch.no_grad()
    def accuracy(self, module: nn.Sequential) -> Row:
        """Accuracy in PyTorch, of a network that cannot be compiled."""
        correct = 0
        for images, labels in self.test.batches(EVALUATION_BATCH):
            logits = module(torch.tensor(images).permute(0, 3, 1, 2).float())
            correct += int((logits.argmax(1).numpy() == labels).sum())
        return {"accuracy": correct / len(self.test)}

    def show(self, rows: list[Row]) -> None:
        """One line an epoch, and the curve drawn again."""
        print(f"{describe(rows[-1])} (of {self.epochs})", file=sys.stderr, flush=True)
        try:
            plot_training(rows, self.curve)
        except MissingExtraError as error:
            if len(rows) == 1:
                note(str(error))

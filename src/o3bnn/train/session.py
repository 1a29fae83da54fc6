"""A training run in a folder: trains, evaluates and saves every epoch, and goes on where it was interrupted.

The folder holds `last.safetensors` and `best.safetensors` (checkpoints that `o3bnn compile` reads), `log.csv` (one row
an epoch) and `resume.ckpt` (what else a restart needs; tensors and plain values only). Each is replaced whole.
"""

import csv
import ctypes
import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from torch import nn

from o3bnn.data.base import Batch
from o3bnn.errors import ArtifactError, InputError, os_error_text
from o3bnn.model.files import write_whole
from o3bnn.train.batches import TrainingBatches
from o3bnn.train.checkpoint import save_checkpoint
from o3bnn.train.module import BinaryTraining
from o3bnn.train.settings import TrainSettings

RESUME, LOG, LAST, BEST = "resume.ckpt", "log.csv", "last.safetensors", "best.safetensors"
RUN_KEY = "o3bnn_run"

Row = dict[str, float]
Evaluate = Callable[[nn.Sequential], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is trained, and where its files go.

    folder: of the run. build: makes the untrained module, which `network` and `options` name in checkpoints; image,
    class_names, cover: as there. data, start, teacher: what it was trained on, from and by, for the record.
    evaluate: called with a copy of the module, on the CPU and in eval mode, after every epoch; its figures go into the
    log, and `accuracy` among them decides which epoch is the best. on_epoch: called after every epoch with all rows.
    """

    folder: Path
    build: Callable[[], nn.Sequential]
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    image: tuple[int, int, int] | None = None
    class_names: Sequence[str] = ()
    cover: tuple[int, int] | None = None
    data: str = ""
    start: str = ""
    teacher: str = ""
    evaluate: Evaluate | None = None
    on_epoch: Callable[[list[Row]], None] | None = None


def train(
    net: nn.Sequential,
    batch: Batch,
    settings: TrainSettings,
    run: Run,
    *,
    resume: bool = False,
    teacher: nn.Module | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    nodes: int = 1,
) -> list[Row]:
    """Train a network; returns the rows of the log (none in a process that only helps).

    batch: all training images, uint8 [n, height, width, channels], and labels. resume: go on after the last whole epoch
    of the folder, bit for bit as if nothing had happened; a finished run returns at once. accelerator, devices, nodes:
    as Lightning's `Trainer` takes them; several devices share every batch. On a CPU with glibc, the process keeps the
    memory that it frees from then on: steps would spend their time in page faults.

    Raises:
        InputError: settings that do not fit the data, a folder that holds a run (without `resume`) or another one.
        ArtifactError: a file cannot be read or written.
        KeyboardInterrupt: interrupted; `last.safetensors` is the network as it was then.
    """
    _prepare(run.folder, resume)
    keeper = _Keeper(run, settings)
    ckpt = run.folder / RESUME
    if resume and ckpt.is_file():
        keeper.check(ckpt)
    trainer = _trainer(settings, keeper, accelerator, devices, nodes)
    if trainer.strategy.root_device.type == "cpu":
        _keep_freed_memory()
    batches = TrainingBatches(
        batch.images,
        batch.labels,
        settings,
        size=None if run.image is None else run.image[:2],
        epoch=lambda: trainer.current_epoch,
        device=lambda: trainer.strategy.root_device,
        rank=trainer.global_rank,
        world=trainer.world_size,
    )
    module = BinaryTraining(net.to(memory_format=torch.channels_last), settings, batches, teacher)  # type: ignore[call-overload]
    try:
        _fit(trainer, module, ckpt if resume and ckpt.is_file() else None)
    finally:
        if module.regularizer is not None:
            module.regularizer.close()
    return keeper.rows if trainer.is_global_zero else []


def _keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next tensors (`mallopt`); other C libraries are left as they are.

    By default it takes every large block from the system and gives it back at once, and every page of it faults.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    m_trim_threshold, m_mmap_max = -1, -4
    mallopt(m_trim_threshold, -1)
    mallopt(m_mmap_max, 0)


def _prepare(folder: Path, resume: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot make the folder {folder}: {os_error_text(error)}") from error
    if not resume and (folder / RESUME).exists() and "LOCAL_RANK" not in os.environ:
        raise InputError(f"{folder} holds a training run: add --resume to go on with it, or choose another folder")


def _trainer(settings: TrainSettings, keeper: "_Keeper", accelerator: str, devices: int | str, nodes: int) -> Trainer:
    for name in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    callbacks: list[Callback] = [keeper]
    if sys.stderr.isatty():
        callbacks.append(RichProgressBar(leave=False))
    return Trainer(
        max_epochs=settings.epochs,
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        precision="bf16-mixed" if settings.precision == "bf16" else "32-true",
        callbacks=callbacks,
        enable_progress_bar=sys.stderr.isatty(),
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        logger=False,
        num_sanity_val_steps=0,
    )


def _fit(trainer: Trainer, module: LightningModule, ckpt: Path | None) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        try:
            trainer.fit(module, ckpt_path=ckpt, weights_only=True)
        except SystemExit as stop:  # how Lightning ends after Ctrl-C
            if trainer.interrupted:
                raise KeyboardInterrupt from stop
            raise


class _Keeper(Callback):
    """Evaluates and saves after every epoch."""

    def __init__(self, run: Run, settings: TrainSettings) -> None:
        self.run, self.settings = run, settings
        self.rows: list[Row] = []
        self._start = time.perf_counter()

    def check(self, ckpt: Path) -> None:
        """Raise unless the file belongs to this run with these settings."""
        try:
            state = torch.load(ckpt, map_location="cpu", weights_only=True, mmap=True)["callbacks"][RUN_KEY]
            found, settings = state["run"], state["settings"]
        except Exception as error:  # whatever a damaged file makes of it
            raise ArtifactError(
                f"{ckpt} cannot be read ({type(error).__name__}): start anew without --resume"
            ) from error
        mine = self._description()
        for name, value in mine.items():
            if found.get(name, "") != value:
                raise InputError(f"{ckpt} is of another run: {name} is {value!r}, but was {found.get(name, '')!r}")
        difference = self.settings.difference(settings)
        if difference:
            raise InputError(f"{ckpt} is of a run with other settings: {difference}: give the same to resume it")

    @property
    def state_key(self) -> str:
        return RUN_KEY

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "run": self._description(), "settings": self.settings.to_json()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, BinaryTraining)
        row: Row = {"epoch": trainer.current_epoch + 1, **pl_module.means()}
        row["lr"] = self.settings.lr * self.settings.rate(trainer.current_epoch + 1)
        row["train_seconds"] = round(time.perf_counter() - self._start, 3)
        if trainer.is_global_zero:
            module = self._copy(pl_module)
            if self.run.evaluate is not None:
                row |= self.run.evaluate(module)
            best = max((r["accuracy"] for r in self.rows if "accuracy" in r), default=-1.0)
            self.rows = [*self.rows, row]
            self._save(module, LAST, trainer.current_epoch + 1)
            if row.get("accuracy", 0.0) > best:
                self._save(module, BEST, trainer.current_epoch + 1)
        self._save_state(trainer)
        if trainer.is_global_zero:
            write_whole(self.run.folder / LOG, _csv(self.rows))
            if self.run.on_epoch is not None:
                self.run.on_epoch(self.rows)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            self._save(self._copy(pl_module), LAST, trainer.current_epoch)

    def _copy(self, module: LightningModule) -> nn.Sequential:
        """The network as it is, on the CPU in eval mode and without hooks."""
        assert isinstance(module, BinaryTraining)
        net = self.run.build()
        net.load_state_dict({name: value.cpu().contiguous() for name, value in module.net.state_dict().items()})
        return net.eval()

    def _save(self, module: nn.Sequential, name: str, epochs: int) -> None:
        """Write a checkpoint that `o3bnn compile` reads."""
        recipe = {key: str(value) for key, value in self.settings.to_json().items() if key != "epochs"}
        recipe |= {"started_from": self.run.start} if self.run.start else {}
        recipe |= {"teacher": self.run.teacher} if self.run.teacher else {}
        save_checkpoint(
            self.run.folder / name,
            module,
            network=self.run.network,
            options=self.run.options,
            image=self.run.image,
            class_names=self.run.class_names,
            cover=self.run.cover,
            metadata={"data": self.run.data, "epochs": f"{epochs} of {self.settings.epochs}", **recipe},
        )

    def _save_state(self, trainer: Trainer) -> None:
        """Write what a restart needs; every process takes part, one writes."""
        temporary = self.run.folder / f".{RESUME}.tmp"
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(self.run.folder / RESUME)

    def _description(self) -> dict[str, Any]:
        run = self.run
        return {
            "network": run.network,
            "options": dict(run.options),
            "data": run.data,
            "start": run.start,
            "teacher": run.teacher,
        }


def _csv(rows: list[Row]) -> bytes:
    stream = io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()

"""One training step: the task's loss, the teacher's, the pruning terms; the schedule; clipped latent weights."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from o3bnn.train.batches import Sample, TrainingBatches
from o3bnn.train.layers import clip_latent_weights
from o3bnn.train.regularizers import PruningRegularizer
from o3bnn.train.settings import TrainSettings


class BinaryTraining(LightningModule):
    """Trains `net` on `batches` as `settings` say; teacher: a module from pixels to logits, in eval mode, or None."""

    def __init__(
        self, net: nn.Sequential, settings: TrainSettings, batches: TrainingBatches, teacher: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.net = net
        self.settings = settings
        self.batches = batches
        self._teacher: list[nn.Module] = []  # a list: not a submodule
        if teacher is not None:
            teacher = teacher.eval().requires_grad_(False)
            self._teacher.append(teacher.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        self.regularizer: PruningRegularizer | None = None
        if settings.lambda_pool or settings.lambda_threshold:
            self.regularizer = PruningRegularizer(
                net,
                pool=settings.lambda_pool,
                threshold=settings.lambda_threshold,
                through_weights=settings.through_weights,
            )
        self.sums: dict[str, Tensor] = {}
        self._norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
        self._momenta = [norm.momentum for norm in self._norms]
        # Input tables are constants, of a type that not every collective library sends.
        self._ddp_params_and_buffers_to_ignore = [
            name for name, buffer in self.named_buffers() if buffer.dtype == torch.int16
        ]

    def train_dataloader(self) -> TrainingBatches:
        return self.batches

    def on_train_epoch_start(self) -> None:
        self.sums = {}
        # What a forward pass may draw depends on the epoch alone, so that a resumed run goes on bit for bit.
        torch.manual_seed(self.settings.seed * 1_000_003 + self.current_epoch)
        for teacher in self._teacher:
            teacher.to(self.device)

    def training_step(self, batch: Sample, index: int) -> Tensor:
        pixels, labels = batch
        logits = self.net(pixels).float()
        loss = functional.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
        self._add("loss", loss)
        for teacher in self._teacher:
            loss = torch.lerp(loss, self._distillation(logits, teacher(pixels).float()), self.settings.distill)
        if self.regularizer is not None:
            term = self.regularizer()
            self._add("pruning_loss", term)
            weight = self.settings.pruning_weight(self.current_epoch + index / len(self.batches))
            loss = loss + weight * term
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """At the end, when the rate is near 0, batch norm's running statistics become means over all batches."""
        steps = self.settings.epochs * len(self.batches)
        averaged = max(1, min(steps // 10, len(self.batches)))
        index = self.current_epoch * len(self.batches) + batch_idx - (steps - averaged)
        if index >= 0:
            for norm in self._norms:
                norm.momentum = 1 / (index + 1)

    def on_train_end(self) -> None:
        for norm, momentum in zip(self._norms, self._momenta, strict=True):
            norm.momentum = momentum

    def means(self) -> dict[str, float]:
        """Means of the loss terms over the steps of this epoch, unweighted by the schedule."""
        return {name: value.item() / len(self.batches) for name, value in self.sums.items()}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        clip_latent_weights(self.net, self.settings.clip)

    def configure_optimizers(self) -> Any:
        settings = self.settings
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        norms = [p for norm in self._norms for p in norm.parameters(recurse=False)]
        known = set(norms)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.net.parameters() if p not in known]},
            {"params": norms, "lr": settings.lr * settings.norm_rate},
        ]
        optimizer = kind(groups, lr=settings.lr, weight_decay=settings.weight_decay)
        steps = len(self.batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: settings.rate((step + 1) / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _distillation(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy with the teacher's softened classes (Hinton et al., arXiv 1503.02531)."""
        temperature = self.settings.temperature
        targets = functional.softmax(wanted / temperature, dim=1)
        return temperature**2 * functional.cross_entropy(logits / temperature, targets)

    def _add(self, name: str, value: Tensor) -> None:
        """Sums stay on the device: reading them every step would make the host wait."""
        value = value.detach()
        self.sums[name] = self.sums[name] + value if name in self.sums else value

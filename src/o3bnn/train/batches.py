"""Training images: held as bytes on the training device, drawn, moved and mirrored there batch by batch."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from o3bnn.errors import InputError
from o3bnn.train.settings import TrainSettings

Sample = tuple[Tensor, Tensor]


class TrainingBatches:
    """One epoch after another of augmented batches, the same for the same seed on every device and after a restart.

    images: uint8 [n, height, width, channels]; labels: int64 [n]. Yields float32 pixels 0..255
    [b, channels, height, width] (channels last in memory) and int64 labels [b].
    size: (height, width) that images are scaled to on the device, after augmentation; by default their own.
    epoch, device: asked at the start of every epoch. rank, world: this process takes every world-th image of the
    epoch's order, so that a step of all processes sees `settings.batch` images; the last, incomplete step is left out.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        settings: TrainSettings,
        *,
        size: tuple[int, int] | None = None,
        epoch: Callable[[], int] = lambda: 0,
        device: Callable[[], torch.device] = lambda: torch.device("cpu"),
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if settings.batch % world:
            raise InputError(f"batch = {settings.batch} does not divide among {world} processes")
        if settings.batch > len(images):
            raise InputError(f"batch = {settings.batch} is more than the {len(images)} training images")
        if settings.shift >= min(images.shape[1:3]):
            raise InputError(f"shift = {settings.shift} moves images of {images.shape[1]} x {images.shape[2]} away")
        self._images, self._labels = torch.tensor(images), torch.tensor(labels)
        self._settings = settings
        self._size = None if size is None or tuple(size) == images.shape[1:3] else tuple(size)
        self._epoch, self._device = epoch, device
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        return len(self._labels) // self._settings.batch

    def __iter__(self) -> Iterator[Sample]:
        settings, device = self._settings, self._device()
        self._images, self._labels = self._images.to(device), self._labels.to(device)
        order = torch.randperm(len(self._labels), generator=_generator(settings.seed, self._epoch(), 0))
        generator = _generator(settings.seed, self._epoch(), 1 + self._rank)
        for step in range(len(self)):
            chosen = order[step * settings.batch : (step + 1) * settings.batch][self._rank :: self._world].to(device)
            images = augment(self._images[chosen], settings.shift, settings.flip, generator)
            pixels = images.permute(0, 3, 1, 2).float()
            if self._size is not None:  # to whole numbers, as pixels of image files are
                pixels = functional.interpolate(pixels, self._size, mode="bilinear").round_()
            yield pixels, self._labels[chosen]


def augment(images: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Images [n, height, width, channels] each moved by -shift..shift pixels in both directions and mirrored or not.

    Black (0) comes in. generator: on the CPU, so that every device gives the same images.
    """
    if shift == 0 and not flip:
        return images
    n, height, width, _ = images.shape
    down, right = (torch.randint(0, 2 * shift + 1, (n, 1), generator=generator) for _ in range(2))
    mirrored = torch.randint(0, 2 if flip else 1, (n, 1), generator=generator, dtype=torch.bool)
    columns = torch.arange(width)
    rows = (down + torch.arange(height)).to(images.device)
    columns = (right + torch.where(mirrored, columns.flip(0), columns)).to(images.device)
    padded = functional.pad(images, (0, 0, shift, shift, shift, shift))
    image = torch.arange(n, device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]]


def _generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    """Random numbers of their own for every epoch and stream: nothing needs to be saved to go on after an epoch."""
    state = np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)

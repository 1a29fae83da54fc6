import numpy as np
import pytest
import torch
from PIL import Image

from o3bnn.errors import InputError
from o3bnn.train.batches import TrainingBatches, augment
from o3bnn.train.settings import TrainSettings

IMAGES = np.arange(10 * 4 * 5 * 2, dtype=np.uint8).reshape(10, 4, 5, 2)
LABELS = np.arange(10)


def batches(epoch=0, rank=0, world=1, **settings):
    settings = TrainSettings(**{"batch": 4, **settings})
    return TrainingBatches(IMAGES, LABELS, settings, epoch=lambda: epoch, rank=rank, world=world)


def test_pixels_and_labels_belong_together():
    seen = []
    for pixels, labels in batches():
        assert pixels.dtype == torch.float32 and pixels.is_contiguous(memory_format=torch.channels_last)
        assert (pixels.permute(0, 2, 3, 1).numpy() == IMAGES[labels]).all()
        seen += labels.tolist()
    assert len(seen) == len(set(seen)) == 8 == 4 * len(batches())


def test_order_depends_on_seed_and_epoch_only():
    order = [labels.tolist() for _, labels in batches()]
    assert order == [labels.tolist() for _, labels in batches()]
    assert order != [labels.tolist() for _, labels in batches(epoch=1)]
    assert order != [labels.tolist() for _, labels in batches(seed=1)]


def test_processes_share_every_batch():
    whole = [labels.tolist() for _, labels in batches()]
    parts = [[labels.tolist() for _, labels in batches(rank=rank, world=2)] for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(step) for step in whole]
    assert all(len(step) == 2 for part in parts for step in part)


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_augment_moves_and_mirrors(shift, flip):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (200, 4, 5, 3), dtype=np.uint8)
    got = augment(torch.from_numpy(images), shift, flip, torch.Generator().manual_seed(0)).numpy()
    seen = set()
    for one, image in zip(got, images, strict=True):
        padded = np.pad(image, ((shift, shift), (shift, shift), (0, 0)))
        wanted = {
            (y, x, mirrored): (padded[y : y + 4, x : x + 5, :][:, ::-1] if mirrored else padded[y : y + 4, x : x + 5])
            for y in range(2 * shift + 1)
            for x in range(2 * shift + 1)
            for mirrored in {False, flip}
        }
        matches = [key for key, value in wanted.items() if (one == value).all()]
        assert len(matches) == 1
        seen.add(matches[0])
    assert {y for y, _, _ in seen} == {x for _, x, _ in seen} == set(range(2 * shift + 1))
    assert {mirrored for _, _, mirrored in seen} == {False, flip}


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="batch = 11 is more than the 10 training images"):
        batches(batch=11)
    with pytest.raises(InputError, match="batch = 4 does not divide among 3 processes"):
        batches(world=3)
    with pytest.raises(InputError, match="shift = 4 moves images of 4 x 5 away"):
        batches(shift=4)


def test_images_are_scaled_on_the_device_as_files_are():
    """Enlarged bilinearly, to whole numbers: what the reader of image files does, within one step of rounding."""
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    (pixels, labels), *_ = TrainingBatches(images, np.arange(4), TrainSettings(batch=4), size=(28, 21))
    assert pixels.shape == (4, 3, 28, 21)
    got = pixels.permute(0, 2, 3, 1).numpy()
    wanted = np.stack([Image.fromarray(images[i]).resize((21, 28), Image.Resampling.BILINEAR) for i in labels])
    assert np.abs(got - wanted).max() <= 1 and (got == got.round()).all()

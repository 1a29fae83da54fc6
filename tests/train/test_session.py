"""Training runs: files, resuming bit for bit after a kill, interruption, two processes."""

import csv
import os
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from o3bnn.data.base import Batch
from o3bnn.errors import ArtifactError, InputError
from o3bnn.train.checkpoint import load_checkpoint
from o3bnn.train.networks import build
from o3bnn.train.session import Run, train
from o3bnn.train.settings import TrainSettings

OPTIONS = {"n": 12, "depth": 2, "image": [6, 5, 1], "classes": 3}
BATCH = {"batch": 20, "precision": "float32", "lr": 0.02}


def data(count=120):
    """Three classes by which third of the rows is bright."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 100, (count, 6, 5, 1), dtype=np.uint8)
    for row in range(2):
        images[np.arange(count), 2 * labels + row] += 120
    return Batch(images, labels)


def make():
    return build("mlp", **OPTIONS)


def go(folder, settings, **options):
    run_options = {key: options.pop(key) for key in ("evaluate", "on_epoch", "data") if key in options}
    run = Run(folder=folder, build=make, network="mlp", options=OPTIONS, **run_options)
    torch.manual_seed(settings.seed)
    return train(make(), data(), settings, run, accelerator="cpu", devices=1, **options)


def state(path):
    return {key: value.tolist() for key, value in load_checkpoint(path)[0].state_dict().items()}


def accuracy(module):
    images, labels = data(300)
    with torch.no_grad():
        logits = module(torch.from_numpy(images).permute(0, 3, 1, 2).float())
    return {"accuracy": float((logits.argmax(1).numpy() == labels).mean())}


@pytest.mark.parametrize("found", [True, False], ids=["glibc", "another C library"])
def test_freed_memory_is_kept_where_the_c_library_can(found, tmp_path, monkeypatch):
    calls = []

    def load(name):
        if not found:
            raise OSError(name)
        return SimpleNamespace(mallopt=lambda *options: calls.append(options))

    monkeypatch.setattr("o3bnn.train.session.ctypes.CDLL", load)
    assert len(go(tmp_path, TrainSettings(epochs=1, shift=0, **BATCH))) == 1
    assert calls == ([(-1, -1), (-4, 0)] if found else [])


def test_it_learns_and_leaves_its_files(tmp_path):
    seen = []
    settings = TrainSettings(epochs=6, shift=0, **BATCH)
    rows = go(tmp_path, settings, evaluate=accuracy, on_epoch=lambda rows: seen.append(len(rows)), data="bars")
    assert rows[-1]["accuracy"] > 0.95
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert seen == [1, 2, 3, 4, 5, 6]
    assert {path.name for path in tmp_path.iterdir()} == {
        "last.safetensors",
        "best.safetensors",
        "log.csv",
        "resume.ckpt",
    }
    with (tmp_path / "log.csv").open() as stream:
        log = list(csv.DictReader(stream))
    assert [float(row["loss"]) for row in log] == [row["loss"] for row in rows]
    module, info = load_checkpoint(tmp_path / "last.safetensors")
    assert accuracy(module)["accuracy"] == rows[-1]["accuracy"]
    assert info.metadata["data"] == "bars" and info.metadata["epochs"] == "6 of 6" and info.metadata["lr"] == "0.02"
    best, _ = load_checkpoint(tmp_path / "best.safetensors")
    assert accuracy(best)["accuracy"] == max(row["accuracy"] for row in rows)


def test_latent_weights_stay_clipped(tmp_path):
    go(tmp_path, TrainSettings(epochs=2, clip=0.05, **BATCH))
    weights = [value for key, value in state(tmp_path / "last.safetensors").items() if key.startswith("fc1.")]
    assert weights and np.abs(np.array(weights)).max() == np.float32(0.05)


def test_norm_rate_is_batch_norm_s(tmp_path):
    """Adam's first step moves everything by its rate (the schedule's second step is of rate 0)."""
    settings = TrainSettings(epochs=1, batch=60, warmup=0.0, precision="float32", lr=1e-3, norm_rate=10.0)
    go(tmp_path, settings)
    after = load_checkpoint(tmp_path / "last.safetensors")[0].state_dict()
    torch.manual_seed(settings.seed)
    before = make().state_dict()
    moved = {
        key: (after[key] - before[key]).abs().max().item() for key in ("fc1.weight", "fc_bn1.bias", "fc_bn1.weight")
    }
    assert list(moved.values()) == pytest.approx([5e-4, 5e-3, 5e-3], rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_resuming_is_bit_for_bit(tmp_path, optimizer):
    settings = TrainSettings(
        epochs=4, optimizer=optimizer, weight_decay=0.01, lambda_threshold=0.1, ramp=2, **BATCH | {"precision": "bf16"}
    )
    whole = go(tmp_path / "whole", settings)

    class Stopped(Exception):
        pass

    def stop(rows):
        if len(rows) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        go(tmp_path / "parts", settings, on_epoch=stop)
    rows = go(tmp_path / "parts", settings, resume=True)
    assert state(tmp_path / "parts" / "last.safetensors") == state(tmp_path / "whole" / "last.safetensors")
    assert [row["loss"] for row in rows] == [row["loss"] for row in whole]
    assert go(tmp_path / "parts", settings, resume=True) == rows  # a finished run has nothing left to do


SCRIPT = """
    import sys
    from pathlib import Path
    from tests.train.test_session import BATCH, go
    from o3bnn.train.settings import TrainSettings
    settings = TrainSettings(epochs=int(sys.argv[2]), **BATCH)
    def slow(rows):
        print(len(rows), flush=True)
        __import__("time").sleep(float(sys.argv[3]))
    try:
        go(Path(sys.argv[1]), settings, resume="resume" in sys.argv, on_epoch=slow)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def start(folder, epochs, pause, *more):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), str(epochs), str(pause), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_resuming_after_kill(tmp_path):
    settings = TrainSettings(epochs=3, **BATCH)
    go(tmp_path / "whole", settings)
    process = start(tmp_path / "killed", 3, 60)
    assert process.stdout.readline() == "1\n"
    process.kill()
    process.communicate()
    go(tmp_path / "killed", settings, resume=True)
    assert state(tmp_path / "killed" / "last.safetensors") == state(tmp_path / "whole" / "last.safetensors")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_interrupt_leaves_a_usable_checkpoint(tmp_path):
    process = start(tmp_path, 100_000, 0)
    assert process.stdout.readline() == "1\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not list(tmp_path.glob(".*"))
    _, info = load_checkpoint(tmp_path / "last.safetensors")
    assert info.metadata["epochs"].endswith(" of 100000")
    with (tmp_path / "log.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) >= 1


def test_folder_with_another_run_is_refused(tmp_path):
    settings = TrainSettings(epochs=1, **BATCH)
    go(tmp_path, settings)
    with pytest.raises(
        InputError, match="holds a training run: add --resume to go on with it, or choose another folder"
    ):
        go(tmp_path, settings)
    with pytest.raises(InputError, match=r"other settings: lr is 0\.5, but was 0\.02: give the same to resume it"):
        go(tmp_path, TrainSettings(epochs=1, **BATCH | {"lr": 0.5}), resume=True)
    with pytest.raises(InputError, match="of another run: data is 'other', but was ''"):
        go(tmp_path, settings, resume=True, data="other")
    content = (tmp_path / "resume.ckpt").read_bytes()
    (tmp_path / "resume.ckpt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"resume\.ckpt cannot be read .*: start anew without --resume"):
        go(tmp_path, settings, resume=True)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match="cannot make the folder"):
        go(tmp_path / "file" / "run", settings)


def test_running_statistics_end_as_means_over_the_last_tenth(tmp_path):
    """Of 20 epochs of 6 steps the last tenth is 12 steps, but one epoch at most counts: each of its batches alike."""
    settings = TrainSettings(epochs=20, **BATCH)
    net, seen = make(), []
    norm = next(module for module in net if isinstance(module, torch.nn.BatchNorm1d))
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().mean(0)))
    torch.manual_seed(settings.seed)
    train(
        net,
        data(),
        settings,
        Run(folder=tmp_path, build=make, network="mlp", options=OPTIONS),
        accelerator="cpu",
        devices=1,
    )
    assert len(seen) == 120
    assert torch.allclose(norm.running_mean, torch.stack(seen[-6:]).mean(0), rtol=1e-5, atol=1e-5)
    assert norm.momentum == 0.1


def test_learning_from_a_teacher(tmp_path):
    """A student that is told nothing but the teacher's logits learns the teacher's classes, not the labels."""

    class Teacher(torch.nn.Module):
        def forward(self, pixels):
            rows = pixels.mean(dim=(1, 3))
            return 5 * torch.stack([rows[:, 2:4].mean(1), rows[:, 4:6].mean(1), rows[:, :2].mean(1)], 1) / 100

    go(tmp_path, TrainSettings(epochs=6, distill=1.0, **BATCH), teacher=Teacher())
    images, labels = data(300)
    module, _ = load_checkpoint(tmp_path / "last.safetensors")
    with torch.no_grad():
        found = module(torch.from_numpy(images).permute(0, 3, 1, 2).float()).argmax(1).numpy()
    assert (found == (labels - 1) % 3).mean() > 0.95

"""Latency of one image through `vgg_like`, one thread: this engine beside its peers, in interleaved rounds.

    python bench/peers/latency.py [--larq-python PYTHON] [--rounds 30]

Larq Compute Engine needs its own environment, since it pins TensorFlow 2.13 and NumPy 1:

    python3.11 -m venv larq-env
    larq-env/bin/pip install larq-compute-engine==0.16.0 larq==0.14.0 'tensorflow-cpu==2.13.*' 'numpy<2'
    python bench/peers/latency.py --larq-python larq-env/bin/python

Needs the `train` extra. Weights are random (latency of the dense kernels does not depend on them); the ratio of a
peer is the median over rounds of its round's median against this engine's in the same round. Writes results/peers.csv.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

import o3bnn
from o3bnn.train.networks import build

sys.path.insert(0, str(Path(__file__).parent.parent))
from provenance import RESULTS, provenance

IMAGE = (32, 32, 3)
Round = Callable[[int], list[float]]


def timed(call: Callable[[], object]) -> Round:
    """A round of n calls: the milliseconds of each."""

    def run(n: int) -> list[float]:
        times = []
        for _ in range(n):
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        return times

    return run


def float_twin() -> nn.Sequential:
    """The same topology with ordinary layers: what a user would run instead."""
    layers: list[nn.Module] = [nn.Conv2d(3, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU()]
    for before, after, pools in ((128, 128, 1), (128, 256, 0), (256, 256, 1), (256, 512, 0), (512, 512, 1)):
        layers += [nn.Conv2d(before, after, 3, padding=1), *([nn.MaxPool2d(2)] if pools else [])]
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    layers.append(nn.Flatten())
    for before, after in ((8192, 1024), (1024, 1024)):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1024, 10)).eval()


def torch_round(dtype: torch.dtype) -> Round:
    model = float_twin().to(dtype=dtype, memory_format=torch.channels_last)
    image = torch.rand(1, 3, 32, 32).to(dtype=dtype, memory_format=torch.channels_last)

    def call() -> None:
        with torch.inference_mode():
            model(image)

    return timed(call)


def engine_round() -> tuple[str, Round]:
    torch.manual_seed(0)
    network = o3bnn.compile(build("vgg_like").eval(), image=IMAGE, name="vgg_like")
    engine = o3bnn.Engine(network, threads=1, pruning="off")
    image = np.random.default_rng(0).integers(0, 256, (1, *IMAGE), dtype=np.uint8)
    return f"o3bnn {engine.isa}, dense", timed(lambda: engine.run(image))


@contextmanager
def larq_round(python: str) -> Iterator[tuple[str, Round]]:
    command = [python, str(Path(__file__).with_name("larq_process.py"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def run(n: int) -> list[float]:
            print(n, file=stdin, flush=True)
            return [float(word) for word in stdout.readline().split()]

        yield stdout.readline().strip(), run
        stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--larq-python", help="interpreter of an environment with Larq Compute Engine")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        own, own_round = engine_round()
        rounds: dict[str, tuple[Round, int]] = {own: (own_round, 50)}
        for dtype in (torch.float32, torch.bfloat16):
            rounds[f"torch {torch.__version__} {str(dtype).removeprefix('torch.')}"] = (torch_round(dtype), 5)
        if options.larq_python:
            name, larq = stack.enter_context(larq_round(options.larq_python))
            rounds[name] = (larq, 5)
        medians: dict[str, list[float]] = {name: [] for name in rounds}
        for run, n in rounds.values():
            run(n)
        for _ in range(options.rounds):
            for name, (run, n) in rounds.items():
                medians[name].append(statistics.median(run(n)))
    write(own, medians, options.rounds)


def write(own: str, medians: dict[str, list[float]], rounds: int) -> None:
    fields = ["system", "network", "threads", "batch", "median_ms", "least_ms", "ratio_to_o3bnn", "rounds"]
    fields += ["scope", *(origin := provenance("python bench/peers/latency.py --larq-python PYTHON"))]
    with (RESULTS / "peers.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(fields)
        for name, values in medians.items():
            ratios = [value / mine for value, mine in zip(values, medians[own], strict=True)]
            figures = [f"{statistics.median(values):.4f}", f"{min(values):.4f}", f"{statistics.median(ratios):.2f}"]
            where = ["end-to-end, one image", *origin.values()]
            writer.writerow([name, "vgg_like", 1, 1, *figures, rounds, *where])
            print(f"{name:45} median {figures[0]:>9} ms  least {figures[1]:>9} ms  {figures[2]:>7}x")


if __name__ == "__main__":
    main()

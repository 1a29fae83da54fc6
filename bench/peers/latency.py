"""Latency of one image through `vgg_like`, one thread: this engine beside its peers, in interleaved rounds.

    python bench/peers/latency.py [--larq-python PYTHON] [--rounds 30]

Peers: PyTorch in float32 and bfloat16 and ONNX Runtime in float32 and 8-bit integers run the float network of the same
topology (`twin.py`); Larq Compute Engine runs the binary one. This engine comes first, dense; then planned, with sorted
channels, on random weights whose bits fire as those of trained networks (`networks.py`). Larq needs its own
environment, since it pins TensorFlow 2.13 and NumPy 1:

    python3.11 -m venv larq-env
    larq-env/bin/pip install larq-compute-engine==0.16.0 larq==0.14.0 'tensorflow-cpu==2.13.*' 'numpy<2'
    python bench/peers/latency.py --larq-python larq-env/bin/python

Needs the `train` and `onnx` extras. Weights are random (latency of dense kernels does not depend on them); ratios
are medians over rounds of a system's median against this engine's, dense, in the same round. Writes results/peers.csv.
"""

import argparse
import csv
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from twin import IMAGE, INPUT, export_float, float_twin, quantize

from o3bnn.compiler.order import order_channels
from o3bnn.engine import Engine, plan_engine
from o3bnn.engine.planner import random_images

sys.path.insert(0, str(Path(__file__).parent.parent))
from networks import network
from provenance import RESULTS, provenance

Round = Callable[[int], list[float]]
OWN_CALLS, PEER_CALLS = 50, 5  # a round of each takes some tens of milliseconds


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


def torch_round(dtype: torch.dtype) -> Round:
    model = float_twin().to(dtype=dtype, memory_format=torch.channels_last)
    image = torch.rand(IMAGE).to(dtype=dtype, memory_format=torch.channels_last)

    def call() -> None:
        with torch.inference_mode():
            model(image)

    return timed(call)


def onnx_rounds() -> dict[str, Round]:
    """ONNX Runtime on one thread, all of its graph optimizations on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        files = {"float32": Path(folder, "float.onnx"), "int8": Path(folder, "int8.onnx")}
        export_float(files["float32"])
        quantize(files["float32"], files["int8"])
        sessions = {
            kind: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for kind, path in files.items()
        }
    image = {INPUT: np.random.default_rng(0).random(IMAGE, dtype=np.float32)}
    return {
        f"onnxruntime {onnxruntime.__version__} {kind}": timed(lambda session=session: session.run(None, image))
        for kind, session in sessions.items()
    }


def engine_rounds() -> dict[str, Round]:
    """Dense first; then planned, on networks whose bits fire as those of plain and of regularized ones do."""
    dense = Engine(network("vgg_like"), threads=1, pruning="off")
    rounds = {f"o3bnn {dense.isa}, dense": engine_round(dense)}
    for kind in ("plain", "regularized"):
        found = network("vgg_like", kind)
        images = random_images(found)
        found = order_channels(found, images, lambda same, some: Engine(same).activations(some))
        planned = Engine(found, threads=1, plan=plan_engine(found, images))
        rounds[f"o3bnn {dense.isa}, channels sorted, planned, firing as {kind}"] = engine_round(planned)
    return rounds


def engine_round(engine: Engine) -> Round:
    """Eight images in turn: what is pruned depends on them."""
    images = itertools.cycle(random_images(engine.network)[:, None])
    return timed(lambda: engine.run(next(images)))


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
        rounds: dict[str, tuple[Round, int]] = {name: (run, OWN_CALLS) for name, run in engine_rounds().items()}
        for dtype in (torch.float32, torch.bfloat16):
            name = f"torch {torch.__version__} {str(dtype).removeprefix('torch.')}"
            rounds[name] = (torch_round(dtype), PEER_CALLS)
        rounds |= {name: (run, PEER_CALLS) for name, run in onnx_rounds().items()}
        if options.larq_python:
            name, larq = stack.enter_context(larq_round(options.larq_python))
            rounds[name] = (larq, PEER_CALLS)
        medians: dict[str, list[float]] = {name: [] for name in rounds}
        for run, n in rounds.values():
            run(n)
        for _ in range(options.rounds):
            for name, (run, n) in rounds.items():
                medians[name].append(statistics.median(run(n)))
    write(medians, options.rounds)


def write(medians: dict[str, list[float]], rounds: int) -> None:
    own = next(iter(medians))
    fields = ["system", "network", "threads", "batch", "median_ms", "least_ms", "ratio_to_o3bnn", "rounds"]
    fields += ["scope", *(origin := provenance("python bench/peers/latency.py --larq-python PYTHON"))]
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "peers.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(fields)
        for name, values in medians.items():
            ratios = [value / mine for value, mine in zip(values, medians[own], strict=True)]
            figures = [f"{statistics.median(values):.4f}", f"{min(values):.4f}", f"{statistics.median(ratios):.2f}"]
            where = ["end-to-end, one image", *origin.values()]
            writer.writerow([name, "vgg_like", 1, 1, *figures, rounds, *where])
            print(f"{name:62} median {figures[0]:>9} ms  least {figures[1]:>9} ms  {figures[2]:>7}x")


if __name__ == "__main__":
    main()

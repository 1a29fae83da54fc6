"""Time every stage of `vgg_like` on one thread: each instruction set of this machine, dense and pruning, interleaved.

    python bench/engine.py [MODEL ...] [--rounds 60]

Without a model: `vgg_like` with random weights, its batch norms set by random images (needs the `train` extra). Images
are random, so the pruned shares say nothing about trained models; the dense figures do not depend on them. Kernel time
only (`Engine.stage_seconds`), medians over rounds. Writes results/engine.csv.
"""

import argparse
import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

import o3bnn
from o3bnn import Engine, Network, _native
from provenance import RESULTS, provenance

IMAGES = 2


def random_network() -> Network:
    import torch

    from o3bnn.train.networks import build

    torch.manual_seed(0)
    module = build("vgg_like").train()
    with torch.no_grad():
        for _ in range(30):
            module(torch.randint(0, 256, (4, 3, 32, 32)).float())
    return o3bnn.compile(module.eval(), image=(32, 32, 3), name="vgg_like, random weights")


@contextmanager
def forced(isa: str) -> Iterator[None]:
    before = os.environ.get("O3BNN_ISA")
    os.environ["O3BNN_ISA"] = isa
    try:
        yield
    finally:
        os.environ.pop("O3BNN_ISA")
        if before is not None:
            os.environ["O3BNN_ISA"] = before


def measure(network: Network, rounds: int) -> Iterator[dict[str, object]]:
    """A row a stage, instruction set and pruning mode."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, *network.input.shape), dtype=np.uint8)
    engines: dict[tuple[str, str], Engine] = {}
    for isa in _native.available_isas():
        for pruning in ("off", "on"):
            with forced(isa):
                engines[isa, pruning] = Engine(network, threads=1, pruning=pruning)  # type: ignore[arg-type]
    seconds: dict[tuple[str, str], list[np.ndarray]] = {key: [] for key in engines}
    for _ in range(rounds):
        for key, engine in engines.items():
            seconds[key].append(engine.stage_seconds(images))
    profile = next(iter(engines.values())).profile(images, word=64)
    for (isa, pruning), parts in seconds.items():
        medians = np.median(np.concatenate(parts), axis=0)
        least = np.concatenate(parts).min(axis=0)
        for stage, median, minimum in zip(profile.stages, medians, least, strict=True):
            dense = stage.edges.dense // IMAGES
            yield {
                "network": network.name,
                "stage": stage.name,
                "role": stage.role,
                "isa": isa,
                "pruning": pruning,
                "median_us": f"{median * 1e6:.2f}",
                "least_us": f"{minimum * 1e6:.2f}",
                "dense_edges": dense,
                "dense_edges_per_ns": f"{dense / median / 1e9:.1f}",
                "pruned_b64": f"{stage.edges.pruned_share:.4f}",
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="model files; by default vgg_like with random weights")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    networks = [o3bnn.load(path) for path in options.models] or [random_network()]
    rows = [row for network in networks for row in measure(network, options.rounds)]
    origin = {"rounds": options.rounds, "threads": 1, "scope": "kernel-only"} | provenance("python bench/engine.py")
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "engine.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *origin], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | origin for row in rows)
    for row in rows:
        speed = f"{row['median_us']:>10} us {row['dense_edges_per_ns']:>8} edges/ns"
        print(f"{row['stage']:10} {row['isa']:7} {row['pruning']:4} {speed}")


if __name__ == "__main__":
    main()

"""Time every stage of `vgg_like` on one thread: each instruction set of this machine, every method that it offers.

    python bench/engine.py [MODEL ...] [--trained] [--seconds 6] [--isa NAME ...]

Without a model: the three kinds of `networks.py`, which need the `train` extra, on random pixels, and the trained
models of half the width that come with the package, on test images; all but the first also with sorted channels
(`o3bnn optimize`). A model named is run on random pixels. Each network and instruction set is planned
(`o3bnn.engine.plan_engine`): methods run in turns, figures are medians over rounds. `whole network` rows time dense and
planned in turns, end to end. Writes results/engine.csv, where rows of other networks stay.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

import o3bnn
from o3bnn import Engine, Network, _native
from o3bnn.compiler.order import order_channels
from o3bnn.engine import plan_engine
from o3bnn.engine.planner import random_images
from o3bnn.model.edges import PruningProfile
from o3bnn.report.shipped import CIFAR10, Images
from provenance import provenance, write_rows

SAMPLES = 64  # test images


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


def provided() -> Iterator[tuple[Network, Images]]:
    """Networks, and images to run them on."""
    from networks import KINDS, network

    for kind in KINDS:
        found = network("vgg_like", kind)
        yield found, random_images(found)
        if kind != "random":
            yield ordered(found, random_images(found))
    yield from trained()


def trained() -> Iterator[tuple[Network, Images]]:
    pixels, _ = CIFAR10.samples()
    for name in CIFAR10.more:
        yield CIFAR10.model(name), pixels[:SAMPLES]
        yield ordered(CIFAR10.model(name), pixels[:SAMPLES])


def ordered(network: Network, images: Images) -> tuple[Network, Images]:
    return order_channels(network, images, lambda same, batch: Engine(same).activations(batch)), images


def measure(
    network: Network, images: Images, isa: str, seconds: float, profile: PruningProfile
) -> Iterator[dict[str, object]]:
    """A row a stage and method, and two for the whole network."""
    roofline = _native.roofline(isa)
    with forced(isa):
        plan = plan_engine(network, images, seconds=seconds)
    for choice, counted in zip(plan.stages, profile.stages, strict=False):
        edges = counted.edges.dense / profile.images
        for candidate in choice.candidates:
            low, middle, high = candidate.speedup
            yield {
                "network": label(network),
                "stage": choice.name,
                "role": counted.role,
                "isa": isa,
                "method": candidate.label,
                "planned": candidate is choice.chosen,
                "median_us": f"{candidate.seconds * 1e6:.2f}",
                "dense_edges_per_ns": f"{edges / candidate.seconds / 1e9:.1f}",
                "share_of_roofline": f"{edges / candidate.seconds / roofline:.3f}" if counted.role == "binary" else "",
                "speedup_over_dense": f"{middle:.3f}",
                "quartiles": f"{low:.3f} to {high:.3f}",
                "rounds": candidate.rounds,
                "pruned_b64": f"{counted.edges.pruned_share:.4f}",
                "roofline_edges_per_ns": f"{roofline / 1e9:.1f}",
            }
    yield from whole(network, isa, plan.dense_seconds, plan.planned_seconds, profile)


def whole(
    network: Network, isa: str, dense: float, planned: float, profile: PruningProfile
) -> Iterator[dict[str, object]]:
    for method, seconds in (("dense", dense), ("as planned", planned)):
        yield {
            "network": label(network),
            "stage": "whole network",
            "isa": isa,
            "method": method,
            "median_us": f"{seconds * 1e6:.2f}",
            "speedup_over_dense": f"{dense / seconds:.3f}",
            "pruned_b64": f"{profile.total('binary').pruned_share:.4f}",
        }


def show(row: dict[str, object]) -> None:
    share = f"{row.get('share_of_roofline') or '-':>6} of roofline"
    speed = f"{row['speedup_over_dense']:>6}x{'  planned' if row.get('planned') else ''}"
    print(f"{row['stage']:13} {row['isa']:7} {row['method']:28} {row['median_us']:>9} us  {share}  {speed}", flush=True)


def label(network: Network) -> str:
    return network.name + (", sorted" if "channel_order" in network.metadata else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="model files; by default vgg_like with random weights")
    parser.add_argument("--trained", action="store_true", help="the trained models that come with the package only")
    parser.add_argument("--seconds", type=float, default=6, help="time for each network and instruction set")
    parser.add_argument("--isa", nargs="+", default=_native.available_isas(), choices=_native.available_isas())
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    named = ((network, random_images(network)) for network in map(o3bnn.load, options.models))
    for network, images in named if options.models else trained() if options.trained else provided():
        profile = Engine(network).profile(images, word=64)
        for isa in options.isa:
            for row in measure(network, images, isa, options.seconds, profile):
                rows.append(row)
                show(row)
    origin = {"threads": 1} | provenance("python bench/engine.py" + (" --trained" if options.trained else ""))
    write_rows("engine.csv", [row | origin for row in rows], ("network",))


if __name__ == "__main__":
    main()

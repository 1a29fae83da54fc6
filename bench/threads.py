"""Latency and throughput of whole networks on one thread and on two, dense, in turns.

    python bench/threads.py [--seconds 16] [--networks vgg_like alexnet vgg16]

One image: with two threads both work on it, where it is large. A batch: each thread takes whole images. End to end,
images of random pixels in memory, random weights (`networks.py`, needs the `train` extra). A round is a call on one
thread and one on two; rounds in which other processes kept this one waiting are left out (`disturbance.py`). The ratio
is the median over rounds of the time of one thread to that of two; on a busy machine the first decile of times tells
more. Writes results/engine_threads.csv.
"""

import argparse
import csv
from collections.abc import Iterator
from time import perf_counter

import numpy as np

from disturbance import waited
from networks import network
from o3bnn import Engine
from provenance import RESULTS, provenance

BATCHES = {"vgg_like": 16, "alexnet": 4, "vgg16": 2}
THREADS = (1, 2)
WARM_UPS = 3
MOST_ROUNDS = 1000
MOST_WAITING = 0.1  # of a call's time: waking a thread up takes less, another process's time slice far more


def measure(topology: str, seconds: float) -> Iterator[dict[str, object]]:
    """A row a number of threads and batch."""
    found = network(topology)
    many = np.random.default_rng(0).integers(0, 256, (BATCHES[topology], *found.input.shape), dtype=np.uint8)
    engines = [Engine(found, threads=threads, pruning="off") for threads in THREADS]
    for images in (many[:1], many):
        times, rounds = undisturbed(engines, images, seconds / 2)
        for index, engine in enumerate(engines):
            low, ratio, high = np.quantile(times[:, 0] / times[:, index], (0.1, 0.5, 0.9))
            median = float(np.median(times[:, index]))
            yield {
                "network": found.name,
                "isa": engine.isa,
                "threads": engine.threads,
                "batch": len(images),
                "median_ms": f"{1e3 * median:.4f}",
                "first_decile_ms": f"{1e3 * np.quantile(times[:, index], 0.1):.4f}",
                "images_per_second": f"{len(images) / median:.1f}",
                "speedup_over_1_thread": f"{ratio:.3f}",
                "deciles": f"{low:.3f} to {high:.3f}",
                "rounds_used": len(times),
                "rounds": rounds,
                "scope": "end-to-end, images in memory, dense",
            }


def undisturbed(engines: list[Engine], images: np.ndarray, seconds: float) -> tuple[np.ndarray, int]:
    """Seconds of every engine in every round that nobody disturbed, [rounds used, engines]; and rounds in all.

    Raises:
        SystemExit: there is no such round.
    """
    for engine in engines * WARM_UPS:
        engine.run(images)
    used, rounds, start = [], 0, perf_counter()
    while rounds < MOST_ROUNDS and perf_counter() - start < seconds:
        rounds += 1
        times, waits = np.zeros(len(engines)), np.zeros(len(engines))
        for index in range(len(engines))[:: 1 if rounds % 2 else -1]:
            before, begin = waited(), perf_counter()
            engines[index].run(images)
            times[index] = perf_counter() - begin
            waits[index] = waited() - before
        if (waits < MOST_WAITING * times).all():
            used.append(times)
    if not used:
        raise SystemExit("other processes held the CPUs in every round: try again when they have less to do")
    return np.array(used), rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=16, help="time for each network")
    parser.add_argument("--networks", nargs="+", default=list(BATCHES), choices=list(BATCHES))
    options = parser.parse_args()
    rows = [row for topology in options.networks for row in measure(topology, options.seconds)]
    origin = provenance("python bench/threads.py")
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "engine_threads.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], *origin], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | origin for row in rows)
    for row in rows:
        where = f"{row['threads']} threads, batch of {row['batch']}, {row['rounds_used']} of {row['rounds']} rounds"
        ratio = f"{row['speedup_over_1_thread']}x ({row['deciles']})"
        times = f"{row['median_ms']:>9} ms, first decile {row['first_decile_ms']:>9} ms"
        print(f"{row['network']:26} {where:44} {times}  {ratio}")


if __name__ == "__main__":
    main()

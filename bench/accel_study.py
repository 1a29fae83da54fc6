"""Machines, ablations and energy of the simulated accelerator.

    python bench/accel_study.py machines|ablations|speed [NETWORK ...] [--only PARAMETER ...]

Writes results/accel_machines.csv (cycles, pruning, stalls, energy of every network and machine, one image at a time and
in batches), accel_stages.csv, accel_ablations.csv and accel_speed.csv there, each row with command, commit, seed, host
and versions. Rows of other networks and parameters stay as they are. The networks are those of accel_networks.py, with
random weights, and the trained CIFAR-10 models that come with the package.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # speed is that of one core; BLAS threads that only wait cost CPU time too

import numpy as np

import accel_networks
from o3bnn.accel import PRESETS, AcceleratorConfig, Machine, SimulationResult, Simulator, calibrate, check, energy
from o3bnn.accel import resources as resource_model
from o3bnn.accel.results import STALLS, WORDS, StageResult, add
from o3bnn.model import edges
from o3bnn.report import shipped
from provenance import write_rows

MACHINES: tuple[Machine, ...] = ("dense", "inorder", "o3")
SEED = 0
TRAINED = shipped.CIFAR10
NETWORKS = (*accel_networks.NAMES, *TRAINED.models, *TRAINED.more)
BATCHES = {"cnv": (1, 13), "vgg_like": (1, 6), "alexnet": (1, 11), "vgg16": (1,)}
BATCHES |= dict.fromkeys(TRAINED.models, (1, 13)) | dict.fromkeys(TRAINED.more, (1, 12))
"""Images of a batch (T28): one, and as many as keep the maps on chip (vgg16's largest do not fit even alone)."""

SINGLES = 13
"""Images of which each is simulated on its own, for a trained model: its rows of batch 1 are sums or means of them."""

PUBLISHED = {
    "alexnet": (774e-6, "O3BNN on ZC706, one image (SC'19 SBNN paper, tables 8-9)"),
    "vgg16": (5.626e-3, "O3BNN on ZC706, one image (SC'19 SBNN paper, tables 8-9)"),
    "cnv": (1 / 21_906, "FINN on ZC706, a throughput (arXiv 1612.07119)"),
}
PEERS = (
    ("XNORBIN", "derived", {"energy_fj_per_edge_typical": 10.5}, "95 TOp/s/W (arXiv 1803.05849)"),
    ("BrainTTA", "published", {"energy_fj_per_edge_typical": 35}, "35 fJ an operation of 1 bit (arXiv 2211.11331)"),
    (
        "FINN CNV on ZC706",
        "derived",
        {"energy_uj_typical": 534, "images_per_second": 21_906},
        "11.7 W at the wall over 21,906 images a second (arXiv 1612.07119)",
    ),
)
"""Name, label, figures, and where they come from. An operation of theirs is taken for an edge."""


def provenance(method: str) -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "native", "src"], capture_output=True, text=True, check=False
    )
    return {
        "networks": method,
        "seed": SEED,
        "commit": commit.stdout.strip() + ("+" if dirty.stdout.strip() else ""),
        "host": platform.node() + " " + platform.machine(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "command": "python " + " ".join(sys.argv),
    }


class Study:
    """One network with its test images and calibrated shares (a few other images of the same kind)."""

    def __init__(self, name: str, calibration: int = 3) -> None:
        self.name = name
        self.trained = name in TRAINED.models + TRAINED.more
        if self.trained:
            self.network = TRAINED.model(name)
            samples, _ = TRAINED.samples()
            self.images, others = samples[:SINGLES], samples[SINGLES : SINGLES + calibration]
            self.method = f"trained, shipped {name}; first {SINGLES} images of the {TRAINED.title} test split"
        else:
            self.network = accel_networks.build(name, SEED)
            shape = self.network.input.shape
            count = max(BATCHES[name])
            self.images = np.stack([accel_networks.smooth_image(shape, 99 + i) for i in range(count)])
            others = np.stack([accel_networks.smooth_image(shape, 90 + i) for i in range(calibration)])
            self.method = accel_networks.METHOD
        self.shares = calibrate(self.network, others, PRESETS["zc706"])

    @property
    def weights(self) -> str:
        return "trained" if self.trained else "random"

    def run(self, config: AcceleratorConfig, *, balanced: bool = True, images: int = 1) -> "Runs":
        simulator = Simulator(self.network, config, self.shares if balanced else None, images)
        batches = SINGLES if self.trained and images == 1 else 1
        return Runs([simulator.run(self.images[i * images : (i + 1) * images]) for i in range(batches)])


@dataclass(frozen=True)
class Runs:
    """Batches of equal size on one machine: means a batch, and sums over all of them."""

    results: list[SimulationResult]

    @property
    def images(self) -> int:
        """Images of a batch."""
        return self.results[0].images

    @cached_property
    def total(self) -> StageResult:
        return add("total", [result.total for result in self.results])

    @property
    def cycles(self) -> float:
        """Mean of a batch; an int where there is only one."""
        return self.total.cycles if len(self.results) == 1 else round(self.total.cycles / len(self.results), 1)

    @property
    def seconds(self) -> float:
        return self.cycles * self.results[0].config.seconds_per_cycle

    @property
    def binary_pruned(self) -> float:
        stages = (stage for result in self.results for stage in result.stages)
        return sum((s.edges for s in stages if s.role == "binary"), edges.EdgeCounts()).pruned_share


def ceiling(dense: Runs, inorder: Runs) -> float:
    """1 / (1 - pruned) in edge words: dense words over the words that in-order evaluation finds useful."""
    return dense.total.words["useful"] / inorder.total.words["useful"]


def split(result: Runs) -> dict[str, object]:
    whole = result.total.pes * result.total.cycles
    parts = {**result.total.words, **result.total.stalls}
    return {f"share_{name}": round(parts[name] / whole, 5) for name in (*WORDS, *STALLS)}


def machines(names: list[str]) -> None:
    rows: list[dict[str, object]] = []
    stages: list[dict[str, object]] = []
    for name in names:
        study = Study(name)
        for images in BATCHES[name]:
            runs = {machine: study.run(PRESETS["zc706"].machine(machine), images=images) for machine in MACHINES}
            limit = ceiling(runs["dense"], runs["inorder"])
            for machine, result in runs.items():
                rows.append(_machine_row(study, machine, runs, limit))
                stages += [_stage_row(study, machine, images, stage) for stage in result.results[0].stages]
            print(name, images, [(r["machine"], r["cycles"], r["of_ceiling"]) for r in rows[-3:]], flush=True)
    for peer, label, figures, source in PEERS:
        rows.append({"network": "-", "machine": peer, "label": label, **figures, "peer": source})
    write_rows("accel_machines.csv", rows, ("network", "machine", "batch"))
    write_rows("accel_stages.csv", stages, ("network", "machine", "batch", "name"))


def _machine_row(study: Study, machine: str, runs: dict[Machine, Runs], limit: float) -> dict[str, object]:
    result = runs[machine]
    speedup = runs["dense"].cycles / result.cycles
    table, config = energy.load_table(), PRESETS["zc706"]
    found = resource_model.estimate(config)
    images = result.images * len(result.results)
    picojoules = {b: energy.estimate(result.total, config, table, b) for b in energy.BOUNDS}
    published = PUBLISHED.get(study.name)
    return {
        "network": study.name,
        "weights": study.weights,
        "machine": machine,
        "label": "modelled",
        "config": config.name,
        "clock_mhz": config.clock_mhz,
        "batch": result.images,
        "batches": len(result.results),
        "cycles": result.cycles,
        "microseconds": round(1e6 * result.seconds, 2),
        "images_per_second": round(result.images / result.seconds, 1),
        "speedup_vs_dense": round(speedup, 4),
        "speedup_vs_inorder": round(runs["inorder"].cycles / result.cycles, 4),
        "ceiling": round(limit, 4),
        "of_ceiling": round(speedup / limit, 4),
        "edges_pruned": round(result.total.edges.pruned_share, 5),
        "edges_pruned_binary": round(result.binary_pruned, 5),
        **split(result),
        **{f"energy_uj_{b}": round(e.total * 1e-6 / images, 3) for b, e in picojoules.items()},
        **{f"energy_fj_per_edge_{b}": round(e.per_edge, 3) for b, e in picojoules.items()},
        "luts_estimate": found.luts,
        "bram18_estimate": found.blocks,
        "peer_microseconds": round(1e6 * published[0], 1) if published else "",
        "peer": published[1] if published else "",
        **provenance(study.method),
    }


def _stage_row(study: Study, machine: str, images: int, stage: StageResult) -> dict[str, object]:
    """One stage, on the first batch."""
    values = stage.to_dict()
    row = {key: values[key] for key in ("name", "role", "mapping", "cycles", "utilization", "windows")}
    row |= {
        "dense": values["edges"]["dense"],
        "evaluated": values["edges"]["evaluated"],
        "wasted": values["edges"]["wasted"],
    }
    row |= values["edges"]["pruned_by"] | {f"words_{k}": v for k, v in values["words"].items()}
    row |= {f"stall_{k}": v for k, v in values["stalls"].items()} | values["traffic"]
    row |= {key: values[key] for key in ("busy_stations_mean", "slot_words_mean", "slot_words_peak")}
    return {"network": study.name, "machine": machine, "batch": images, **row, **provenance(study.method)}


def variants(base: AcceleratorConfig) -> list[tuple[str, object, dict[str, object]]]:
    """(parameter, value, changed fields).

    B keeps edges a cycle and bits of the weight banks, of the loader and of a burst: twice as many PEs of half as many
    bits have as many words each. Slots of 32-bit words are twice as many, or large windows would not fit; that takes
    more memory than the device has, as the row says.
    """
    found: list[tuple[str, object, dict[str, object]]] = [("base", "", {})]
    found += [("stations", r, {"stations": r}) for r in (1, 2, 3, 6, 8)]
    found += [("depth", d, {"depth": d}) for d in (1, 2, 8)]
    found += [
        ("speculate", False, {"speculate": False}),
        ("speculate", "off, R = 1", {"speculate": False, "stations": 1}),
    ]
    found += [("bounds", "sharp", {"bounds": "sharp"}), ("policy", "round_robin", {"policy": "round_robin"})]
    found += [("loader_words", w, {"loader_words": w}) for w in (4, 8, 16, 32)]
    found += [("dram_bytes", n, {"dram_bytes": n}) for n in (48, 64, 80, 85)]
    for word in (32, 128):
        scaled = ("pes", "loader_words", "burst_words", *(("slot_words",) if word < base.word else ()))
        found.append(("word", word, {"word": word, **{key: getattr(base, key) * base.word // word for key in scaled}}))
    return [*found, ("help", False, {"help": False}), ("image_in_dram", False, {"image_in_dram": False})]


OWN_DENSE = ("word", "loader_words", "bounds", "dram_bytes", "help", "image_in_dram")
"""Parameters that change the dense and in-order machines, or the words that are useful."""


def ablations(names: list[str], only: list[str]) -> None:
    for name in names:
        study = Study(name, calibration=1 if name == "vgg16" else 3)
        base = PRESETS["zc706"]
        rows: list[dict[str, object]] = []
        others = cache(lambda config, study=study: [study.run(config.machine(name)) for name in ("dense", "inorder")])
        for parameter, value, changes in [*variants(base), ("balance", "off", {})]:
            if only and parameter not in only:
                continue
            config = base.replace(**changes)
            dense, inorder = others(config if parameter in OWN_DENSE else base)
            result = study.run(config, balanced=parameter != "balance")
            rows.append(_ablation_row(study, result, dense, inorder) | {"parameter": parameter, "value": value})
            print(name, parameter, value, rows[-1]["cycles"], rows[-1]["of_ceiling"], flush=True)
        write_rows("accel_ablations.csv", rows, ("network", "parameter", "value"))


def _ablation_row(study: Study, result: Runs, dense: Runs, inorder: Runs) -> dict[str, object]:
    limit = ceiling(dense, inorder)
    resources = resource_model.estimate(result.results[0].config)
    return {
        "network": study.name,
        "parameter": "",
        "value": "",
        "cycles": result.cycles,
        "microseconds": round(1e6 * result.seconds, 2),
        "speedup_vs_dense": round(dense.cycles / result.cycles, 4),
        "speedup_vs_inorder": round(inorder.cycles / result.cycles, 4),
        "ceiling": round(limit, 4),
        "of_ceiling": round(dense.cycles / result.cycles / limit, 4),
        "edges_pruned": round(result.total.edges.pruned_share, 5),
        "edges_wasted": round(result.total.wasted / result.total.edges.dense, 5),
        **split(result),
        "luts_estimate": resources.luts,
        "bram18_estimate": resources.blocks,
        "fits": resources.fits,
        **provenance(study.method),
    }


def speed(names: list[str]) -> None:
    """CPU time of one image: the simulation and the check of its bits against the reference, apart."""
    rows: list[dict[str, object]] = []
    for name in names:
        study = Study(name, calibration=1)
        for machine in MACHINES:
            simulator = Simulator(study.network, PRESETS["zc706"].machine(machine), study.shares)
            result = simulator.run(study.images[:1])
            wall, cpu, checking = (statistics.median(times) for times in zip(*_times(simulator, study), strict=True))
            rows.append(
                {
                    "network": name,
                    "machine": machine,
                    "edge_words": result.total.issued,
                    "wall_s": round(wall, 3),
                    "cpu_s": round(cpu, 3),
                    "check_cpu_s": round(checking, 3),
                    "million_words_per_cpu_s": round(result.total.issued / (cpu - checking) / 1e6, 2),
                    "million_words_per_cpu_s_checked": round(result.total.issued / cpu / 1e6, 2),
                    "million_pe_cycles_per_cpu_s": round(result.cycles * result.total.pes / (cpu - checking) / 1e6, 2),
                    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                    "method": f"median of {REPEATS} runs after a first one; rates without the check, and with it",
                    **provenance(study.method),
                }
            )
            print({k: rows[-1][k] for k in list(rows[-1])[:9]}, flush=True)
    write_rows("accel_speed.csv", rows, ("network", "machine"))


REPEATS = 9


def _times(simulator: Simulator, study: Study) -> Iterator[tuple[float, float, float]]:
    """Wall and CPU seconds of a run, and CPU seconds of the check in it."""
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        result = simulator.run(study.images[0])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        start = time.process_time()
        check.verify(study.network, study.images[0], result.maps, result.sums)
        yield wall, cpu, time.process_time() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("machines", "ablations", "speed"))
    parser.add_argument(
        "networks", nargs="*", help=f"of {', '.join(NETWORKS)}; ablations by default of those with random weights"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="PARAMETER", help="ablations of these parameters")
    arguments = parser.parse_args()
    if arguments.study == "machines":
        machines(arguments.networks or list(NETWORKS))
    elif arguments.study == "ablations":
        ablations(arguments.networks or list(accel_networks.NAMES), arguments.only)
    else:
        speed(arguments.networks or list(NETWORKS))

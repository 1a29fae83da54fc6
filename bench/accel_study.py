"""Machines, ablations and energy of the simulated accelerator: `python bench/accel_study.py machines|ablations|speed`.

Writes results/accel_machines.csv (cycles, pruning, stalls, energy of every network and machine, one image at a time and
in batches), accel_stages.csv, accel_ablations.csv and accel_speed.csv there, each row with command, commit, seed, host
and versions. The networks are those of accel_networks.py: not trained, firing rates set.
"""

import argparse
import csv
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

import accel_networks
from o3bnn.accel import PRESETS, AcceleratorConfig, SimulationResult, Simulator, calibrate, energy, resources
from o3bnn.accel.results import STALLS, WORDS
from o3bnn.model import edges

ROOT = Path(__file__).parents[1]
MACHINES = ("dense", "inorder", "o3")
SEED = 0
BATCHES = {"cnv": (1, 13), "vgg_like": (1, 6), "alexnet": (1, 11), "vgg16": (1,)}
"""Images of a batch (T28): one, and as many as keep the maps on chip (vgg16's largest do not fit even alone)."""

PUBLISHED = {
    "alexnet": (774e-6, "O3BNN on ZC706, one image (SC'19 SBNN paper, tables 8-9)"),
    "vgg16": (5.626e-3, "O3BNN on ZC706, one image (SC'19 SBNN paper, tables 8-9)"),
    "cnv": (1 / 21_906, "FINN on ZC706, a throughput (arXiv 1612.07119)"),
}
PEERS = (
    ("XNORBIN", "10.5 fJ an edge operation (derived, shared/ANCHORS.md)"),
    ("BrainTTA", "35 fJ an edge operation (shared/ANCHORS.md)"),
)


def provenance() -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "native", "src"], capture_output=True, text=True, check=False
    )
    return {
        "networks": accel_networks.METHOD,
        "seed": SEED,
        "commit": commit.stdout.strip() + ("+" if dirty.stdout.strip() else ""),
        "host": platform.node() + " " + platform.machine(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "command": "python " + " ".join(sys.argv),
    }


def write(name: str, rows: list[dict[str, object]]) -> None:
    path = ROOT / "results" / name
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields, restval="")
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {path}: {len(rows)} rows")


class Study:
    """One network with its test image and calibrated shares (a few other images of the same kind)."""

    def __init__(self, name: str, calibration: int = 3) -> None:
        self.name = name
        self.network = accel_networks.build(name, SEED)
        shape = self.network.input.shape
        self.shape = shape
        self.image = accel_networks.smooth_image(shape, 99)
        self.others = np.stack([accel_networks.smooth_image(shape, 90 + i) for i in range(calibration)])
        self.shares = calibrate(self.network, self.others, PRESETS["zc706"])

    def run(self, config: AcceleratorConfig, *, balanced: bool = True, images: int = 1) -> SimulationResult:
        batch = np.stack([self.image, *(accel_networks.smooth_image(self.shape, 99 + i) for i in range(1, images))])
        return Simulator(self.network, config, self.shares if balanced else None, images).run(batch)


def ceiling(dense: SimulationResult, inorder: SimulationResult) -> float:
    """1 / (1 - pruned) in edge words: dense words over the words that in-order evaluation finds useful."""
    return dense.total.words["useful"] / inorder.total.words["useful"]


def split(result: SimulationResult) -> dict[str, object]:
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
                rows.append(_machine_row(name, machine, result, runs["dense"].cycles / result.cycles, limit))
                stages += [_stage_row(name, machine, images, stage) for stage in result.stages]
            print(name, images, [(r["machine"], r["cycles"], r["of_ceiling"]) for r in rows[-3:]], flush=True)
    rows += [{"network": "-", "machine": peer, "label": "published", "peer": text} for peer, text in PEERS]
    write("accel_machines.csv", rows)
    write("accel_stages.csv", stages)


def _machine_row(name: str, machine: str, result: SimulationResult, speedup: float, limit: float) -> dict[str, object]:
    table, config = energy.load_table(), PRESETS["zc706"]
    found = resources.estimate(config)
    picojoules = {b: energy.estimate(result.total, config, table, b) for b in energy.BOUNDS}
    published = PUBLISHED.get(name)
    return {
        "network": name,
        "machine": machine,
        "label": "modelled",
        "config": config.name,
        "clock_mhz": config.clock_mhz,
        "batch": result.images,
        "cycles": result.cycles,
        "microseconds": round(1e6 * result.seconds, 2),
        "images_per_second": round(result.images_per_second, 1),
        "speedup_vs_dense": round(speedup, 4),
        "ceiling": round(limit, 4),
        "of_ceiling": round(speedup / limit, 4),
        "edges_pruned": round(result.total.edges.pruned_share, 5),
        "edges_pruned_binary": round(_binary_pruned(result), 5),
        **split(result),
        **{f"energy_uj_{b}": round(e.total * 1e-6 / result.images, 3) for b, e in picojoules.items()},
        **{f"energy_fj_per_edge_{b}": round(e.per_edge, 3) for b, e in picojoules.items()},
        "luts_estimate": found.luts,
        "bram18_estimate": found.blocks,
        "peer_microseconds": round(1e6 * published[0], 1) if published else "",
        "peer": published[1] if published else "",
        **provenance(),
    }


def _binary_pruned(result: SimulationResult) -> float:
    counts = sum((s.edges for s in result.stages if s.role == "binary"), edges.EdgeCounts())
    return counts.pruned_share


def _stage_row(network: str, machine: str, images: int, stage: object) -> dict[str, object]:
    values = stage.to_dict()  # type: ignore[attr-defined]
    row = {key: values[key] for key in ("name", "role", "mapping", "cycles", "utilization", "windows")}
    row |= {
        "dense": values["edges"]["dense"],
        "evaluated": values["edges"]["evaluated"],
        "wasted": values["edges"]["wasted"],
    }
    row |= values["edges"]["pruned_by"] | {f"words_{k}": v for k, v in values["words"].items()}
    row |= {f"stall_{k}": v for k, v in values["stalls"].items()} | values["traffic"]
    return {"network": network, "machine": machine, "batch": images, **row, **provenance()}


def variants(base: AcceleratorConfig) -> list[tuple[str, object, dict[str, object]]]:
    """(parameter, value, changed fields); B keeps edges per cycle and bits of every memory."""
    found: list[tuple[str, object, dict[str, object]]] = [("base", "", {})]
    found += [("stations", r, {"stations": r}) for r in (1, 2, 3, 4, 8)]
    found += [("depth", d, {"depth": d}) for d in (1, 2, 8)]
    found += [
        ("speculate", False, {"speculate": False}),
        ("speculate", "off, R = 1", {"speculate": False, "stations": 1}),
    ]
    found += [("bounds", "sharp", {"bounds": "sharp"}), ("policy", "round_robin", {"policy": "round_robin"})]
    found += [("loader_words", w, {"loader_words": w}) for w in (4, 8, 32)]
    for word in (32, 128):
        scale = {"pes": base.pes * 64 // word} if word > 64 else {"pes": base.pes * 2}
        keep = {"slot_words": base.slot_words * 64 // word, "weight_words": base.weight_words * 64 // word}
        keep = {key: max(value, 512) for key, value in keep.items()}
        found.append(("word", word, {"word": word, **scale, **keep}))
    return found


def ablations(names: list[str]) -> None:
    rows: list[dict[str, object]] = []
    for name in names:
        study = Study(name, calibration=1 if name == "vgg16" else 3)
        base = PRESETS["zc706"]
        fixed = {machine: study.run(base.machine(machine)) for machine in ("dense", "inorder")}
        for parameter, value, changes in [*variants(base), ("balance", "off", {})]:
            config = base.replace(**changes)
            result = study.run(config, balanced=parameter != "balance")
            own = parameter in ("word", "loader_words", "bounds")
            dense = study.run(config.machine("dense")) if own else fixed["dense"]
            inorder = study.run(config.machine("inorder")) if own else fixed["inorder"]
            rows.append(
                {
                    "network": name,
                    "parameter": parameter,
                    "value": value,
                    "cycles": result.cycles,
                    "speedup_vs_dense": round(dense.cycles / result.cycles, 4),
                    "speedup_vs_inorder": round(inorder.cycles / result.cycles, 4),
                    "ceiling": round(ceiling(dense, inorder), 4),
                    "of_ceiling": round(dense.cycles / result.cycles / ceiling(dense, inorder), 4),
                    "edges_pruned": round(result.total.edges.pruned_share, 5),
                    "edges_wasted": round(result.total.wasted / result.total.edges.dense, 5),
                    **split(result),
                    **provenance(),
                }
            )
            print(name, parameter, value, rows[-1]["cycles"], rows[-1]["of_ceiling"], flush=True)
        write("accel_ablations.csv", rows)


def speed(names: list[str]) -> None:
    rows: list[dict[str, object]] = []
    for name in names:
        study = Study(name, calibration=1)
        for machine in MACHINES:
            simulator = Simulator(study.network, PRESETS["zc706"].machine(machine), study.shares)
            wall, cpu = time.perf_counter(), time.process_time()
            result = simulator.run(study.image)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            rows.append(
                {
                    "network": name,
                    "machine": machine,
                    "edge_words": result.total.issued,
                    "wall_s": round(wall, 3),
                    "cpu_s": round(cpu, 3),
                    "million_words_per_cpu_s": round(result.total.issued / cpu / 1e6, 2),
                    "million_pe_cycles_per_cpu_s": round(result.cycles * result.total.pes / cpu / 1e6, 2),
                    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                    "method": "one run, check against the reference included",
                    **provenance(),
                }
            )
            print({k: rows[-1][k] for k in list(rows[-1])[:8]}, flush=True)
    write("accel_speed.csv", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", choices=("machines", "ablations", "speed"))
    parser.add_argument("networks", nargs="*", default=list(accel_networks.NAMES))
    arguments = parser.parse_args()
    {"machines": machines, "ablations": ablations, "speed": speed}[arguments.study](arguments.networks)

"""`o3bnn simulate`: how long a model takes on the out-of-order accelerator, and where the cycles go."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from o3bnn.accel import AcceleratorConfig, Machine, SimulationResult, Simulator, TraceWindow, calibrate, energy, trace
from o3bnn.accel import resources as resource_model
from o3bnn.accel.config import load as load_config
from o3bnn.cli.console import note, print_json, progress, results
from o3bnn.cli.options import DataName, JsonOption, ModelFile, SplitName, SplitOption
from o3bnn.data import open_dataset
from o3bnn.errors import InputError
from o3bnn.model import Network
from o3bnn.model.artifact import load
from o3bnn.report.figures import check_figure, check_output
from o3bnn.report.machines import detail_table, machine_table, plot_machines, resource_text, stage_table
from o3bnn.report.tables import plain_or_rich

MACHINES: tuple[Machine, ...] = ("dense", "inorder", "o3")


class MachineName(StrEnum):
    """Which machine: dense, in-order pruning, out-of-order, or all three."""

    DENSE = "dense"
    INORDER = "inorder"
    O3 = "o3"
    ALL = "all"


def simulate_command(
    model: ModelFile,
    data: DataName,
    config: Annotated[
        str, typer.Option("--config", metavar="PRESET|FILE", help="zc706, pynq_z1, ecp5_85f, tiny, or a YAML file.")
    ] = "zc706",
    machine: Annotated[MachineName, typer.Option("--machine", help="Which machine to simulate.")] = MachineName.ALL,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Images to simulate; otherwise one batch.")
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, metavar="N", help="Images that go through the machine together.")
    ] = 1,
    calibration: Annotated[
        int,
        typer.Option(
            "--calibration", min=0, metavar="N", help="Images that balance the PEs, taken after those simulated."
        ),
    ] = 3,
    split: SplitOption = SplitName.TEST,
    trace_file: Annotated[
        Path | None,
        typer.Option(
            "--trace", metavar="FILE", help="Write a trace: Chrome JSON for a .json file, else Kanata (Konata)."
        ),
    ] = None,
    trace_from: Annotated[
        int, typer.Option("--trace-from", min=0, metavar="CYCLE", help="First cycle of the trace.")
    ] = 0,
    trace_cycles: Annotated[int, typer.Option("--trace-cycles", min=1, metavar="N", help="Cycles to trace.")] = 2000,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw where the cycles go (.svg, .png, .pdf).")
    ] = None,
    energy_table: Annotated[
        Path | None, typer.Option("--energy", metavar="FILE", help="Energy table to use instead of the shipped one.")
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="One more table: where edges and bits go, a row a stage.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Simulate a model on the accelerator, cycle by cycle."""
    chosen, table = load_config(config), energy.load_table(energy_table)
    if trace_file is not None:
        check_output(trace_file, "trace")
    if plot is not None:
        check_figure(plot)
    network = load(model)
    limit = limit or batch
    images = _images(open_dataset(data, split.value, limit + calibration, network.input), limit + calibration)
    if min(limit, len(images)) < batch:
        note(f"the only batch has {min(limit, len(images))} of {batch} images: there are no more, or --limit is less")
    if len(images) <= limit and calibration:
        note("no images are left for calibration: channels are spread over the PEs in their natural order")
    names = MACHINES if machine is MachineName.ALL else tuple(name for name in MACHINES if name == machine.value)
    window = TraceWindow(trace_from, trace_from + trace_cycles) if trace_file else None
    batches = [images[first : min(first + batch, limit)] for first in range(0, min(limit, len(images)), batch)]
    runs = simulate_machines(network, batches, images[limit:], chosen, names, window)
    if json:
        print_json({"model": str(model), "data": data, **_document(runs, chosen, table)})
    else:
        _print_tables(runs, chosen, table, details)
    if plot is not None:
        plot_machines(runs, plot)
    if trace_file is not None:
        _write_trace(names[-1], runs[names[-1]][0], trace_file, trace_from)


def simulate_machines(
    network: Network,
    batches: Sequence[npt.NDArray[np.uint8]],
    calibration: npt.NDArray[np.uint8],
    config: AcceleratorConfig,
    machines: Sequence[Machine],
    window: TraceWindow | None = None,
) -> dict[str, list[SimulationResult]]:
    """Results of every machine and batch; the first batch on the last machine is traced where there is a window."""
    shares = calibrate(network, calibration, config) if len(calibration) else None
    runs: dict[str, list[SimulationResult]] = {name: [] for name in machines}
    with progress("simulate", len(machines) * len(batches)) as advance:
        for name in machines:
            sizes = sorted({len(batch) for batch in batches})
            simulators = {size: Simulator(network, config.machine(name), shares, size) for size in sizes}
            for index, batch in enumerate(batches):
                traced = window if name == machines[-1] and index == 0 else None
                runs[name].append(simulators[len(batch)].run(batch if len(batch) > 1 else batch[0], traced))
                advance(1)
    return runs


def _images(dataset: Any, wanted: int) -> npt.NDArray[np.uint8]:
    """The first images of a data set, uint8 [n, height, width, channels]."""
    found: list[npt.NDArray[np.uint8]] = []
    for images, _ in dataset.batches(min(wanted, 64)):
        found.append(images)
        if sum(map(len, found)) >= wanted:
            break
    if not found:
        raise InputError("the data set has no images")
    return np.concatenate(found)[:wanted]


def _print_tables(
    runs: dict[str, list[SimulationResult]], config: AcceleratorConfig, table: energy.EnergyTable, details: bool
) -> None:
    """Everything as text; where edges and bits go only where `details` are wanted."""
    console = results()
    frame = plain_or_rich(console)
    last = list(runs.values())[-1]
    tables = [machine_table(runs, frame), stage_table(last, frame), *([detail_table(last, frame)] if details else ())]
    for shown in tables:
        console.print(shown)
        console.print()
    console.print(resource_text(resource_model.estimate(config)))
    for name, found in runs.items():
        console.print(_energy_text(name, found, table))


def _write_trace(machine: str, result: SimulationResult, path: Path, first: int) -> None:
    """Write the trace, which was asked for from cycle `first` on; says where it was cut.

    Raises:
        InputError: the run was over before `first`, nothing happened in these cycles, or the file cannot be written.
    """
    if first >= result.cycles:
        raise InputError(
            f"--trace-from {first} is beyond the traced run: the first batch on {machine} took {result.cycles} cycles, "
            f"0..{result.cycles - 1}"
        )
    trace.write(result, path)
    if result.trace_cut is not None:
        note(
            f"the trace is cut after {len(result.events):,} events and whole up to cycle {result.trace_cut - 1}: trace "
            "fewer cycles at a time (--trace-from, --trace-cycles)"
        )


def _energy_text(name: str, found: list[SimulationResult], table: energy.EnergyTable) -> str:
    """A line on the modelled energy of one machine, with its range."""
    images = sum(result.images for result in found)
    per_image = {
        bound: sum(energy.estimate(r.total, r.config, table, bound).total for r in found) / images * 1e-6
        for bound in energy.BOUNDS
    }
    return (
        f"energy, {name}: {per_image['typical']:.3g} µJ an image (modelled, {table.name}; "
        f"{per_image['low']:.3g} to {per_image['high']:.3g})"
    )


def _document(
    runs: dict[str, list[SimulationResult]], config: AcceleratorConfig, table: energy.EnergyTable
) -> dict[str, object]:
    """Everything as JSON."""
    found = resource_model.estimate(config)
    return {
        "resources": {"luts": found.luts, "blocks_18k": found.blocks, "fits": found.fits, "basis": found.basis},
        "machines": {
            name: [
                result.to_dict()
                | {
                    "energy_pj": {
                        b: energy.estimate(result.total, result.config, table, b).total for b in energy.BOUNDS
                    }
                }
                for result in results_of
            ]
            for name, results_of in runs.items()
        },
    }

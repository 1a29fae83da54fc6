"""The tables of simulated machines: every cell is what the simulator counted."""

import io

import numpy as np
import pytest
from rich.console import Console

from o3bnn.accel import PRESETS, Simulator, energy
from o3bnn.report.machines import detail_table, on_chip_bits
from o3bnn.report.tables import magnitude, percent, plain_or_rich
from tests.cli.helpers import tiny_network

NETWORK = tiny_network()
IMAGES = np.random.default_rng(5).integers(0, 256, (3, *NETWORK.input.shape), dtype=np.uint8)
CONFIG = PRESETS["tiny"].replace(name="small", weight_words=64, map_bytes=(64, 64))
"""Weights and maps that do not fit, so that DRAM is not idle."""


@pytest.fixture(scope="module")
def results():
    """A batch of two images, and one of one."""
    return [Simulator(NETWORK, CONFIG, images=2).run(IMAGES[:2]), Simulator(NETWORK, CONFIG).run(IMAGES[2])]


def lines(found, terminal=False):
    """A table of details as text, on a terminal of 120 columns or in a file."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120 if terminal else 1000, color_system=None)
    console.print(detail_table(found, plain_or_rich(console)))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def cells(name, stages, images):
    """The row of some stages' sums, from their counters."""
    dense, causes = sum(s.edges.dense for s in stages), ("constant", "threshold_high", "threshold_low", "pooling")
    edges = [sum(getattr(s.edges, part) for s in stages) for part in ("evaluated", *causes)]
    edges.append(sum(s.wasted for s in stages))
    traffic = {key: sum(s.traffic[key] for s in stages) for key in stages[0].traffic}
    read = CONFIG.word * (2 * sum(s.issued for s in stages) + traffic["map_reads"])
    written = CONFIG.word * (traffic["slot_writes"] + traffic["weight_writes"]) + traffic["map_write_bits"]
    cycles = sum(s.cycles for s in stages)
    memories = (traffic["dram_weight_bits"], traffic["dram_map_bits"], read, written)
    return [
        name,
        *(percent(part / dense) if part else "-" for part in edges),
        *(magnitude(round(bits / 8 / images)) if bits else "-" for bits in memories),
        f"{sum(s.station_cycles for s in stages) / cycles / CONFIG.pes:.2f}",
        magnitude(round(sum(s.slot_word_cycles for s in stages) / cycles)),
        magnitude(max(s.slot_words_peak for s in stages)),
    ]


def test_details_are_the_counters_of_every_stage_and_in_total(results):
    rows = [line.replace(" k", "_k").replace(" M", "_M").split() for line in lines(results)[3:8]]
    both = [[run.stages[index] for run in results] for index in range(4)]
    wanted = [cells(stages[0].name, stages, 3) for stages in both]
    wanted.append(cells("total", [stage for stages in both for stage in stages], 3))
    assert [[cell.replace("_", " ") for cell in row] for row in rows] == wanted
    assert "-" not in wanted[-1], "every counter is above 0 somewhere"


@pytest.mark.parametrize("terminal", [False, True])
def test_details_fit_in_120_columns(results, terminal):
    text = lines(results, terminal)
    assert max(map(len, text)) <= 120
    assert not any("…" in line for line in text), "nothing is cut off"
    assert text[0] == "small: where edges and bits go"
    assert "mean of a PE's" in "".join(text)
    assert any(line.startswith("2. Slot words") for line in text), "the stations of this config"


def test_on_chip_bits_are_those_of_the_energy_model(results):
    for run in results:
        for stage in (*run.stages, run.total):
            assert sum(on_chip_bits(stage, CONFIG.word)) == energy.events(stage, CONFIG)["sram_bit"]

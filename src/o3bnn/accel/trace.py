"""Traces of some cycles: for the Konata pipeline viewer (Kanata 0004) and for Perfetto (Chrome trace events).

A neuron is an "instruction". Its stages: D (dispatched, waits for its first issue), X (first to last issued word), P
(in the popcount pipeline until its decision). A decided neuron retires, a squashed one is flushed.
Formats: https://github.com/shioyadan/Konata/blob/master/docs/kanata-log-format.md and the "Trace Event Format" document
of the Chromium project, which https://ui.perfetto.dev opens.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from o3bnn.accel.results import SimulationResult
from o3bnn.errors import InputError
from o3bnn.model.files import write_whole, writing

DISPATCH, ISSUE, DECIDE, SQUASH, LOAD, RETIRE = range(6)
Format = Literal["kanata", "chrome"]


@dataclass
class NeuronTrace:
    """One neuron's life: cycles of its events, -1 where they fall outside of the trace."""

    number: int
    stage: int
    pe: int
    window: int
    position: int
    channel: int
    dispatched: int = -1
    issued: list[int] = field(default_factory=list)
    ended: int = -1
    squashed: bool = False
    speculative: bool = False
    bit: int = -1

    @property
    def label(self) -> str:
        return f"stage {self.stage} window {self.window} position {self.position} channel {self.channel}"


def neurons(events: npt.NDArray[np.int64]) -> list[NeuronTrace]:
    """Group events int64 [n, 9] by neuron, in order of dispatch; neurons dispatched before the trace are left out."""
    found: dict[int, NeuronTrace] = {}
    for cycle, kind, stage, pe, window, position, channel, value, number in events.tolist():
        if kind == DISPATCH:
            found[number] = NeuronTrace(number, stage, pe, window, position, channel, cycle, speculative=bool(value))
        elif number in found:
            neuron = found[number]
            if kind == ISSUE:
                neuron.issued.append(cycle)
            elif kind in (DECIDE, SQUASH):
                neuron.ended, neuron.squashed = cycle, kind == SQUASH
                neuron.bit = value if kind == DECIDE else -1
    return list(found.values())


def write(result: SimulationResult, path: str | Path, form: Format | None = None) -> None:
    """Write the trace of a simulation that was run with a `TraceWindow`; by default a `.json` file is Chrome's format.

    Raises:
        InputError: the simulation was run without a trace, or the file cannot be written.
    """
    if not len(result.events):
        raise InputError(
            f"the simulation has no trace events: run it with a trace window, of its cycles 0..{result.cycles - 1}, in "
            "which something happens"
        )
    form = form or ("chrome" if Path(path).suffix == ".json" else "kanata")
    text = json.dumps(chrome(result)) if form == "chrome" else kanata(result)
    with writing(path, "trace"):
        write_whole(Path(path), text.encode())


def kanata(result: SimulationResult) -> str:
    """The trace as a Kanata 0004 log: one tab-separated command a line."""
    commands: list[tuple[int, int, str]] = []
    for index, neuron in enumerate(neurons(result.events)):
        commands += [(cycle, index, line) for cycle, line in _kanata_neuron(index, neuron)]
    commands.sort(key=lambda entry: entry[0])
    lines = ["Kanata\t0004", f"C=\t{commands[0][0] if commands else 0}"]
    now = commands[0][0] if commands else 0
    for cycle, _, line in commands:
        if cycle > now:
            lines.append(f"C\t{cycle - now}")
            now = cycle
        lines.append(line)
    return "\n".join(lines) + "\n"


def _kanata_neuron(index: int, neuron: NeuronTrace) -> Iterator[tuple[int, str]]:
    """A neuron's commands with their cycles, in order."""
    start = neuron.dispatched
    yield start, f"I\t{index}\t{neuron.number}\t{neuron.pe}"
    yield start, f"L\t{index}\t0\tPE {neuron.pe}: {neuron.label}{' (speculative)' if neuron.speculative else ''}"
    yield start, f"S\t{index}\t0\tD"
    stage, last = "D", neuron.issued[-1] + 1 if neuron.issued else start
    if neuron.issued:
        yield neuron.issued[0], f"E\t{index}\t0\tD"
        yield neuron.issued[0], f"S\t{index}\t0\tX"
        stage = "X"
    if neuron.ended < 0:
        return
    if neuron.issued and neuron.ended > last:
        yield last, f"E\t{index}\t0\tX"
        yield last, f"S\t{index}\t0\tP"
        stage = "P"
    outcome = f"{len(neuron.issued)} words, " + ("squashed" if neuron.squashed else f"bit {neuron.bit}")
    yield neuron.ended, f"L\t{index}\t1\t{outcome}"
    yield neuron.ended, f"E\t{index}\t0\t{stage}"
    yield neuron.ended, f"R\t{index}\t{neuron.number}\t{int(neuron.squashed)}"


def chrome(result: SimulationResult) -> dict[str, Any]:
    """The trace as a Chrome trace: one cycle is one microsecond of its clock.

    Process 1 has a thread a PE: its issued words as complete events, its neurons as asynchronous ones. Process 2 has a
    thread a group: windows loaded and retired, as instants.
    """
    rows: list[dict[str, Any]] = [_name("process_name", 1, 0, "PEs"), _name("process_name", 2, 0, "groups")]
    seen: set[tuple[int, int]] = set()
    for neuron in neurons(result.events):
        seen.add((1, neuron.pe))
        rows += _chrome_neuron(neuron)
    for cycle, kind, stage, pe, window, *_ in result.events.tolist():
        if kind in (LOAD, RETIRE):
            seen.add((2, pe))
            what = "loaded" if kind == LOAD else "retired"
            name = f"stage {stage} window {window} {what}"
            rows.append({"name": name, "cat": "window", "ph": "i", "s": "t", "ts": cycle, "pid": 2, "tid": pe})
    rows += [_name("thread_name", pid, tid, f"{'PE' if pid == 1 else 'group'} {tid}") for pid, tid in sorted(seen)]
    return {"traceEvents": rows, "displayTimeUnit": "ns", "otherData": {"unit": "1 us = 1 cycle"}}


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _chrome_neuron(neuron: NeuronTrace) -> Iterator[dict[str, Any]]:
    place = {"pid": 1, "tid": neuron.pe}
    for word, cycle in enumerate(neuron.issued):
        yield {"name": neuron.label, "cat": "word", "ph": "X", "ts": cycle, "dur": 1, **place, "args": {"word": word}}
    if neuron.ended < 0:
        return
    identity = {"name": neuron.label, "cat": "neuron", "id": neuron.number, **place}
    outcome = "squashed" if neuron.squashed else f"bit {neuron.bit}"
    yield {**identity, "ph": "b", "ts": neuron.dispatched}
    yield {**identity, "ph": "e", "ts": neuron.ended, "args": {"outcome": outcome, "words": len(neuron.issued)}}

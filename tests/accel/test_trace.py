"""Both trace files are read by a parser of their public format, which is strict about what a viewer needs."""

import json

import numpy as np
import pytest

from o3bnn.accel import PRESETS, TraceWindow, simulate, trace
from o3bnn.errors import InputError
from tests.accel.machines import conv

NETWORK = conv((6, 6, 16), 8, kernel=3, pool=((2, 2), (2, 2)), threshold=[60, 66, 70, 72, 74, 78, 90, 140])
PIXELS = np.random.default_rng(3).integers(0, 256, NETWORK.input.shape, dtype=np.uint8)


def traced(first=0, last=1 << 30):
    return simulate(NETWORK, PIXELS, PRESETS["tiny"], trace=TraceWindow(first, last))


def parse_kanata(text):
    """Commands of a Kanata 0004 log, checked: returns per id its stages [(name, start, end)] and how it ended."""
    lines = text.splitlines()
    assert lines[0] == "Kanata\t0004"
    assert lines[1].startswith("C=\t")
    now, found = int(lines[1].split("\t")[1]), {}
    for line in lines[2:]:
        command, *fields = line.split("\t")
        if command == "C":
            assert int(fields[0]) > 0
            now += int(fields[0])
            continue
        number = int(fields[0])
        if command == "I":
            assert len(fields) == 3
            assert number == len(found), "ids count up from 0"
            found[number] = {"stages": [], "open": None, "end": None, "labels": []}
            continue
        entry = found[number]
        assert entry["end"] is None, "nothing follows R"
        if command == "L":
            assert fields[1] in ("0", "1")
            entry["labels"].append(fields[2])
        elif command == "S":
            assert entry["open"] is None
            entry["open"] = (fields[2], now)
        elif command == "E":
            name, start = entry["open"]
            assert name == fields[2]
            entry["stages"].append((name, start, now))
            entry["open"] = None
        else:
            assert command == "R"
            assert fields[2] in ("0", "1")
            assert entry["open"] is None
            entry["end"] = (now, int(fields[2]))
    return found


def test_kanata():
    result = traced()
    found = parse_kanata(trace.kanata(result))
    assert len(found) == sum(s.neurons + s.squashed_neurons for s in result.stages)
    assert sum(entry["end"][1] for entry in found.values()) == result.total.squashed_neurons
    for entry in found.values():
        names = [name for name, _, _ in entry["stages"]]
        assert names in (["D"], ["D", "X"], ["D", "X", "P"])
        assert all(start <= end for _, start, end in entry["stages"])
        assert entry["labels"][0].startswith("PE ")


def test_kanata_of_some_cycles():
    found = parse_kanata(trace.kanata(traced(50, 90)))
    assert 0 < len(found) < 60


def test_chrome():
    result = traced()
    data = json.loads(json.dumps(trace.chrome(result)))
    assert set(data) >= {"traceEvents", "displayTimeUnit"}
    words, begun, ended = {}, {}, {}
    for event in data["traceEvents"]:
        assert {"name", "ph", "pid", "tid"} <= set(event)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            continue
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] == 1
            assert (event["tid"], event["ts"]) not in words, "a PE issues one word a cycle"
            words[event["tid"], event["ts"]] = event
        elif event["ph"] in "be":
            (begun if event["ph"] == "b" else ended)[event["id"]] = event
        else:
            assert event["ph"] == "i"
            assert event["s"] == "t"
    assert len(words) == result.total.issued
    assert begun.keys() == ended.keys()
    assert all(begun[key]["ts"] <= ended[key]["ts"] for key in begun)


def test_a_trace_that_is_cut_says_where():
    """Whole cycles of a cut trace hold the events of the whole trace."""
    whole = traced()
    events = whole.events
    assert whole.trace_cut is None
    assert (np.diff(events[:, 0]) >= 0).all(), "in order of cycle"
    for limit in (1, 100, 101, len(events) - 1):
        cut = simulate(NETWORK, PIXELS, PRESETS["tiny"], trace=TraceWindow(0, 1 << 30, limit))
        assert np.array_equal(cut.events, events[:limit])
        assert cut.trace_cut == events[limit, 0]
        assert (cut.cycles, cut.total.to_dict()) == (whole.cycles, whole.total.to_dict())
    exact = simulate(NETWORK, PIXELS, PRESETS["tiny"], trace=TraceWindow(0, 1 << 30, len(events)))
    assert np.array_equal(exact.events, events)
    assert exact.trace_cut is None


def test_no_trace_of_no_events():
    with pytest.raises(InputError, match="limit = 0 events is no trace"):
        TraceWindow(limit=0)


def test_files(tmp_path):
    result = traced()
    trace.write(result, tmp_path / "trace.json")
    trace.write(result, tmp_path / "trace.kanata")
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert (tmp_path / "trace.kanata").read_text().startswith("Kanata\t0004\n")
    with pytest.raises(InputError, match="cannot write the trace"):
        trace.write(result, tmp_path / "no" / "trace.json")
    message = rf"no trace events: run it with a trace window, of its cycles 0\.\.{result.cycles - 1}, in which"
    with pytest.raises(InputError, match=message):
        trace.write(simulate(NETWORK, PIXELS, PRESETS["tiny"]), tmp_path / "trace.json")

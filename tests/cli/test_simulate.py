"""`o3bnn simulate` prints what the simulator says."""

import json
from functools import partial
from pathlib import Path

import pytest

from o3bnn.accel import PRESETS, Simulator, TraceWindow, calibrate
from tests.cli.helpers import digits, run, run_json, run_ok, tiny_network


def test_json_is_what_the_simulator_says(model: Path, mnist: Path) -> None:
    document = run_json(
        "simulate", model, "--data", f"mnist:{mnist}", "--limit", 2, "--calibration", 3, "--config", "tiny"
    )
    assert set(document["machines"]) == {"dense", "inorder", "o3"}
    images, config = digits(mnist), PRESETS["tiny"]
    shares = calibrate(tiny_network(), images[2:5], config)
    for name, found in document["machines"].items():
        simulator = Simulator(tiny_network(), config.machine(name), shares)
        for image, entry in zip(images[:2], found, strict=True):
            wanted = json.loads(json.dumps(simulator.run(image).to_dict()))
            assert {key: entry[key] for key in wanted} == wanted
            assert entry["energy_pj"]["low"] <= entry["energy_pj"]["typical"] <= entry["energy_pj"]["high"]


def test_text(model: Path, mnist: Path) -> None:
    text = run_ok("simulate", model, "--data", f"mnist:{mnist}", "--config", "tiny").stdout
    for part in ("dense", "inorder", "o3", "conv1", "conv2", "output", "ceiling", "resources: about", "energy, o3"):
        assert part in text


def test_details(model: Path, mnist: Path) -> None:
    """One more table, between the others; the rest of the text is the same."""
    arguments = ("simulate", model, "--data", f"mnist:{mnist}", "--config", "tiny")
    plain, text = (run_ok(*arguments, *option).stdout.splitlines() for option in ((), ("--details",)))
    first = next(index for index, line in enumerate(text) if line.startswith("tiny: where edges and bits go"))
    after = next(index for index, line in enumerate(text) if line.startswith("resources: about"))
    strip = [line.split() for line in text]
    assert strip[:first] + strip[after:] == [line.split() for line in plain]
    assert [line[0] for line in strip[first + 3 : first + 8]] == ["conv1", "conv2", "dense", "output", "total"]
    assert max(map(len, text[first:after])) <= 120


def test_batches(model: Path, mnist: Path) -> None:
    options = ("--data", f"mnist:{mnist}", "--limit", 3, "--batch", 2, "--calibration", 0, "--config", "tiny")
    document = run_json("simulate", model, *options, "--machine", "o3")
    network, images, found = tiny_network(), digits(mnist), document["machines"]["o3"]
    assert [entry["images"] for entry in found] == [2, 1]
    assert found[0]["cycles"] == Simulator(network, PRESETS["tiny"], images=2).run(images[:2]).cycles
    assert found[1]["cycles"] == Simulator(network, PRESETS["tiny"]).run(images[2]).cycles


def test_a_batch_is_simulated_whole_and_a_shorter_one_named(model: Path, mnist: Path) -> None:
    options = ("--data", f"mnist:{mnist}", "--batch", 3, "--calibration", 0, "--config", "tiny", "--machine", "o3")
    assert [entry["images"] for entry in run_json("simulate", model, *options)["machines"]["o3"]] == [3]
    shorter = run_ok("simulate", model, *options, "--limit", 2)
    assert "the only batch has 2 of 3 images" in shorter.stderr


def test_one_machine(model: Path, mnist: Path) -> None:
    document = run_json("simulate", model, "--data", f"mnist:{mnist}", "--machine", "o3", "--calibration", 0)
    assert set(document["machines"]) == {"o3"}
    assert document["machines"]["o3"][0]["config"]["name"] == "zc706"


def test_files(model: Path, mnist: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("preset: tiny\npes: 8\n")
    for name in ("trace.json", "trace.kanata"):
        arguments = ("--config", config, "--trace", tmp_path / name, "--trace-from", 50, "--trace-cycles", 300)
        run_ok("simulate", model, "--data", f"mnist:{mnist}", *arguments, "--plot", tmp_path / "plot.svg")
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert (tmp_path / "trace.kanata").read_text().startswith("Kanata\t0004\n")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


def test_a_trace_from_beyond_the_run_fails_after_the_results(model: Path, mnist: Path, tmp_path: Path) -> None:
    arguments = ("simulate", model, "--data", f"mnist:{mnist}", "--config", "tiny", "--machine", "o3", "--json")
    cycles = run_json(*arguments[:-1])["machines"]["o3"][0]["cycles"]
    path = tmp_path / "trace.json"
    result = run(*arguments, "--trace", path, "--trace-from", cycles, "--plot", tmp_path / "plot.svg")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["machines"]["o3"][0]["cycles"] == cycles
    assert (tmp_path / "plot.svg").exists() and not path.exists()
    wanted = (
        f"--trace-from {cycles} is beyond the traced run: the first batch on o3 took {cycles} cycles, 0..{cycles - 1}"
    )
    assert result.stderr.splitlines()[-1] == f"error: {wanted}"
    run_ok(*arguments, "--trace", path, "--trace-from", cycles - 1)
    assert path.exists()


def test_a_trace_that_is_cut_is_noted(
    model: Path, mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("simulate", model, "--data", f"mnist:{mnist}", "--config", "tiny", "--calibration", 0)
    assert "the trace is cut" not in run_ok(*arguments, "--trace", tmp_path / "trace.json").stderr
    monkeypatch.setattr("o3bnn.cli.simulate.TraceWindow", partial(TraceWindow, limit=1500))
    cut = Simulator(tiny_network(), PRESETS["tiny"]).run(digits(mnist)[0], TraceWindow(limit=1500)).trace_cut
    assert cut is not None
    noted = run_ok(*arguments, "--trace", tmp_path / "trace.json").stderr
    assert f"note: the trace is cut after 1,500 events and whole up to cycle {cut - 1}: trace fewer cycles" in noted


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--config", "zc707", "neither a preset"),
        ("--energy", "none.yaml", "cannot read the energy table"),
        ("--plot", "no/plot.svg", "cannot write the plot"),
        ("--trace", "no/trace.json", "cannot write the trace"),
        ("--plot", "plot.what", "ends in no format that plots have"),
    ],
)
def test_bad_options(
    model: Path, mnist: Path, option: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found before anything is simulated."""
    monkeypatch.setattr("o3bnn.cli.simulate.simulate_machines", lambda *_: pytest.fail("simulated"))
    value = str(tmp_path / value) if "/" in value or "." in value else value
    result = run("simulate", model, "--data", f"mnist:{mnist}", option, value)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]

"""`o3bnn bench` measures what it says, and says what it measured."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from o3bnn import _native
from o3bnn.engine import plan_engine
from o3bnn.engine.machine import chosen_isa
from o3bnn.engine.planner import random_images
from o3bnn.errors import InputError
from o3bnn.model import edges
from o3bnn.report.bench import measure_speed
from tests.cli.helpers import digits, error_line, run, run_json, run_ok, tiny_network

FAST = ("--seconds", 0.01)
NAMES = ["conv1", "conv2", "dense", "output"]


@pytest.fixture(scope="module")
def planned(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a plan beside it."""
    path = Path(shutil.copy(model, tmp_path_factory.mktemp("planned") / "m.safetensors"))
    run_ok("plan", path, *FAST)
    return path


def test_json(planned: Path, mnist: Path) -> None:
    arguments = ("--data", f"mnist:{mnist}", "--limit", 5, "--batch", 7, "--threads", 2)
    document: dict[str, Any] = run_json("bench", planned, *arguments, *FAST)
    assert (document["isa"], document["threads"], document["batch"], document["images"]) == (chosen_isa(), 2, 7, 5)
    assert document["data"] == f"mnist:{mnist}"
    assert document["scope"] == "inference of images in memory"
    assert [stage["name"] for stage in document["stages"]] == NAMES
    assert [stage["role"] for stage in document["stages"]] == ["input", "binary", "binary", "output"]
    counted = edges.count(tiny_network(), digits(mnist)[:5], word=64)
    roofline = document["roofline_edges_per_second"]
    assert roofline > 1e9
    for stage, expected in zip(document["stages"], counted.stages, strict=True):
        assert stage["edges"] == expected.edges.dense / 5
        assert stage["pruned_share"] == expected.edges.pruned_share
        assert stage["ceiling"] == pytest.approx(1 / (1 - expected.edges.pruned_share))
        assert stage["dense_edges_per_second"] == pytest.approx(stage["edges"] / stage["dense_seconds"])
        share = stage["dense_edges_per_second"] / roofline if expected.role == "binary" else None
        assert stage["share_of_roofline"] == share
    binary = document["binary_stages"]
    assert binary["edges"] == counted.total("binary").dense / 5
    assert binary["dense_seconds"] == pytest.approx(sum(stage["dense_seconds"] for stage in document["stages"][1:3]))
    assert binary["pruned_share"] == counted.total("binary").pruned_share
    for part in (document["latency"], document["throughput"]):
        assert part["rounds"] >= 7
        low, middle, high = (part["speedup"][key] for key in ("first_decile", "median", "last_decile"))
        assert 0 < low <= middle <= high
    for mode in ("dense", "planned"):
        rate = document["throughput"][f"{mode}_images_per_second"]
        assert rate == pytest.approx(7 / document["throughput"][f"{mode}_seconds"])
    assert [choice["method"] for choice in document["plan"]["stages"]] == [
        stage["method"].split()[0] for stage in document["stages"][:3]
    ]


def test_text(planned: Path, mnist: Path) -> None:
    result = run_ok("bench", planned, "--data", f"mnist:{mnist}", "--threads", 1, *FAST)
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0] == "stages, one thread"
    assert lines[1].startswith("stage ") and lines[1].split()[-1] == "ceiling"
    assert [line.split()[0] for line in lines[2:7]] == [*NAMES, "binary"]
    assert lines[2].startswith("conv1 (input)")
    assert lines[7].startswith("latency ") and lines[7].endswith("one image, 1 thread")
    assert lines[8].startswith("throughput ") and lines[8].endswith("batches of 64, 1 thread")
    assert lines[9].startswith("roofline ") and f"{chosen_isa()}, popcount loop" in lines[9]
    assert len(lines) == 10
    assert result.stderr.splitlines()[-1] == "bench: 100/100 percent"
    assert "note:" not in result.stderr


def test_without_a_plan_one_is_made_and_not_kept(model: Path, tmp_path: Path, mnist: Path) -> None:
    path = Path(shutil.copy(model, tmp_path / "m.safetensors"))
    result = run_ok("bench", path, "--data", f"mnist:{mnist}", *FAST)
    assert result.stderr.splitlines()[0].startswith(
        f"note: {path} has no plan for this machine: one is made for this run"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]
    document = run_json("bench", path, "--plan", _plan(path, tmp_path), *FAST)
    assert document["plan"]["source"] == "random pixels"
    assert document["data"] is None and document["images"] == 8


def _plan(model: Path, folder: Path) -> Path:
    run_ok("plan", model, "-o", folder / "p.json", *FAST)
    return folder / "p.json"


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot(planned: Path, tmp_path: Path, suffix: str, start: bytes) -> None:
    pytest.importorskip("matplotlib")
    run_ok("bench", planned, "--plot", tmp_path / f"p.{suffix}", *FAST)
    assert (tmp_path / f"p.{suffix}").read_bytes().startswith(start)


def test_a_plot_that_cannot_be_written_is_known_before_anything_is_measured(planned: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    message = error_line(run("bench", planned, "--plot", tmp_path / "nowhere" / "p.png"))
    assert message.startswith("cannot write the plot") and "No such file or directory" in message
    for name in ("p", "p.txt"):
        assert "ends in no format that plots have: use one of" in error_line(
            run("bench", planned, "--plot", tmp_path / name)
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "mnist"), "'mnist' is not a data set"),
        (("--batch", 0), "Invalid value for '--batch'"),
        (("--batch", 1 << 17), "Invalid value for '--batch'"),
        (("--threads", 0), "Invalid value for '--threads'"),
        (("--threads", 2000), "threads = 2000"),
        (("--limit", 0), "Invalid value for '--limit'"),
        (("--seconds", -1), "Invalid value for '--seconds'"),
        (("--seconds", "nan"), "seconds"),
        (("--plan", "/nowhere"), "cannot read the plan '/nowhere': No such file or directory"),
        (("--plot", ""), "--plot is empty"),
    ],
)
def test_bad_arguments(planned: Path, arguments: tuple[object, ...], message: str) -> None:
    result = run("bench", planned, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_measuring_needs_time() -> None:
    network = tiny_network()
    plan = plan_engine(network, seconds=1e-3)
    with pytest.raises(InputError, match="seconds = 0 is not a positive number"):
        measure_speed(network, plan, random_images(network), batch=1, seconds=0)


@pytest.mark.parametrize("isa", _native.available_isas())
def test_the_roofline_of_every_instruction_set(isa: str) -> None:
    assert 1e9 < _native.roofline(isa) < 1e14


def test_the_roofline_of_an_unknown_instruction_set() -> None:
    with pytest.raises(ValueError, match="'mmx' is not available"):
        _native.roofline("mmx")

"""`o3bnn plan` writes a plan, says why, and the other commands run by it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from o3bnn.engine import EnginePlan, load_plan, save_plan
from o3bnn.engine.machine import chosen_isa, cpu_name
from o3bnn.engine.saved import network_checksum
from o3bnn.report.tables import ratio
from tests.cli.helpers import digits, error_line, run, run_json, run_ok, tiny_network

FAST = ("--seconds", 0.01)
STAGES = ["conv1", "conv2", "dense"]


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """The model in a folder of its own."""
    return Path(shutil.copy(model, tmp_path / "m.safetensors"))


@pytest.fixture
def planned(copy: Path) -> Path:
    """The same with a plan beside it."""
    run_ok("plan", copy, *FAST)
    return copy


def plan_of(path: Path) -> EnginePlan:
    return load_plan(path.with_name(path.name + ".plan.json"))


def test_json_is_the_plan_that_was_written(copy: Path, mnist: Path) -> None:
    document = run_json("plan", copy, "--data", f"mnist:{mnist}", "--limit", 5, "--threads", 2, *FAST)
    plan = plan_of(copy)
    assert document == {
        "model": str(copy),
        "output": f"{copy}.plan.json",
        "plan": json.loads(plan.model_dump_json()),
    }
    assert (plan.network, plan.isa, plan.cpu) == (network_checksum(tiny_network()), chosen_isa(), cpu_name())
    assert (plan.images, plan.threads, plan.source) == (5, 2, f"mnist:{mnist}, test split")
    assert [stage.name for stage in plan.stages] == STAGES


def test_text_says_why(copy: Path, mnist: Path, tmp_path: Path) -> None:
    result = run_ok("plan", copy, "--data", f"mnist:{mnist}", "--split", "train", "-o", tmp_path / "p.json", *FAST)
    plan = load_plan(tmp_path / "p.json")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["stage", "method", "dense", "planned", "speedup", "why"]
    for line, stage in zip(lines[1:], plan.stages, strict=False):
        assert line.split()[0] == stage.name
        assert stage.label in line and stage.reason in line and ratio(stage.chosen.speedup[1]) in line
    assert lines[4].startswith("an image takes ")
    assert lines[4].endswith(f"1 thread, 16 images: mnist:{mnist}, train split)")
    assert lines[5] == f"wrote {tmp_path}/p.json"
    assert len(lines) == 6
    assert result.stderr.splitlines()[-1] == "plan: 100/100 percent"
    assert not (tmp_path / "m.safetensors.plan.json").exists()


def test_without_data_the_images_are_random_and_it_says_so(copy: Path) -> None:
    result = run_ok("plan", copy, *FAST)
    assert result.stderr.splitlines()[0].startswith("note: without --data, images are random pixels")
    assert plan_of(copy).source == "random pixels"


def test_an_unwritable_place_is_known_before_anything_is_timed(model: Path, tmp_path: Path) -> None:
    message = error_line(run("plan", model, "-o", tmp_path / "nowhere" / "p.json"))
    assert message.startswith("cannot write the plan") and "No such file or directory" in message
    assert "the model itself" in error_line(run("plan", model, "-o", model))
    assert "Is a directory" in error_line(run("plan", model, "-o", tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "mnist"), "'mnist' is not a data set"),
        (("--data", "mnist:/nowhere"), "/nowhere is not a folder"),
        (("--limit", 0), "Invalid value for '--limit'"),
        (("--limit", 5000), "Invalid value for '--limit'"),
        (("--threads", 0), "Invalid value for '--threads'"),
        (("--threads", 2000), "Invalid value for '--threads'"),
        (("--seconds", 0), "Invalid value for '--seconds'"),
        (("--seconds", "nan"), "seconds"),
        (("--seconds", "long"), "Invalid value for '--seconds'"),
        (("-o", ""), "-o is empty"),
    ],
)
def test_bad_arguments(copy: Path, arguments: tuple[object, ...], message: str) -> None:
    result = run("plan", copy, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1] and result.stderr.splitlines()[-1].startswith("error: ")
    assert not copy.with_name("m.safetensors.plan.json").exists()


@pytest.mark.parametrize("command", ["plan", "bench"])
def test_another_isa(command: str, copy: Path, mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("O3BNN_ISA", "mmx")
    message = error_line(run(command, copy, "--data", f"mnist:{mnist}"))
    assert message.startswith("O3BNN_ISA = 'mmx' is not available here")


def eval_arguments(planned: Path, mnist: Path) -> tuple[object, ...]:
    return "eval", planned, "--data", f"mnist:{mnist}"


def test_eval_uses_the_plan_beside_the_model(planned: Path, mnist: Path) -> None:
    document = run_json(*eval_arguments(planned, mnist))
    assert (document["planned"], document["pruning"]) == (True, "auto")
    for mode in ("on", "off"):
        assert run_json(*eval_arguments(planned, mnist), "--pruning", mode)["planned"] is False
    assert "note:" not in run_ok(*eval_arguments(planned, mnist)).stderr


def test_eval_uses_the_plan_that_it_is_given(model: Path, planned: Path, mnist: Path) -> None:
    document = run_json(*eval_arguments(model, mnist), "--plan", f"{planned}.plan.json")
    assert document["planned"] is True
    assert document["correct"] == run_json(*eval_arguments(model, mnist))["correct"]


def test_run_uses_the_plan_beside_the_model(planned: Path, model: Path, mnist: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", digits(mnist))
    assert (
        run_json("run", planned, tmp_path / "a.npy")["images"] == run_json("run", model, tmp_path / "a.npy")["images"]
    )
    Path(f"{planned}.plan.json").write_text("{}")
    assert "network: Field required" in error_line(run("run", planned, tmp_path / "a.npy"))


def test_plans_of_other_machines_networks_and_damaged_ones(planned: Path, mnist: Path, tmp_path: Path) -> None:
    place = Path(f"{planned}.plan.json")
    plan = load_plan(place)
    save_plan(plan.model_copy(update={"cpu": "another"}), place)
    result = run_ok(*eval_arguments(planned, mnist))
    assert result.stderr.splitlines()[0].startswith(f"note: {place} was made on another machine (another")
    assert run_json(*eval_arguments(planned, mnist))["planned"] is False
    assert run_json(*eval_arguments(planned, mnist), "--plan", place)["planned"] is True
    save_plan(plan.model_copy(update={"network": "0" * 64}), place)
    for more in ((), ("--plan", place)):
        message = error_line(run(*eval_arguments(planned, mnist), *more))
        assert "the plan was made for another network than 'tiny': make one with `o3bnn plan`" in message
    assert run_ok(*eval_arguments(planned, mnist), "--pruning", "off")
    place.write_text("?")
    assert "cannot read the plan" in error_line(run(*eval_arguments(planned, mnist)))
    message = error_line(run(*eval_arguments(planned, mnist), "--plan", tmp_path / "nothing"))
    assert "No such file or directory" in message


def test_a_plan_and_a_pruning_mode_contradict_each_other(planned: Path, mnist: Path) -> None:
    arguments = ("--plan", f"{planned}.plan.json", "--pruning", "on")
    message = error_line(run(*eval_arguments(planned, mnist), *arguments))
    assert message == "a plan is given, and pruning = 'on': leave one of them out"

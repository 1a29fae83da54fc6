"""Saved plans: written whole, read as untrusted, refused or left alone where they do not fit."""

import hashlib
import json
import re

import numpy as np
import pytest
from pydantic import ValidationError

from o3bnn import Engine
from o3bnn.engine import StagePlan, load_plan, plan_engine, save_plan, saved
from o3bnn.engine.machine import chosen_isa, cpu_name
from o3bnn.errors import InputError, PlanError
from o3bnn.model.artifact import save
from tests.engine import networks

NETWORK = networks.build(networks.AWKWARD["windows with a remainder"])
OTHER = networks.build(networks.Recipe((9, 10, 2), networks.AWKWARD["windows with a remainder"].convs, seed=1))
PLAN = plan_engine(NETWORK, seconds=1e-3)
AGAIN = "make one with `o3bnn plan`"


def quiet(text):
    raise AssertionError(text)


def changed(path, **fields):
    """Write the plan with some fields replaced."""
    path.write_text(json.dumps({**json.loads(PLAN.model_dump_json()), **fields}))
    return path


def test_a_plan_comes_back_as_it_was_saved(tmp_path):
    save_plan(PLAN, tmp_path / "p.json")
    assert load_plan(tmp_path / "p.json") == PLAN
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]
    save_plan(PLAN, str(tmp_path / "p.json"))
    assert load_plan(str(tmp_path / "p.json")) == PLAN


def test_a_plan_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        PLAN.isa = "scalar"
    with pytest.raises(ValidationError, match="frozen"):
        PLAN.stages[0].method = "words"


def test_the_checksum_is_that_of_the_model_file(tmp_path):
    save(NETWORK, tmp_path / "m.safetensors")
    assert PLAN.network == hashlib.sha256((tmp_path / "m.safetensors").read_bytes()).hexdigest()
    assert PLAN.network != saved.network_checksum(OTHER)


def test_a_failed_write_leaves_the_old_plan(tmp_path, monkeypatch):
    save_plan(PLAN, tmp_path / "p.json")
    before = (tmp_path / "p.json").read_bytes()

    def no_space(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(PlanError, match=r"cannot write the plan .*: No space left on device: free some space"):
        save_plan(PLAN, tmp_path / "p.json")
    assert (tmp_path / "p.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


@pytest.mark.parametrize("write", [lambda path: save_plan(PLAN, path), saved.check_plan_path])
def test_places_where_no_plan_can_be_written(write, tmp_path):
    with pytest.raises(PlanError, match=r"cannot write the plan .*: No such file or directory: check the path"):
        write(tmp_path / "nowhere" / "p.json")
    with pytest.raises(PlanError, match="Is a directory"):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "the document: Invalid JSON"),
        (b"{", "the document: Invalid JSON"),
        (b"\xff\xfe", "the document: Invalid JSON"),
        (b"[]", "the document: Input should be an object"),
        (b"{}", "network: Field required"),
        (b"[" * 100_000, "the document: Invalid JSON"),
    ],
)
def test_a_file_that_is_no_plan(text, message, tmp_path):
    (tmp_path / "p.json").write_bytes(text)
    with pytest.raises(PlanError, match=f"cannot read the plan .*: {message}.*; {AGAIN}"):
        load_plan(tmp_path / "p.json")


STAGE = json.loads(PLAN.stages[0].model_dump_json())


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"format": "o3bnn"}, "format"),
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"network": "12"}, "network"),
        ({"network": None}, "network"),
        ({"isa": 3}, "isa"),
        ({"cpu": "x" * 5000}, "cpu"),
        ({"threads": 0}, "threads"),
        ({"threads": 1.5}, "threads"),
        ({"images": -1}, "images"),
        ({"dense_seconds": -1.0}, "dense_seconds"),
        ({"planned_seconds": "1"}, "planned_seconds"),
        ({"stages": {}}, "stages"),
        ({"stages": [{**STAGE, "method": "magic"}]}, "stages.0.method"),
        ({"stages": [{**STAGE, "method": "threshold"}]}, "stages.0: Value error, its method is not among"),
        ({"stages": [{**STAGE, "candidates": []}]}, "stages.0.candidates"),
        ({"stages": [{**STAGE, "candidates": STAGE["candidates"][1:]}]}, "stages.0: Value error, .* dense is not"),
        ({"stages": [{**STAGE, "more": 1}]}, "stages.0.more"),
        ({"stages": [STAGE] * 1025}, "stages"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_a_damaged_plan_is_one_clear_error(fields, place, tmp_path):
    with pytest.raises(PlanError) as raised:
        load_plan(changed(tmp_path / "p.json", **fields))
    assert re.match(rf"cannot read the plan '.*p.json': {place}", str(raised.value))
    assert str(raised.value).endswith(AGAIN) and len(str(raised.value)) < 600


def test_infinities_and_large_files_are_refused(tmp_path):
    text = PLAN.model_dump_json()
    (tmp_path / "p.json").write_text(re.sub(r'"dense_seconds":[^,]*', '"dense_seconds":1e999', text))
    with pytest.raises(PlanError, match="dense_seconds"):
        load_plan(tmp_path / "p.json")
    (tmp_path / "p.json").write_text(text + " " * (4 << 20))
    with pytest.raises(PlanError, match=f"it is longer than {4 << 20} octets"):
        load_plan(tmp_path / "p.json")


def test_places_where_no_plan_can_be_read(tmp_path):
    with pytest.raises(PlanError, match="No such file or directory: check the path"):
        load_plan(tmp_path / "nothing.json")
    with pytest.raises(PlanError, match="Is a directory"):
        load_plan(tmp_path)
    with pytest.raises(PlanError, match="not a file"):
        load_plan("/dev/null")


def test_an_engine_refuses_the_plan_of_another_network():
    with pytest.raises(PlanError, match=f"the plan was made for another network than 'awkward': {AGAIN}"):
        Engine(OTHER, plan=PLAN)


def test_an_engine_refuses_the_plan_of_another_instruction_set():
    plan = PLAN.model_copy(update={"isa": "mmx"})
    with pytest.raises(PlanError, match=f"the plan was made for 'mmx', not for '{chosen_isa()}', which runs here"):
        Engine(NETWORK, plan=plan)


def test_an_engine_takes_the_plan_of_another_processor():
    plan = PLAN.model_copy(update={"cpu": "another"})
    pictures = networks.images(NETWORK, 3)
    engine = Engine(NETWORK, plan=plan)
    np.testing.assert_array_equal(engine.run(pictures), Engine(NETWORK, pruning="off").run(pictures))


@pytest.mark.parametrize(
    ("stage", "choice"),
    [(0, ("pooling", ())), (0, ("threshold", (1,))), (1, ("threshold", (1,))), (1, ("threshold", (3, 2)))],
)
def test_an_engine_refuses_methods_that_are_not_offered(stage, choice):
    """Stage 0 reads integers; the patches of stage 1 have one word."""
    method, checks = choice
    wrong = PLAN.stages[stage].model_copy(update={"method": method, "checks": checks})
    plan = PLAN.model_copy(update={"stages": (*PLAN.stages[:stage], wrong, *PLAN.stages[stage + 1 :])})
    with pytest.raises(PlanError, match=f"the plan runs conv{stage} by '{method}.*', which .* does not offer"):
        Engine(NETWORK, plan=plan)


def test_an_engine_refuses_other_stages():
    plan = PLAN.model_copy(update={"stages": PLAN.stages[::-1]})
    with pytest.raises(PlanError, match="the plan's stages are not those of 'awkward'"):
        Engine(NETWORK, plan=plan)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("p.json", r"plan is a str: pass an EnginePlan, or a StagePlan for each stage"),
        (["dense", "dense"], "plan is a list"),
        ([StagePlan()], "the plan has 1 stages, the network 2"),
        ([StagePlan("pooling"), StagePlan()], "conv0: .* offers no method 'pooling': use one of dense, words"),
        ([StagePlan("magic"), StagePlan()], "offers no method 'magic'"),
    ],
)
def test_an_engine_refuses_what_is_no_plan(plan, message):
    with pytest.raises(InputError, match=message):
        Engine(NETWORK, plan=plan)


@pytest.mark.parametrize("pruning", ["on", "off"])
def test_a_plan_and_a_pruning_mode_contradict_each_other(pruning):
    with pytest.raises(InputError, match=f"a plan is given, and pruning = '{pruning}': leave one of them out"):
        Engine(NETWORK, plan=PLAN, pruning=pruning)


def beside(tmp_path, **fields):
    path = changed(tmp_path / "m.safetensors.plan.json", **fields)
    assert path == saved.plan_path(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_a_plan_beside_the_model_is_found(tmp_path):
    assert saved.plan_beside(tmp_path / "m.safetensors", NETWORK, chosen_isa(), quiet) is None
    assert saved.plan_beside(beside(tmp_path), NETWORK, chosen_isa(), quiet) == PLAN


@pytest.mark.parametrize(("fields"), [{"cpu": "another"}, {"isa": "mmx"}, {"isa": "mmx", "network": "0" * 64}])
def test_a_plan_of_another_machine_is_left_alone_and_said_so(fields, tmp_path):
    told = []
    assert saved.plan_beside(beside(tmp_path, **fields), NETWORK, chosen_isa(), told.append) is None
    assert len(told) == 1
    assert "was made on another machine" in told[0] and cpu_name() in told[0]


def test_a_plan_beside_the_model_that_belongs_to_another_network(tmp_path):
    model = beside(tmp_path)
    with pytest.raises(
        PlanError, match=rf"plan\.json: the plan was made for another network .*: {AGAIN}, or delete it"
    ):
        saved.plan_beside(model, OTHER, chosen_isa(), quiet)


def test_a_damaged_plan_beside_the_model(tmp_path):
    with pytest.raises(PlanError, match="threads"):
        saved.plan_beside(beside(tmp_path, threads=0), NETWORK, chosen_isa(), quiet)

"""Instruction sets: chosen at run time, forced by O3BNN_ISA, and the forced kernels are those that run."""

import platform
from pathlib import Path

import pytest

from o3bnn import Engine, _native
from o3bnn.engine.plan import StagePlan, default_plan, native_plan, offered_methods
from o3bnn.errors import InputError
from tests.engine import networks

CPU_INFO = Path("/proc/cpuinfo")
ISAS = _native.available_isas()
NETWORK = networks.build(networks.AWKWARD["windows with a remainder"])


def input_kernel(isa: str) -> str:
    """What runs the input stage of NETWORK: AVX-512 looks its sums up."""
    return "conv_int_tables_avx512" if isa == "avx512" else f"conv_int_{isa}"


def test_scalar_is_always_available_and_comes_last():
    assert _native.available_isas()[-1] == "scalar"


def test_instruction_sets_are_listed_best_first():
    best_first = ("avx512", "avx2", "neon", "scalar")
    assert _native.available_isas() == [isa for isa in best_first if isa in _native.available_isas()]


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPU_INFO.exists(), reason="reads Linux's x86 features")
def test_avx2_is_available_where_the_processor_has_it():
    flags = next(line for line in CPU_INFO.read_text().splitlines() if line.startswith("flags")).split()
    assert ("avx2" in _native.available_isas()) == ("avx2" in flags and "popcnt" in flags)


@pytest.mark.parametrize("isa", ISAS)
def test_a_forced_instruction_set_runs_its_own_kernels(isa, monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", isa)
    engine = Engine(NETWORK, threads=1, pruning="off")
    assert engine.isa == isa
    assert engine.kernels == (input_kernel(isa), f"conv_b1_{isa}")


@pytest.mark.parametrize("isa", ISAS)
def test_every_method_that_is_offered_runs_under_its_name(isa):
    integer, binary = offered_methods(NETWORK, isa)
    assert integer == ["dense", "words"]
    assert {"dense", "words"} <= set(binary) <= {"dense", "pooling", "threshold", "words"}
    for method in binary:
        native = _native.Engine(native_plan(NETWORK, [StagePlan(), StagePlan(method)]), isa, 1, 0)
        assert native.kernel_names() == [input_kernel(isa), f"conv_b1_{'' if method == 'dense' else method + '_'}{isa}"]


@pytest.mark.parametrize("isa", ISAS)
def test_pruning_everywhere_prefers_kernels_to_the_walk(isa):
    first, second = default_plan(NETWORK, isa, "on")
    assert first == StagePlan("dense")  # integers
    assert second.method == ("pooling" if "pooling" in offered_methods(NETWORK, isa)[1] else "words")
    assert default_plan(NETWORK, isa, "off") == [StagePlan("dense")] * 2
    network = networks.build(networks.AWKWARD["many words"])
    for stage, methods, how in zip(
        network.stages, offered_methods(network, isa), default_plan(network, isa, "on"), strict=True
    ):
        words = -(-stage.geometry.full_fan_in // 64)
        if stage.integer_input or "pooling" in methods:
            continue
        looks = "threshold" in methods and words > 1
        assert how == (StagePlan("threshold", (words // 2, words * 2 // 3)) if looks else StagePlan("words"))


def test_a_method_that_is_not_offered_is_refused():
    plan = native_plan(NETWORK, [StagePlan("pooling"), StagePlan()])
    with pytest.raises(ValueError, match="scalar does not offer the method pooling for a stage"):
        _native.Engine(plan, "scalar", 1, 0)
    with pytest.raises(ValueError, match="there is no method 'fast'"):
        native_plan(NETWORK, [StagePlan("fast"), StagePlan()])


@pytest.mark.parametrize("checks", [(0,), (1, 1), (2, 1), (3,), (-1,)])
def test_checks_increase_inside_a_patch(checks):
    network = networks.build(networks.AWKWARD["many words"])
    words = [-(-stage.geometry.full_fan_in // 64) for stage in network.stages]
    assert words[1] == 19
    plan = [StagePlan(), StagePlan("threshold", tuple(check + 16 if check == 3 else check for check in checks))]
    with pytest.raises(InputError, match=r"dense0: checks = .* do not increase from 1 to at most 18"):
        native_plan(network, [*plan, StagePlan()])


def test_scalar_kernels_by_name(monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", "scalar")
    assert Engine(NETWORK, threads=1).kernels == ("conv_int_scalar", "conv_b1_scalar")


@pytest.mark.parametrize("name", ["mmx", "Scalar", "scalar ", "conv_b1_scalar"])
def test_an_unknown_instruction_set_is_an_error_that_lists_the_available_ones(name, monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", name)
    with pytest.raises(InputError) as raised:
        Engine(NETWORK)
    assert str(raised.value) == (
        f"O3BNN_ISA = {name!r} is not available here: unset it or use one of {', '.join(_native.available_isas())}"
    )


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", "")
    assert Engine(NETWORK, threads=1).isa == _native.available_isas()[0]
    monkeypatch.delenv("O3BNN_ISA")
    assert Engine(NETWORK, threads=1).isa == _native.available_isas()[0]


def test_the_variable_counts_when_the_engine_is_made(monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", "scalar")
    engine = Engine(NETWORK, threads=1)
    monkeypatch.setenv("O3BNN_ISA", "mmx")
    assert len(engine.run(networks.images(NETWORK, 2))) == 2

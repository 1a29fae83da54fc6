"""Instruction sets: chosen at run time, forced by O3BNN_ISA, and the forced kernels are those that run."""

import platform
from pathlib import Path

import pytest

from o3bnn import Engine, _native
from o3bnn.errors import InputError
from tests.engine import networks

CPU_INFO = Path("/proc/cpuinfo")
NETWORK = networks.build(networks.AWKWARD["windows with a remainder"])


def test_scalar_is_always_available_and_comes_last():
    assert _native.available_isas()[-1] == "scalar"


def test_instruction_sets_are_listed_best_first():
    best_first = ("avx512", "avx2", "neon", "scalar")
    assert _native.available_isas() == [isa for isa in best_first if isa in _native.available_isas()]


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPU_INFO.exists(), reason="reads Linux's x86 features")
def test_avx2_is_available_where_the_processor_has_it():
    flags = next(line for line in CPU_INFO.read_text().splitlines() if line.startswith("flags")).split()
    assert ("avx2" in _native.available_isas()) == ("avx2" in flags and "popcnt" in flags)


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize("pruning", ["on", "off"])
def test_a_forced_instruction_set_runs_its_own_kernels(isa, pruning, monkeypatch):
    monkeypatch.setenv("O3BNN_ISA", isa)
    engine = Engine(NETWORK, threads=1, pruning=pruning)
    assert engine.isa == isa
    assert engine.kernels[1:] == (f"conv_b1_{isa}",) * (len(NETWORK.stages) - 1)


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

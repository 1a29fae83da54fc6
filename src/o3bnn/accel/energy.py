"""Energy of a simulation: counted events times a replaceable table, plus static power times time (DESIGN, section 9).

The table is for an ASIC of 45/40 nm, since that is what public tables cover; it says nothing about an FPGA's power.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from o3bnn.accel import unique_yaml
from o3bnn.accel.config import AcceleratorConfig
from o3bnn.accel.results import StageResult
from o3bnn.errors import ConfigError, os_error_text

Bound = Literal["low", "typical", "high"]
BOUNDS: tuple[Bound, ...] = ("low", "typical", "high")
EVENTS = ("edge", "accumulate", "compare", "station", "sram_bit", "dram_bit", "static_mw_per_pe")


class EnergyEntry(BaseModel):
    """Energy of one event: low <= typical <= high in `unit`, and where that comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    typical: float = Field(ge=0, allow_inf_nan=False)
    low: float = Field(ge=0, allow_inf_nan=False)
    high: float = Field(ge=0, allow_inf_nan=False)
    unit: str = Field(min_length=1)
    basis: Literal["published", "derived", "parameter"]
    source: str = Field(min_length=8)

    @model_validator(mode="after")
    def _ordered(self) -> "EnergyEntry":
        if not self.low <= self.typical <= self.high:
            raise ValueError(f"low = {self.low}, typical = {self.typical}, high = {self.high} are not in order")
        return self


class EnergyTable(BaseModel):
    """Energy of every event."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    entries: dict[str, EnergyEntry]

    @model_validator(mode="after")
    def _complete(self) -> "EnergyTable":
        if set(self.entries) != set(EVENTS):
            raise ValueError(f"entries are {sorted(self.entries)}, not {sorted(EVENTS)}")
        return self


def load_table(path: str | Path | None = None) -> EnergyTable:
    """Read an energy table from YAML; by default the one that is shipped.

    Raises:
        ConfigError: no such file, no YAML, or an entry that is given twice, incomplete or out of order.
    """
    name = "energy.yaml of o3bnn" if path is None else str(path)
    try:
        text = (files("o3bnn.accel") / "energy.yaml").read_text() if path is None else Path(path).read_text()
        return EnergyTable.model_validate(unique_yaml.load(text))
    except OSError as error:
        raise ConfigError(f"cannot read the energy table {name!r}: {os_error_text(error)}") from None
    except ConfigError as error:
        raise ConfigError(f"the energy table {name!r}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"the energy table {name!r} is not YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the table"
        raise ConfigError(f"the energy table {name!r}: {place}: {first['msg']}") from None


@dataclass(frozen=True)
class Energy:
    """Energy in pJ of each kind of event at one end of the ranges; edges: the dense edges that it is divided by."""

    parts: Mapping[str, float]
    edges: int

    @property
    def total(self) -> float:
        """Total, in pJ."""
        return sum(self.parts.values())

    @property
    def per_edge(self) -> float:
        """Energy per dense edge in fJ: pruned edges count in the divisor, as peers count operations."""
        return 1000 * self.total / self.edges if self.edges else 0.0


def events(stage: StageResult, config: AcceleratorConfig) -> dict[str, float]:
    """How often each event of the table happened; static energy in mW-seconds * 1e9 (pJ per mW)."""
    words, word = stage.issued, config.word
    accesses = 2 * words * word + stage.traffic["slot_writes"] * word + stage.traffic["map_reads"] * word
    accesses += stage.traffic["map_write_bits"] + stage.traffic["weight_writes"] * word
    seconds = stage.cycles * config.seconds_per_cycle
    return {
        "edge": float(stage.edges.evaluated + stage.wasted),
        "accumulate": float(words),
        "compare": float(words),
        "station": float(words),
        "sram_bit": float(accesses),
        "dram_bit": float(stage.traffic["dram_weight_bits"] + stage.traffic["dram_map_bits"]),
        "static_mw_per_pe": config.pes * seconds * 1e9,
    }


def estimate(stage: StageResult, config: AcceleratorConfig, table: EnergyTable, bound: Bound = "typical") -> Energy:
    """Energy of a stage, or of a total."""
    counted = events(stage, config)
    parts: dict[str, Any] = {name: counted[name] * getattr(table.entries[name], bound) for name in EVENTS}
    return Energy(parts, stage.edges.dense)

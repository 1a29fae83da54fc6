"""What the accelerator is: one frozen, validated configuration for simulator, RTL, energy and resource models.

Field names are those of docs/timing.md, which says what each one means for the cycles.
"""

from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from o3bnn.accel import unique_yaml
from o3bnn.errors import ConfigError, os_error_text

Machine = Literal["dense", "inorder", "o3"]
Policy = Literal["oldest", "round_robin"]
BoundsKind = Literal["simple", "sharp"]

MAX_FILE = 1 << 16
MAX_MAP_BYTES = 1 << 30
MAX_PE_BYTES = 1 << 30


class AcceleratorConfig(BaseModel):
    """An accelerator.

    pes: processing elements N. word: edges a PE takes at once, B, a power of two. stations: reservation stations R of a
    PE. latency: cycles L from a word's issue to its decision. depth: windows D that a PE may work on at once.
    policy: which ready station issues. speculate: issue and dispatch ahead of decisions where nothing else is ready.
    lockstep: PEs of a group move together. prune: skip edges at all. help: at the end of a pass a group takes work over
    from another. bounds: what decides a neuron early.
    bounds_words: words a cycle of the unit that computes sharp bounds.
    loader_words: patch words a cycle, of all groups. slot_words: patch words that a PE holds. weight_words: words of a
    PE's weight bank. burst_words: words of one DRAM burst to a bank. map_bytes: on-chip maps, the outputs of even of
    odd stages.
    dram_bytes: bytes a cycle. dram_latency: cycles. image_in_dram: the image comes from DRAM; otherwise by a way of its
    own, in time. clock_mhz: clock in MHz.
    device: what the resource model compares with, or `none`.

    Raises:
        ConfigError: names the field, its value and the legal range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="custom", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    pes: int = Field(default=64, ge=1, le=4096, strict=True)
    word: int = Field(default=64, ge=1, le=512, strict=True)
    stations: int = Field(default=4, ge=1, le=32, strict=True)
    latency: int = Field(default=3, ge=1, le=16, strict=True)
    depth: int = Field(default=4, ge=1, le=64, strict=True)
    policy: Policy = "oldest"
    speculate: bool = Field(default=True, strict=True)
    lockstep: bool = Field(default=False, strict=True)
    prune: bool = Field(default=True, strict=True)
    help: bool = Field(default=True, strict=True)
    bounds: BoundsKind = "simple"
    bounds_words: int = Field(default=4, ge=1, le=64, strict=True)
    loader_words: int = Field(default=4, ge=1, le=256, strict=True)
    slot_words: int = Field(default=512, ge=1, le=1 << 22, strict=True)
    weight_words: int = Field(default=1024, ge=1, le=1 << 24, strict=True)
    burst_words: int = Field(default=8, ge=1, le=64, strict=True)
    map_bytes: tuple[int, int] = Field(default=(1 << 18, 1 << 18), strict=True)
    dram_bytes: int = Field(default=16, ge=1, le=4096, strict=True)
    dram_latency: int = Field(default=40, ge=0, le=400, strict=True)
    image_in_dram: bool = Field(default=False, strict=True)
    clock_mhz: float = Field(default=200.0, ge=1, le=5000, allow_inf_nan=False, strict=True)
    device: Literal["none", "xc7z045", "xc7z020", "lfe5u_85f"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("map_bytes"), list):
            return {**values, "map_bytes": tuple(values["map_bytes"])}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.word & (self.word - 1):
            raise ValueError(f"word = {self.word} is not a power of two in 1..512")
        for size in self.map_bytes:
            if not 1 <= size <= MAX_MAP_BYTES:
                raise ValueError(f"map_bytes = {self.map_bytes} is not a pair of integers in 1..{MAX_MAP_BYTES}")
        octets = self.pes * (self.weight_words + self.slot_words) * self.word // 8
        if octets > MAX_PE_BYTES:
            raise ValueError(
                f"pes = {self.pes} x (weight_words = {self.weight_words} + slot_words = {self.slot_words}) words of "
                f"{self.word} bits are {octets} bytes of memory: use less, {MAX_PE_BYTES} at most"
            )
        if self.burst_words > self.weight_words:
            raise ValueError(
                f"burst_words = {self.burst_words} does not fit in a bank of weight_words = {self.weight_words}: "
                f"use 1..{min(64, self.weight_words)}"
            )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Wraps all of the above: whichever way a config is made, what is wrong with it is one ConfigError."""
        try:
            return handler(values)
        except ValidationError as error:
            raise ConfigError("; ".join(_explain(entry) for entry in error.errors()[:4])) from None

    def replace(self, **changes: Any) -> "AcceleratorConfig":
        """Return a copy with some fields changed, validated again.

        Raises:
            ConfigError: an unknown field or a value out of its range.
        """
        return AcceleratorConfig(**{**self.model_dump(), **changes})

    def machine(self, machine: Machine) -> "AcceleratorConfig":
        """Return the same resources run as one of the three machines.

        `o3` is the config as it stands; `inorder` is lockstep with one station and one window; `dense` is lockstep
        without pruning.
        """
        if machine == "o3":
            return self
        if machine == "inorder":
            return self.replace(lockstep=True, stations=1, depth=1)
        if machine == "dense":
            return self.replace(lockstep=True, prune=False)
        raise ConfigError(f"machine = {machine!r} is not one of dense, inorder, o3")

    def to_yaml(self) -> str:
        """Return the config as YAML, readable by `load`."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @property
    def seconds_per_cycle(self) -> float:
        return 1e-6 / self.clock_mhz


def load(text_or_preset: str | Path) -> AcceleratorConfig:
    """Return a preset by its name, or a config from a YAML file, which may start from a preset by `preset: NAME`.

    Raises:
        ConfigError: no such preset or file, no YAML, or a bad value; names the file.
    """
    if str(text_or_preset) in PRESETS:
        return PRESETS[str(text_or_preset)]
    path = Path(text_or_preset)
    if not path.is_file():
        raise ConfigError(f"{str(path)!r} is neither a preset ({', '.join(PRESETS)}) nor a file")
    if path.stat().st_size > MAX_FILE:
        raise ConfigError(f"{path} is larger than {MAX_FILE} bytes: it is not an accelerator config")
    try:
        return from_yaml(path.read_text())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {os_error_text(error)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text: {error}") from None


def from_yaml(text: str) -> AcceleratorConfig:
    """Return a config from YAML text: a mapping of fields, and optionally `preset`.

    Raises:
        ConfigError: no YAML mapping, a field given twice, an unknown field, or a bad value.
    """
    try:
        values = unique_yaml.load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ConfigError(f"not YAML: {error.problem}" + (f", line {mark.line + 1}" if mark else "")) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError("an accelerator config is a YAML mapping of field names to values")
    preset = values.pop("preset", None)
    if preset is None:
        return AcceleratorConfig(**values)
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"preset = {preset!r} is not one of {', '.join(PRESETS)}")
    return PRESETS[preset].replace(**{"name": "custom", **values})


def _explain(entry: Any) -> str:
    """One error as: field = value, and the legal range."""
    field = ".".join(str(part) for part in entry["loc"])
    context = entry.get("ctx", {})
    if entry["type"] == "extra_forbidden":
        return f"unknown field {field!r}: the fields are {', '.join(AcceleratorConfig.model_fields)}"
    if not field:
        return str(context.get("error", entry["msg"]))
    value = repr(entry["input"])
    return f"{field} = {value if len(value) < 80 else value[:77] + '...'} is not {_legal(str(entry['loc'][0]))}"


def _legal(field: str) -> str:
    """The legal range of a field in words."""
    info = AcceleratorConfig.model_fields[field]
    if field == "map_bytes":
        return f"a pair of integers in 1..{MAX_MAP_BYTES}"
    if get_args(info.annotation):
        return "one of " + ", ".join(get_args(info.annotation))
    if info.annotation is bool:
        return "true or false"
    if field == "name":
        return "a name of 1 to 64 letters, digits, '_', '.' or '-'"
    low = next(bound.ge for bound in info.metadata if isinstance(bound, Ge))
    high = next(bound.le for bound in info.metadata if isinstance(bound, Le))
    return f"{'an integer' if info.annotation is int else 'a number'} in {low}..{high}"


PRESETS = {
    config.name: config
    for config in (
        AcceleratorConfig(
            name="zc706",
            pes=232,
            word=64,
            stations=4,
            latency=3,
            depth=4,
            loader_words=24,
            slot_words=512,
            weight_words=512,
            map_bytes=(100_352, 100_352),
            # Both memories of the board: the PL's SODIMM, 64 bit at 1600 MT/s, 12.8 GB/s (UG954), and the PS's, 32 bit
            # at 1066 MT/s, 4.264 GB/s through the AXI HP ports (UG585, "Theoretical Bandwidth"). Together 85.3 bytes a
            # cycle at peak; 82 is 96% of that. UG585 ("DDR Efficiency") measured 97% for sequential reads at the PS.
            dram_bytes=82,
            dram_latency=40,
            image_in_dram=True,
            clock_mhz=200.0,
            device="xc7z045",
        ),
        AcceleratorConfig(
            name="pynq_z1",
            pes=48,
            word=64,
            stations=6,
            latency=3,
            depth=4,
            loader_words=4,
            slot_words=512,
            weight_words=512,
            map_bytes=(65_536, 32_768),
            dram_bytes=16,
            dram_latency=40,
            image_in_dram=True,
            clock_mhz=100.0,
            device="xc7z020",
        ),
        AcceleratorConfig(
            name="ecp5_85f",
            pes=48,
            word=32,
            stations=4,
            latency=3,
            depth=4,
            loader_words=4,
            slot_words=512,
            weight_words=1024,
            map_bytes=(65_536, 32_768),
            dram_bytes=4,
            dram_latency=40,
            image_in_dram=True,
            clock_mhz=60.0,
            device="lfe5u_85f",
        ),
        AcceleratorConfig(
            name="tiny",
            pes=4,
            word=16,
            stations=2,
            latency=2,
            depth=2,
            loader_words=2,
            slot_words=4096,
            weight_words=65536,
            map_bytes=(65_536, 65_536),
            dram_bytes=8,
            dram_latency=10,
            image_in_dram=True,
            clock_mhz=50.0,
        ),
    )
}

"""The plan of an engine: which method runs each stage on this machine, and the times that say why.

`o3bnn.engine.planner` makes plans. A plan is kept as JSON beside its model file (`digits.safetensors.plan.json`), is
read as untrusted, and changes times only: whatever it says, every bit stays the same.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from o3bnn.engine.machine import cpu_name
from o3bnn.engine.plan import StagePlan, offered_methods
from o3bnn.errors import ArtifactError, PlanError, os_error_text
from o3bnn.model import artifact, packing
from o3bnn.model.files import check_regular, check_writable, write_whole
from o3bnn.model.network import MAX_STAGES, Network

SUFFIX = ".plan.json"
MAX_FILE = 4 << 20
AGAIN = "make one with `o3bnn plan`"

Method = Literal["dense", "pooling", "threshold", "words"]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=4096)]
StrPath = str | os.PathLike[str]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Candidate(_Record):
    """A way to run a stage that was timed.

    seconds: an image takes, the median over `rounds` rounds of all sample images. speedup: how many times as fast as
    dense in the same round: first quartile, median and third quartile over rounds. One that is far slower than dense
    was timed in a few rounds only.
    """

    method: Method
    checks: tuple[int, ...] = ()
    seconds: Seconds
    rounds: Annotated[int, Field(ge=1)]
    speedup: tuple[Seconds, Seconds, Seconds]

    @property
    def label(self) -> str:
        """As tables show it: `dense`, or `threshold after 9, 18`."""
        return describe_method(self.method, self.checks)


class StageChoice(_Record):
    """What runs one stage, why, and what else was timed; dense comes first among the candidates."""

    name: Text
    method: Method
    checks: tuple[int, ...] = ()
    reason: Text
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _chosen_was_timed(self) -> Self:
        ways = [(candidate.method, candidate.checks) for candidate in self.candidates]
        if ways[0] != ("dense", ()) or (self.method, self.checks) not in ways:
            raise ValueError("its method is not among its candidates, or dense is not the first of them")
        return self

    @property
    def chosen(self) -> Candidate:
        """The candidate that runs the stage."""
        return next(c for c in self.candidates if (c.method, c.checks) == (self.method, self.checks))

    @property
    def label(self) -> str:
        return describe_method(self.method, self.checks)


class EnginePlan(_Record):
    """How to run one network on one machine.

    network: SHA-256 of the octets of its model file, in hexadecimal. isa: instruction set. cpu: the processor's name.
    threads: threads that ran at the same time while stages were timed. images, source: the sample images, their number
    and where they came from. dense_seconds and planned_seconds: medians of an image through the whole network, measured
    in turns after the choice; equal where the plan is dense.
    stages: one each, the output stage left out.
    """

    format: Literal["o3bnn-plan"] = "o3bnn-plan"
    version: Annotated[int, Field(ge=1, le=1)] = 1
    network: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    isa: Text
    cpu: Text
    threads: Annotated[int, Field(ge=1, le=1024)]
    images: Annotated[int, Field(ge=1)]
    source: Text
    dense_seconds: Seconds
    planned_seconds: Seconds
    stages: Annotated[tuple[StageChoice, ...], Field(max_length=MAX_STAGES)]

    @property
    def stage_plans(self) -> list[StagePlan]:
        return [StagePlan(stage.method, stage.checks) for stage in self.stages]

    @property
    def speedup(self) -> float:
        """How many times as fast as dense the whole network ran on the sample images."""
        return self.dense_seconds / self.planned_seconds if self.planned_seconds else 1.0

    def check(self, network: Network, isa: str) -> None:
        """Raise `PlanError` unless the plan fits a network and an instruction set; the processor may be another."""
        if self.network != network_checksum(network):
            raise PlanError(f"the plan was made for another network than {network.name!r}: {AGAIN}")
        if self.isa != isa:
            raise PlanError(f"the plan was made for {self.isa[:40]!a}, not for {isa!r}, which runs here: {AGAIN}")
        names = [stage.name for stage in network.stages]
        if [choice.name for choice in self.stages] != names:
            raise PlanError(f"the plan's stages are not those of {network.name!r}: {AGAIN}")
        for stage, choice, offered in zip(network.stages, self.stages, offered_methods(network, isa), strict=True):
            words = packing.word_count(stage.geometry.full_fan_in)
            inside = choice.checks == tuple(sorted({check for check in choice.checks if 0 < check < words}))
            if choice.method not in offered or not inside:
                raise PlanError(f"the plan runs {stage.name} by {choice.label!r}, which {isa} does not offer: {AGAIN}")


def describe_method(method: str, checks: tuple[int, ...]) -> str:
    """A method with its checks, as tables and messages show it."""
    return f"{method} after {', '.join(map(str, checks))}" if checks else method


def network_checksum(network: Network) -> str:
    """SHA-256 of the octets of a network's model file: that of any file that the network was saved to."""
    return hashlib.sha256(artifact.encode(network)).hexdigest()


def plan_path(model: StrPath) -> Path:
    """Where the plan of a model file is kept: beside it, the file's name with `.plan.json` added."""
    path = Path(model)
    return path.with_name(path.name + SUFFIX)


def check_plan_path(path: StrPath) -> None:
    """Raise what `save_plan` would, as far as that shows beforehand."""
    _writing(path, check_writable)


def save_plan(plan: EnginePlan, path: StrPath) -> None:
    """Write a plan as JSON; the file appears whole or not at all. Raises `PlanError` where it cannot be written."""
    octets = (plan.model_dump_json(indent=1) + "\n").encode()
    _writing(path, lambda file: write_whole(file, octets))


def _writing(path: StrPath, write: Callable[[Path], None]) -> None:
    try:
        write(Path(path))
    except OSError as error:
        raise PlanError(f"cannot write the plan {str(path)!r}: {os_error_text(error)}") from error
    except ArtifactError as error:
        raise PlanError(f"cannot write the plan {str(path)!r}: {error}") from error


def load_plan(path: StrPath) -> EnginePlan:
    """Read a plan, which may come from anywhere. `EnginePlan.check` says whether it fits a network.

    Raises:
        PlanError: the file is missing, damaged, or no plan.
    """
    try:
        check_regular(Path(path), Path(path).stat().st_mode)
        with Path(path).open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise PlanError(f"cannot read the plan {str(path)!r}: {os_error_text(error)}") from error
    except ArtifactError as error:
        raise PlanError(f"cannot read the plan {str(path)!r}: {error}") from error
    if len(text) > MAX_FILE:
        raise PlanError(f"cannot read the plan {str(path)!r}: it is longer than {MAX_FILE} octets: {AGAIN}")
    try:
        return EnginePlan.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise PlanError(f"cannot read the plan {str(path)!r}: {place}: {first['msg']}; {AGAIN}") from error


def plan_beside(model: StrPath, network: Network, isa: str, notice: Callable[[str], None]) -> EnginePlan | None:
    """The plan beside a model file, or None where there is none or where it was made on another machine.

    notice: is told in one line why a plan of another processor or instruction set is left alone.

    Raises:
        PlanError: the plan is damaged or belongs to another network.
    """
    path = plan_path(model)
    if not path.exists():
        return None
    plan = load_plan(path)
    if (plan.isa, plan.cpu) != (isa, cpu_name()):
        notice(
            f"{path} was made on another machine ({plan.cpu[:80]}, {plan.isa[:20]}), not for {cpu_name()}, {isa}: "
            "it is not used; `o3bnn plan` makes one"
        )
        return None
    try:
        plan.check(network, isa)
    except PlanError as error:
        raise PlanError(f"{path}: {error}, or delete it") from error
    return plan

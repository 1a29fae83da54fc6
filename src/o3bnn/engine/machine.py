"""Which machine this is, and which of its instruction sets is used."""

import os
import platform
import sys
from pathlib import Path

from o3bnn import _native
from o3bnn.errors import InputError


def cpu_name() -> str:
    """The processor's name as the system tells it, else its architecture."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            field, _, value = line.partition(":")
            if field.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def chosen_isa() -> str:
    """The best instruction set of this machine, or the one that O3BNN_ISA names.

    Raises:
        InputError: O3BNN_ISA names none that is available here.
    """
    available = _native.available_isas()
    forced = os.environ.get("O3BNN_ISA")
    if not forced:
        return available[0]
    if forced not in available:
        raise InputError(f"O3BNN_ISA = {forced!r} is not available here: unset it or use one of {', '.join(available)}")
    return forced

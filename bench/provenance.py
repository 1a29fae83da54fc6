"""What every row of results/ says of its origin."""

import platform
import subprocess
from pathlib import Path

import numpy as np

import o3bnn

RESULTS = Path(__file__).parent.parent / "results"


def provenance(command: str) -> dict[str, str]:
    """commit (with + where the tree differs from it), host, versions and the command."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "host": f"{platform.system()} {platform.machine()}, {processor()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "o3bnn": o3bnn.__version__,
        "command": command,
    }


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )

"""What every row of results/ says of its origin, and how rows get there."""

import csv
import platform
import subprocess
from collections.abc import Mapping, Sequence
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


def write_rows(name: str, rows: Sequence[Mapping[str, object]], keys: Sequence[str]) -> None:
    """Write rows to a table of results/, after those of its rows that are of other `keys`."""
    path = RESULTS / name
    new = {tuple(str(row.get(key, "")) for key in keys) for row in rows}
    kept: list[Mapping[str, object]] = []
    if path.is_file():
        with path.open(newline="") as stream:
            kept = [row for row in csv.DictReader(stream) if tuple(row.get(key, "") for key in keys) not in new]
    fields = list(dict.fromkeys(field for row in (*rows, *kept) for field in row))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fields, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *rows])
    print(f"wrote {path}: {len(rows)} rows, kept {len(kept)}")


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )

"""Edges a second of every dense kernel of this machine, operands in the cache: builds and runs `kernel_bench`.

    python bench/kernels.py [--build FOLDER]

Needs CMake and a C++20 compiler. Kernels run in turns on one thread, a figure is the best of 15 rounds; limits are
compared, nothing is gathered; `conv_int_tables` includes making the tables of one row of neurons. Writes
results/kernels.csv.
"""

import argparse
import csv
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from provenance import RESULTS, provenance

ROOT = Path(__file__).parent.parent
SHAPE = re.compile(r"(integers, )?fan-in (\d+), (\d+) channels, (\d+) patches")
FIGURE = re.compile(r"(conv_\w+) ([\d.]+)")


def build(folder: Path) -> Path:
    """The benchmark program, made anew where sources changed."""
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DO3BNN_BUILD_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release"]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(folder), "--target", "kernel_bench"], check=True, stdout=subprocess.DEVNULL)
    return folder / "kernel_bench"


def rows(output: str) -> Iterator[dict[str, object]]:
    """A row a shape and kernel.

    Raises:
        ValueError: a line that is none of the benchmark's.
    """
    for line in output.splitlines():
        shape = SHAPE.match(line)
        if shape is None:
            raise ValueError(f"kernel_bench printed {line!r}, which names no shape")
        for kernel, speed in FIGURE.findall(line):
            yield {
                "kernel": kernel,
                "fan_in": shape[2],
                "channels": shape[3],
                "patches": shape[4],
                "edges_per_ns": speed,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "kernel-bench", help="where CMake builds")
    program = build(parser.parse_args().build)
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    print(output, end="")
    found, origin = list(rows(output)), {"threads": 1} | provenance("python bench/kernels.py")
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "kernels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*found[0], *origin], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | origin for row in found)


if __name__ == "__main__":
    main()

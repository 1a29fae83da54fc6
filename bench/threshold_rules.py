"""How often other ways to a threshold disagree with PyTorch's own batch norm, and where that one disagrees with itself.

    python bench/threshold_rules.py [--channels 1000000] [--seeds 3]

Draws random batch norms, finds each channel's threshold by bisecting `torch.nn.BatchNorm1d` in eval mode (on the CPU,
float32) and by other rules, and counts the channels whose thresholds differ. Repeats it for the CPU capabilities that
PyTorch can be told to use. Writes results/threshold_rules.csv. Needs the `train` extra; about a minute on one core.
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

RESULTS = Path(__file__).parent.parent / "results" / "threshold_rules.csv"
CAPABILITIES = ("native", "avx2", "default")
POPULATIONS = {
    "hidden": "fan-in 288..9216, bits",
    "first": "fan-in 27..784, integers up to 255",
    "ties": "fan-in 288..9216, bits, beta 0, integer means",
}
COLUMNS = ("population", "capability", "compared", "unit", "total", "differ")


def norm(population: str, channels: int, seed: int) -> tuple[nn.BatchNorm1d, Tensor]:
    """A random batch norm in eval mode, and the greatest sum of each channel."""
    rng = np.random.default_rng([seed, *population.encode()])
    first = population == "first"
    fan_in = rng.choice([27, 75, 363, 784] if first else [288, 576, 1152, 2304, 4608, 9216], channels)
    spread = np.sqrt(fan_in) * (150 if first else 1)
    values = {
        "weight": rng.normal(0, 1, channels),
        "bias": rng.normal(0, 0.5, channels) * (population != "ties"),
        "running_mean": rng.normal(0, 1, channels) * spread,
        "running_var": (spread * rng.uniform(0.2, 2, channels)) ** 2,
    }
    if population == "ties":
        values["running_mean"] = np.rint(values["running_mean"])
    module = nn.BatchNorm1d(channels).eval().requires_grad_(False)
    for name, value in values.items():
        getattr(module, name).copy_(torch.from_numpy(value))
    return module, torch.from_numpy(fan_in * (255 if first else 1)).float()


def bisected(function: Callable[[Tensor], Tensor], bound: Tensor, increasing: Tensor) -> Tensor:
    """First sum whose bit is that of the upper end."""
    below, above = -bound, bound
    while bool((above - below > 1).any()):
        middle = torch.floor((below + above) / 2)
        upper = (function(middle) >= 0) == increasing
        below, above = torch.where(upper, below, middle), torch.where(upper, middle, above)
    return above


def rules(module: nn.BatchNorm1d, bound: Tensor, increasing: Tensor) -> dict[str, Tensor]:
    """Thresholds by every rule."""
    mean, variance, gamma, beta = module.running_mean, module.running_var, module.weight, module.bias
    assert mean is not None
    assert variance is not None
    inverse = 1 / torch.sqrt(variance + module.eps)
    scale = inverse * gamma
    offset = beta - mean * scale
    exact = mean.double() - beta.double() * torch.sqrt(variance.double() + module.eps) / gamma.double()
    divided = mean - beta * torch.sqrt(variance + module.eps) / gamma
    return {
        "bisection of PyTorch": bisected(lambda s: module(s[None])[0], bound, increasing),
        "bisection of s * scale + offset": bisected(lambda s: s * scale + offset, bound, increasing),
        "bisection of (s - mean) * inv * gamma + beta": bisected(
            lambda s: (s - mean) * inverse * gamma + beta, bound, increasing
        ),
        "float32 division": torch.where(increasing, torch.ceil(divided), torch.floor(divided) + 1),
        "float64 division": torch.where(increasing, torch.ceil(exact), torch.floor(exact) + 1).float(),
    }


def compare_rules(population: str, channels: int, seeds: int, save: Path) -> list[tuple[object, ...]]:
    """Rows for one population; also keeps PyTorch's thresholds in a file, to compare capabilities."""
    differ: dict[str, int] = {}
    total, kept = 0, []
    for seed in range(seeds):
        module, bound = norm(population, channels, seed)
        low, high = module(-bound[None])[0] >= 0, module(bound[None])[0] >= 0
        found = rules(module, bound, high)
        own = found.pop("bisection of PyTorch")
        total += int((low != high).sum())
        kept.append(torch.where(low != high, own, torch.nan).numpy())
        for rule, thresholds in found.items():
            differ[rule] = differ.get(rule, 0) + int(((thresholds != own) & (low != high)).sum())
    np.save(save / population, np.concatenate(kept))
    return [(population, capability(), rule, "thresholds", total, count) for rule, count in differ.items()]


def compare_layouts(channels: int = 4099, batch: int = 37) -> list[tuple[object, ...]]:
    """Rows about PyTorch against itself: the same sums in other shapes and memory formats."""
    module, bound = norm("hidden", channels, 0)
    map_norm = nn.BatchNorm2d(channels).eval().requires_grad_(False)
    map_norm.load_state_dict(module.state_dict())
    rng = np.random.default_rng(0)
    sums = torch.from_numpy(np.rint(rng.uniform(-1, 1, (batch, channels)) * bound.numpy())).float()
    wide = sums[:, :, None, None].expand(-1, -1, 3, 7).contiguous()
    reference = module(sums)
    variants = {
        "one image at a time": torch.cat([module(row[None]) for row in sums]),
        "1 x 1 maps": map_norm(sums[:, :, None, None]),
        "3 x 7 maps": map_norm(wide),
        "3 x 7 maps, channels last": map_norm(wide.contiguous(memory_format=torch.channels_last)),
        "a map that is not dense": map_norm(wide[:, :, :, ::2]),
    }
    rows: list[tuple[object, ...]] = []
    for name, value in variants.items():
        planar = value.reshape(batch, channels, -1)
        count = int((planar != reference[:, :, None]).sum())
        rows.append(("hidden", capability(), name, "values", planar.numel(), count))
    return rows


def capability() -> str:
    return torch.backends.cpu.get_cpu_capability()


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways to derive thresholds with PyTorch's batch norm.")
    parser.add_argument("--channels", type=int, default=1_000_000, help="random channels a population and seed")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0..n-1")
    parser.add_argument("--part", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part is not None:
        torch.set_num_threads(1)
        rows = compare_layouts()
        for population in POPULATIONS:
            rows += compare_rules(population, arguments.channels, arguments.seeds, arguments.part)
        csv.writer(sys.stdout).writerows(rows)
        return
    write(collect(arguments.channels, arguments.seeds), arguments)


def collect(channels: int, seeds: int) -> list[list[str]]:
    """Rows of every capability, each measured in a process of its own, and of the capabilities against each other."""
    import tempfile

    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in CAPABILITIES:
            part = Path(folder) / name
            part.mkdir()
            environment = os.environ | ({} if name == "native" else {"ATEN_CPU_CAPABILITY": name})
            command = [sys.executable, __file__, "--part", str(part), f"--channels={channels}", f"--seeds={seeds}"]
            run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            rows += list(csv.reader(run.stdout.splitlines()))
        native_name = rows[0][1]
        for name in CAPABILITIES[1:]:
            for population in POPULATIONS:
                native, other = (np.load(Path(folder) / part / f"{population}.npy") for part in (CAPABILITIES[0], name))
                both = ~np.isnan(native) & ~np.isnan(other)
                counts = str(np.count_nonzero(both)), str(np.count_nonzero((native != other) & both))
                rows.append([population, native_name, f"bisection of PyTorch on {name}", "thresholds", *counts])
    return rows


def write(rows: list[list[str]], arguments: argparse.Namespace) -> None:
    """Write all rows with what is needed to get them again."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    common = {
        "seeds": arguments.seeds,
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "command": f"python bench/threshold_rules.py --channels {arguments.channels} --seeds {arguments.seeds}",
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*COLUMNS, *common])
        writer.writerows([*row, *common.values()] for row in rows)
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()

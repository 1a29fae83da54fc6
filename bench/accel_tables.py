"""Write the tables of docs/accelerator.md anew, from results/accel_*.csv.

    python bench/accel_tables.py

A table stands between `<!-- table NAME -->` and `<!-- end -->`.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
MACHINES = ("dense", "inorder", "o3")
ABLATED = ("cnv", "cnv_plain", "cnv_pruned", "vgg_like", "alexnet", "vgg16")
STALLS = ("weights", "drain", "unmapped", "imbalance", "image")
Row = dict[str, str]


def read(name: str) -> list[Row]:
    with (ROOT / "results" / f"accel_{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(text: str) -> str:
    """A decimal where there are few digits in front of the point."""
    value = float(text)
    return f"{value:,.{1 if abs(value) < 100 else 0}f}"


def percent(text: str) -> str:
    return f"{100 * float(text):.1f}%"


def simulated() -> dict[tuple[str, str], dict[str, Row]]:
    """The machines' rows of every network and batch."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in sorted(read("machines"), key=lambda r: r["network"]):
        if row["label"] == "modelled":
            found.setdefault((row["network"], row["batch"]), {})[row["machine"]] = row
    return found


def results() -> str:
    heads = ("network", "weights", "batch", "edges pruned", "images a second", "us an image", "over `dense`", "ceiling")
    rows = []
    for (network, batch), machines in simulated().items():
        o3 = machines["o3"]
        rate = float(o3["images_per_second"])
        row = [f"`{network}`", o3["weights"], batch, percent(o3["edges_pruned"]), f"{rate:,.0f}", f"{1e6 / rate:,.1f}"]
        row += [f"{float(o3[key]):.3f}" for key in ("speedup_vs_dense", "ceiling")]
        row += [percent(o3["of_ceiling"]), f"{float(o3['speedup_vs_inorder']):.3f}", percent(o3["share_useful"])]
        rows.append(row)
    return markdown((*heads, "share of it", "over `inorder`", "useful PE cycles"), rows)


def energy() -> str:
    rows = []
    for (network, batch), machines in simulated().items():
        cells = [f"`{network}`", batch]
        for name in MACHINES:
            low, typical, high = (number(machines[name][f"energy_uj_{bound}"]) for bound in ("low", "typical", "high"))
            cells.append(f"{typical} ({low} to {high})")
        cells += [number(machines[name]["energy_fj_per_edge_typical"]) for name in MACHINES]
        rows.append(cells)
    heads = ["network", "batch", *(f"`{name}`, uJ an image" for name in MACHINES)]
    return markdown(heads + [f"`{name}`, fJ an edge" for name in MACHINES], rows)


def losses() -> str:
    """Of one image alone on `o3`: the stalls, and the three largest in one stage, in cycles of the whole array."""
    rows = []
    for (network, batch), machines in simulated().items():
        if batch != "1":
            continue
        o3 = machines["o3"]
        shares = [percent(o3[f"share_{name}"]) for name in ("useful", *STALLS)]
        waiting = float(o3["share_useful"]) + float(o3["share_weights"])
        rows.append([f"`{network}`", *shares, largest(network), percent(str(float(o3["of_ceiling"]) / waiting))])
    heads = ("network", "useful", *(f"`{name}`" for name in STALLS), "largest", "of the ceiling with `weights` alone")
    return markdown(heads, rows)


def largest(network: str) -> str:
    found = []
    for row in read("stages"):
        if (row["network"], row["machine"], row["batch"]) == (network, "o3", "1"):
            pes = sum(int(row[key]) for key in row if key.startswith(("words_", "stall_"))) / int(row["cycles"])
            found += [(int(row[f"stall_{name}"]) / pes, name, row) for name in STALLS]
    top = sorted(found, key=lambda entry: -entry[0])[:3]
    return ", ".join(f"`{name}` of {row['name']}: {cycles:,.0f} of {int(row['cycles']):,}" for cycles, name, row in top)


def ablations() -> str:
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in read("ablations"):
        found.setdefault((row["parameter"], row["value"]), {})[row["network"]] = row
    base = found.pop(("base", ""))
    rows = [["preset, cycles", "", *(f"{float(base[n]['cycles']):,.0f}" for n in ABLATED), "yes"]]
    for (parameter, value), networks in found.items():
        ratios = [f"{float(networks[n]['cycles']) / float(base[n]['cycles']):.3f}" for n in ABLATED]
        fits = "yes" if networks["cnv"]["fits"] == "True" else f"no: {networks['cnv']['bram18_estimate']} blocks"
        rows.append([f"`{parameter}`", value, *ratios, fits])
    return markdown(("parameter", "value", *(f"`{n}`" for n in ABLATED), "fits"), rows)


def speed() -> str:
    found: dict[str, dict[str, Row]] = {}
    for row in read("speed"):
        found.setdefault(row["network"], {})[row["machine"]] = row
    rows = []
    for network, machines in found.items():
        rates = [f"{float(machines[name]['million_words_per_cpu_s']):.1f}" for name in MACHINES]
        rows.append([f"`{network}`", *rates, f"{float(machines['o3']['million_words_per_cpu_s_checked']):.1f}"])
    return markdown(("network", *(f"`{name}`" for name in MACHINES), "`o3`, check included"), rows)


def main() -> None:
    path = ROOT / "docs" / "accelerator.md"
    text = path.read_text()
    for table in (results, energy, losses, ablations, speed):
        before, start, rest = text.partition(f"<!-- table {table.__name__} -->\n")
        _, end, after = rest.partition("\n<!-- end -->")
        if not end:
            raise SystemExit(f"{path} has no table {table.__name__}")
        text = before + start + table() + end + after
    path.write_text(text)


if __name__ == "__main__":
    main()

"""`o3bnn info`: what is in a model file."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from o3bnn.cli.console import FILE_WIDTH, print_json, printable, results
from o3bnn.cli.options import JsonOption, ModelFile
from o3bnn.model import InputEncoding, Network, Pooling, Stage
from o3bnn.model.artifact import load
from o3bnn.model.edges import EdgeCounts, stage_entry
from o3bnn.report.tables import count, kilobytes, magnitude, plain_or_rich

SHAPES = ("kind", "input", "output", "kernel", "pool")
FIGURES = ("edges", "weight bits", "fan-in", "thresholds", "constant", "AND windows")


def info_command(model: ModelFile, json: JsonOption = False) -> None:
    """Show the stages, shapes and sizes of a model."""
    network = load(model)
    document = describe(network) | {"file": str(model), "file_bytes": model.stat().st_size}
    if json:
        print_json(document)
    else:
        _print(results(), network, document)


def describe(network: Network) -> dict[str, object]:
    """Everything that `info` knows of a network, as JSON."""
    stages = [describe_stage(network, index) for index in range(len(network.stages))]
    output = network.output
    weight_bits = [stage.geometry.out_channels * stage.geometry.full_fan_in for stage in network.stages]
    return {
        "name": network.name,
        "input": _describe_input(network.input),
        "stages": stages,
        "output": {
            "name": output.name,
            "in_features": output.in_features,
            "classes": output.classes,
            "edges": output.in_features * output.classes,
            "weight_bits": output.in_features * output.classes,
        },
        "class_names": list(network.class_names),
        "totals": {
            "edges": edge_total(network),
            "binary_edges": sum(stage_edges(stage) for stage in network.stages if not stage.integer_input),
            "weight_bits": sum(weight_bits) + output.in_features * output.classes,
        },
        "metadata": dict(network.metadata),
    }


def _describe_input(encoding: InputEncoding) -> dict[str, object]:
    return {
        "height": encoding.height,
        "width": encoding.width,
        "channels": encoding.channels,
        "cover": list(encoding.cover or (encoding.height, encoding.width)),
        "values": "bits" if encoding.is_binary else "integers",
        "least": int(encoding.table.min()),
        "greatest": int(encoding.table.max()),
    }


def describe_stage(network: Network, index: int) -> dict[str, object]:
    """One hidden stage as JSON. Edges are those of one image; thresholds are the least and the greatest one."""
    stage = network.stages[index]
    g, entry = stage.geometry, stage_entry(network, index, EdgeCounts())
    constant = stage.constant(network.magnitude(stage)) >= 0
    return {
        "name": stage.name,
        "kind": entry.kind,
        "role": entry.role,
        "in_shape": list(stage.in_shape),
        "conv_shape": list(stage.conv_shape),
        "out_shape": list(stage.out_shape),
        "kernel": list(g.kernel),
        "stride": list(g.stride),
        "padding": list(g.padding),
        "padding_mode": getattr(stage, "padding_mode", "zero"),
        "groups": g.groups,
        "pooling": _describe_pooling(stage.pooling),
        "fan_in": g.full_fan_in,
        "border_classes": g.class_count,
        "edges": stage_edges(stage),
        "weight_bits": g.out_channels * g.full_fan_in,
        "thresholds": [int(stage.thresholds.min()), int(stage.thresholds.max())],
        "constant_channels": int(constant.all(axis=0).sum()),
        "and_windows": int((stage.decisive_bit == 0).sum()) if stage.pooling else 0,
    }


def _describe_pooling(pooling: Pooling | None) -> dict[str, object] | None:
    return None if pooling is None else {"size": list(pooling.size), "stride": list(pooling.stride)}


def stage_edges(stage: Stage) -> int:
    """Edges of a stage for one image, dense; neurons that no pooling window reads have none."""
    g = stage.geometry
    fan_in = g.class_fan_in[g.class_map]
    if stage.pooling is not None:
        rows = _read(g.out_height, stage.pooling.size[0], stage.pooling.stride[0])
        columns = _read(g.out_width, stage.pooling.size[1], stage.pooling.stride[1])
        fan_in = fan_in[np.ix_(rows, columns)]
    return int(fan_in.sum()) * g.out_channels


def _read(size: int, window: int, stride: int) -> npt.NDArray[np.int64]:
    """Positions along an axis that some window reads."""
    first = np.arange(0, size - window + 1, stride)
    return np.unique(first[:, None] + np.arange(window)[None, :])


def edge_total(network: Network) -> int:
    """Edges of a network for one image, dense, over all stages."""
    output = network.output
    return sum(map(stage_edges, network.stages)) + output.in_features * output.classes


def _print(console: Console, network: Network, document: Mapping[str, object]) -> None:
    encoding, output = network.input, network.output
    cover = f", scaled to cover {_by(encoding.cover)}" if encoding.cover != encoding.shape[:2] else ""
    values = "bits" if encoding.is_binary else f"integers {encoding.table.min()} to {encoding.table.max()}"
    file_bytes = document["file_bytes"]
    assert isinstance(file_bytes, int)
    lines = [
        f"model     {network.name} ({document['file']}, {kilobytes(file_bytes)})",
        f"input     {_by(encoding.shape)}, {values}{cover}",
        f"classes   {output.classes}{': ' if network.class_names else ''}{_names(network.class_names)}",
        *(f"{key:<9} {' '.join(text.split())}" for key, text in network.metadata.items()),
    ]
    for line in lines:
        console.print(printable(line), soft_wrap=True)
    for table in stage_tables(network, console):
        console.print()
        console.print(table)


def stage_tables(network: Network, console: Console) -> list[Table]:
    """One row a stage and their totals: one table, or, where the terminal is too narrow, shapes and figures apart."""
    output = network.output
    edges = output.in_features * output.classes
    rows = [_cells(stage, describe_stage(network, index)) for index, stage in enumerate(network.stages)]
    shapes = [str(output.in_features), str(output.classes)]
    rows.append([output.name, "output", *shapes, "-", "-", magnitude(edges), count(edges), str(output.in_features)])
    bits = edges + sum(stage.weight_bits().size for stage in network.stages)
    total = ["total", *[""] * len(SHAPES), magnitude(edge_total(network)), count(bits)]
    whole = _table(console, SHAPES + FIGURES, rows, total)
    unlimited = console.options.update(max_width=FILE_WIDTH)
    if console.measure(whole, options=unlimited).maximum <= console.width:
        return [whole]
    end = 1 + len(SHAPES)
    return [
        _table(console, SHAPES, [row[:end] for row in rows]),
        _table(console, FIGURES, [[row[0], *row[end:]] for row in rows], [total[0], *total[end:]]),
    ]


def _table(
    console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] = ()
) -> Table:
    """A table whose first column is the stage's name."""
    table = Table(box=plain_or_rich(console), pad_edge=False)
    table.add_column("stage", overflow="fold")
    for heading in headings:
        lines = heading.replace(" ", "\n") if console.is_terminal else heading
        table.add_column(lines, justify="right" if heading in FIGURES else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    if total:
        table.add_section()
        table.add_row(*total, style="bold")
    return table


def _cells(stage: Stage, described: Mapping[str, object]) -> list[str]:
    g = stage.geometry
    kernel = "-" if described["kind"] == "dense" else _by(g.kernel)
    if g.stride != (1, 1):
        kernel += f" stride {_by(g.stride)}"
    if any(g.padding):
        kernel += f" pad {'/'.join(map(str, g.padding)) if len(set(g.padding)) > 1 else g.padding[0]}"
    if g.groups > 1:
        kernel += f" groups {g.groups}"
    pool = "-"
    if stage.pooling is not None:
        pool = _by(stage.pooling.size)
        pool += f" stride {_by(stage.pooling.stride)}" if stage.pooling.stride != stage.pooling.size else ""
    role = " (input)" if stage.integer_input else ""
    channels = g.out_channels
    return [
        stage.name + role,
        str(described["kind"]),
        _by(stage.in_shape),
        _by(stage.out_shape),
        kernel,
        pool,
        magnitude(stage_edges(stage)),
        count(channels * g.full_fan_in),
        str(g.full_fan_in),
        f"{stage.thresholds.min()} to {stage.thresholds.max()}",
        f"{described['constant_channels']} of {channels}",
        f"{described['and_windows']} of {channels}" if stage.pooling else "-",
    ]


def _by(sides: tuple[int, ...] | None) -> str:
    return "x".join(map(str, sides or ()))


def _names(names: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")

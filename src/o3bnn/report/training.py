"""The curve of a training run: accuracy and pruned share over epochs, and the loss below."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from o3bnn.errors import MissingExtraError
from o3bnn.model.files import write_whole

COLORS = {"accuracy": "#1b1b1b", "pruned_b1": "#2f6f4f", "pruned_b64": "#8fc1a5"}
LABELS = {"accuracy": "accuracy", "pruned_b1": "edges pruned, B = 1", "pruned_b64": "edges pruned, B = 64"}


def plot_training(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw a run's log; rows: one an epoch, with `epoch`, `loss` and any of the figures in `LABELS`; the format is SVG.

    Raises:
        MissingExtraError: matplotlib is not installed. OSError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError:
        raise MissingExtraError("the curve needs matplotlib: pip install 'o3bnn[report]'") from None
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    shares, loss = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
    epochs = [row["epoch"] for row in rows]
    for name, label in LABELS.items():
        values = [row[name] for row in rows if name in row]
        if values:
            shares.plot(epochs[-len(values) :], values, ".-", color=COLORS[name], label=f"{label}: {values[-1]:.1%}")
    shares.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    shares.set_ylim(0, 1)
    shares.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    loss.plot(epochs, [row["loss"] for row in rows], ".-", color="#7a7a7a")
    loss.set_ylabel("loss")
    loss.set_xlabel("epoch")
    loss.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (shares, loss):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6")
        axes.set_axisbelow(True)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg")
    write_whole(path, stream.getvalue())

"""`o3bnn demo`: the shipped models on shipped images, with and without pruning, on the terminal and as a page."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from o3bnn.errors import InputError, os_error_text
from o3bnn.model.files import check_writable, write_whole
from o3bnn.report import shipped
from o3bnn.report.document import Json, document, model_document
from o3bnn.report.measure import TABLE_WORDS, Measurement, measure, time_together
from o3bnn.report.shipped import ShippedSet
from o3bnn.report.tables import count, kilobytes, microseconds, percent, plain_or_rich, pruning_table, ratio
from o3bnn.report.timing import Timings
from o3bnn.report.words import agreement_text, comparison_rows, speed_words, structure, threads_text

DEFAULT_OUTPUT = Path("o3bnn-demo.html")
PAGE_EXTRA = "the page needs jinja2 and matplotlib: pip install 'o3bnn[report]'"
PAGE_MODULES = ("jinja2", "markupsafe", "matplotlib")

Render = Callable[[Json, Sequence[Measurement], Sequence[Timings], npt.NDArray[np.uint8], str], str]


def run(
    output: Path = DEFAULT_OUTPUT,
    *,
    shipped_set: ShippedSet = shipped.DEFAULT,
    threads: int = 1,
    console: Console | None = None,
) -> Json:
    """Measure every model of a shipped set, print what was found to `console` (if any), and write the page to `output`.

    threads: how many the engine uses: times on one thread are the easiest to compare.

    Returns:
        The JSON document; its `page` is the path of the page, or None where the `report` extra is not installed.

    Raises:
        InputError: `output` cannot be written. Found out first, before any work.
        DifferentBitsError: two modes of the engine, or the engine and the reference, do not give the same bits.
    """
    _check_output(output)
    render = page_renderer()
    images, labels = shipped_set.samples()
    measurements = []
    for name in shipped_set.models:
        with _status(f"running {name}"):
            network, size = shipped_set.model(name), shipped_set.model_bytes(name)
            measurements.append(measure(name, network, size, images, labels, shipped_set.class_names, threads))
        if console is not None:
            print_model(console, measurements[-1], shipped_set.title)
    with _status("measuring times"):
        timings = time_together(measurements, images)
    doc: Json = {**document(shipped_set, measurements, timings, threads), "page": None}
    if console is not None:
        print_times(console, doc)
        if doc["comparison"] is not None:
            print_comparison(console, doc["comparison"])
    if render is not None:
        with _status("drawing the page"):
            page = render(doc, measurements, timings, images, _command(output, shipped_set, threads))
            with _explained(output):
                write_whole(output, page.encode())
        doc["page"] = str(output)
    if console is not None:
        last = f"Page: {output}" if render is not None else f"No page: {PAGE_EXTRA}"
        _say(console, last, wrap=False)  # a path or a command, to be copied whole
    return doc


def page_renderer() -> Render | None:
    """What draws the page, or None where the `report` extra is not installed."""
    try:
        from o3bnn.report.page import render
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in PAGE_MODULES:
            return None
        raise
    return render


def print_model(console: Console, m: Measurement, title: str) -> None:
    """Print what was found out about one model; title: of the data set."""
    model = model_document(m)
    accuracy, same = model["accuracy"], model["same_bits"]
    lines = (
        f"{count(accuracy['correct'])} of {count(accuracy['images'])} images recognized "
        f"({percent(accuracy['share'])}): the first of the {title} test set, in its own order",
        f"{kilobytes(m.file_bytes)} file, {count(model['binary_weights'])} one-bit weights: {structure(model)}",
        f"{count(same['bits'])} bits of all stages and {count(same['logits'])} logits are equal with pruning "
        f"{', '.join(same['modes'])}; on {same['reference_images']} images also to the NumPy reference",
    )
    _say(console, m.name, "bold")
    for line in lines:
        _say(console, line)
    console.print()
    for word in TABLE_WORDS:
        console.print(pruning_table(m.profiles[word], plain_or_rich(console)))
        console.print()


def print_times(console: Console, doc: Json) -> None:
    """Print the time per image of every model in every mode."""
    timing = doc["models"][0]["timing"]
    how = f"batch of {timing['batch']}, {threads_text(doc['threads'])}, {doc['host']['isa']} kernels"
    _say(console, f"Time per image, end-to-end Engine.run ({how}, {timing['rounds']} interleaved rounds)", "bold")
    for model in doc["models"]:
        _say(console, model["name"])
        console.print(time_table(console, model))
        for sentence in speed_words(model):
            _say(console, str(sentence))
        console.print()


def print_comparison(console: Console, found: Json) -> None:
    """Print two models of one network side by side."""
    _say(console, "What training for pruning bought", "bold")
    table = Table(box=plain_or_rich(console), pad_edge=False)
    table.add_column("")
    for heading in (*found["models"], "difference"):
        table.add_column(heading, justify="right")
    for row in comparison_rows(found):
        label, difference = ("  " if row.part else "") + row.label, row.difference
        table.add_row(label, *(figure.text for figure in row.values), difference.text if difference else "")
    console.print(table)
    _say(console, agreement_text(found))
    console.print()


def time_table(console: Console, model: Json) -> Table:
    """Median and quartiles of the time per image in each mode, and the speed over no pruning."""
    timing = model["timing"]
    table = Table(box=plain_or_rich(console), pad_edge=False)
    table.add_column("pruning")
    for heading in ("median", "quartiles", "speed over off"):
        table.add_column(heading, justify="right", no_wrap=True)
    for mode, times in timing["modes"].items():
        low, high = map(microseconds, times["quartiles_s"])
        speed = timing["speedup_over_off"].get(mode)
        cells = (microseconds(times["median_s"]), f"{low} to {high}", ratio(speed["median"]) if speed else "-")
        table.add_row(mode, *cells)
    return table


def _check_output(path: Path) -> None:
    """Raise `InputError` where a page cannot be written to `path`, as far as that shows beforehand."""
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {folder}: make it first")
    if path.exists() and not path.is_file():
        raise InputError(f"cannot write {path}: it is not a file: give the path of an HTML file")
    with _explained(path):
        check_writable(path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say which file cannot be written, why, and what to do about it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {os_error_text(error)}") from error


def _say(console: Console, line: str, style: str | None = None, *, wrap: bool = True) -> None:
    """Print a line as it is: names are never taken for markup. On a terminal it is wrapped between words."""
    whole = not (wrap and console.is_terminal)
    console.print(line, style=style, soft_wrap=whole, markup=False, highlight=False)


def _status(text: str) -> AbstractContextManager[object]:
    """Show on stderr, where that is a terminal, what takes its time."""
    console = Console(stderr=True)
    return console.status(text) if console.is_terminal else nullcontext()


def _command(output: Path, shipped_set: ShippedSet, threads: int) -> str:
    words = ["o3bnn", "demo"]
    words += ["--digits"] if shipped_set == shipped.MNIST else []
    words += ["--threads", str(threads)] if threads != 1 else []
    words += ["--output", str(output)] if output != DEFAULT_OUTPUT else []
    return shlex.join(words)

"""`o3bnn demo`: edge pruning shown on the user's own machine. The content is `o3bnn.report.demo`."""

from pathlib import Path
from typing import Annotated

import typer

from o3bnn.cli.console import print_json, results
from o3bnn.cli.options import JsonOption
from o3bnn.report import demo, shipped


def demo_command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Page to write (.html).")
    ] = demo.DEFAULT_OUTPUT,
    digits: Annotated[
        bool, typer.Option("--digits", help="Run the MNIST models instead of those for CIFAR-10.")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, metavar="N", help="Threads to run and time on.")] = 1,
    json: JsonOption = False,
) -> None:
    """Run the shipped models, and write a page about what was skipped."""
    shipped_set = shipped.MNIST if digits else shipped.DEFAULT
    document = demo.run(output, shipped_set=shipped_set, threads=threads, console=None if json else results())
    if json:
        print_json(document)

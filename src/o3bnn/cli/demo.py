"""`o3bnn demo`: edge pruning shown on the user's own machine. The content is `o3bnn.report.demo`."""

from pathlib import Path
from typing import Annotated

import typer

from o3bnn.cli.console import print_json, results
from o3bnn.cli.options import JsonOption
from o3bnn.report import demo


def demo_command(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Page to write (.html).")
    ] = demo.DEFAULT_OUTPUT,
    threads: Annotated[int, typer.Option("--threads", min=1, metavar="N", help="Threads to run and time on.")] = 1,
    json: JsonOption = False,
) -> None:
    """Run the shipped models, and write a page about what was skipped."""
    document = demo.run(output, threads=threads, console=None if json else results())
    if json:
        print_json(document)

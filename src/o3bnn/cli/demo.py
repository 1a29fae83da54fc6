"""`o3bnn demo`: edge pruning shown on the user's own machine. The content is `o3bnn.report.demo`."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from o3bnn.errors import MissingExtraError


def demo_command(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Page to write (.html).")] = Path(
        "o3bnn-demo.html"
    ),
) -> None:
    """Show edge pruning on the models that come along."""
    try:
        demo = import_module("o3bnn.report.demo")
    except ModuleNotFoundError as error:
        if error.name == "o3bnn.report.demo":
            raise MissingExtraError("this version of o3bnn comes without the demo (o3bnn.report.demo)") from error
        raise MissingExtraError(f"the demo needs {error.name}: pip install 'o3bnn[report]'") from error
    demo.run(output)

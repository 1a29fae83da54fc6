"""The commands put together. `o3bnn.cli.main` starts them."""

import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from o3bnn import __version__
from o3bnn.cli.bench import bench_command
from o3bnn.cli.compile import compile_command
from o3bnn.cli.demo import demo_command
from o3bnn.cli.eval import eval_command
from o3bnn.cli.export import export_command
from o3bnn.cli.failures import CheckedCommand, OneLineErrors
from o3bnn.cli.info import info_command
from o3bnn.cli.optimize import optimize_command
from o3bnn.cli.plan import plan_command
from o3bnn.cli.prune import prune_command
from o3bnn.cli.run import run_command
from o3bnn.cli.simulate import simulate_command
from o3bnn.cli.train import train_command
from o3bnn.cli.verify import verify_command

app = typer.Typer(
    name="o3bnn",
    cls=OneLineErrors,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", cls=CheckedCommand)(train_command)
app.command("compile", cls=CheckedCommand)(compile_command)
app.command("info", cls=CheckedCommand)(info_command)
app.command("run", cls=CheckedCommand)(run_command)
app.command("eval", cls=CheckedCommand)(eval_command)
app.command("prune", cls=CheckedCommand)(prune_command)
app.command("optimize", cls=CheckedCommand)(optimize_command)
app.command("plan", cls=CheckedCommand)(plan_command)
app.command("bench", cls=CheckedCommand)(bench_command)
app.command("simulate", cls=CheckedCommand)(simulate_command)
app.command("export", cls=CheckedCommand)(export_command)
app.command("verify", cls=CheckedCommand)(verify_command)
app.command("demo", cls=CheckedCommand)(demo_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"o3bnn {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run binarized neural networks without the edges that no longer matter."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> None:
    """Run the command line in `sys.argv` and exit; see `o3bnn.cli.main`."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `o3bnn info ... | head` ends silently, as other tools do
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as in `o3bnn info >&-`
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  (stays open until the end)
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name must not be able to end the program
    app(prog_name="o3bnn")

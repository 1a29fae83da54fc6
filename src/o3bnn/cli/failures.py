"""Whatever goes wrong becomes one line on stderr and an exit code."""

import os
import sys
import traceback
from typing import Any

from typer.core import TyperCommand, TyperGroup

from o3bnn.cli import INTERRUPTED
from o3bnn.cli.console import printable
from o3bnn.errors import InputError, O3bnnError, os_error_text

BAD_INPUT, BUG = 2, 1


class OneLineErrors(TyperGroup):
    """A group of commands that ends with `error: ...` and an exit code instead of a traceback.

    O3BNN_DEBUG=1 in the environment shows the traceback too.
    """

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line and exit."""
        options["standalone_mode"] = False
        try:
            result = super().main(*args, **options)
            sys.stdout.flush()
        except Exception as error:  # the outermost handler: nothing may end in a traceback
            code = _report(error)
            _drop_unwritable_output()
            sys.exit(code)
        if result == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        sys.exit(result if isinstance(result, int) else 0)


class CheckedCommand(TyperCommand):
    """A command that refuses empty arguments: `pathlib` would take an empty path for the current folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; raises `InputError` where one is empty (an unset variable of a script, say)."""
        for before, argument in zip(["", *args], args, strict=False):
            option, equals, value = argument.partition("=")
            if argument and not (option.startswith("--") and equals and not value):
                continue
            name = option or (before if before.startswith("-") else "an argument")
            raise InputError(f"{name} is empty: give a value, such as . for the folder that you are in")
        return super().parse_args(ctx, args)


def _report(error: Exception) -> int:
    """Print an error; returns the exit code."""
    if os.environ.get("O3BNN_DEBUG", "0") not in ("", "0"):
        traceback.print_exception(error)
    message, code = _explain(error)
    print("error:", " ".join(printable(message).split()), file=sys.stderr)
    return code


def _drop_unwritable_output() -> None:
    """Where stdout cannot be written (a full disk), keep Python from trying again, and complaining, at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> tuple[str, int]:
    if isinstance(error, O3bnnError):
        return str(error), BAD_INPUT
    if isinstance(error, OSError):
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return f"{place}{os_error_text(error)}", BAD_INPUT
    if isinstance(error, MemoryError):
        return "out of memory: use fewer images at a time", BAD_INPUT
    explain_usage = getattr(error, "format_message", None)  # a usage error: Typer before 0.26 takes click's own class
    if explain_usage is not None:
        usage = explain_usage().removesuffix(".").replace(": Value error, ", ": ")  # a prefix of pydantic, below Typer
        return f"{usage}{_help_hint(error)}", BAD_INPUT
    name = type(error).__name__
    return f"unexpected {name}: {error} (a bug: please report it with the traceback of O3BNN_DEBUG=1)", BUG


def _help_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context is not None else ""

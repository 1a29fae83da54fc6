"""What commands print, and where: results on stdout, progress and notes on stderr, colours on terminals only."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

FILE_WIDTH = 1000  # tables in files and pipes are as wide as they need to be
LINES = 10  # progress lines where there is no terminal


def results() -> Console:
    """The console on stdout, for results."""
    return _console(sys.stdout)


def _console(stream: TextIO) -> Console:
    """Plain text but for styles that o3bnn itself sets: names from files are never taken for markup."""
    terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=terminal,
        width=None if terminal else FILE_WIDTH,
        markup=False,
        emoji=False,
        highlight=False,
    )


def print_json(document: Mapping[str, object]) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


def note(text: str) -> None:
    """Print a remark on stderr."""
    print("note:", printable(text), file=sys.stderr)


def printable(text: str) -> str:
    """The text with control characters and undecodable octets (a terminal might obey them) as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def progress(label: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show how many of `total` units are done, on stderr: a bar on a terminal, else a line every tenth.

    Yields the function that is told how many more are done.
    """
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.advance(task, done)
    else:
        yield _Lines(label, total, unit).advance


class _Lines:
    """Progress as plain lines."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, 0

    def advance(self, done: int) -> None:
        before, self.done = self.done, self.done + done
        if self.done * LINES // self.total > before * LINES // self.total:
            print(f"{self.label}: {self.done}/{self.total} {self.unit}", file=sys.stderr, flush=True)

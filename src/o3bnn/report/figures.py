"""Files that figures are drawn to: whether one can be written shows before anything is measured."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from o3bnn.errors import InputError, MissingExtraError
from o3bnn.model.files import check_writable, write_whole, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_figure(path: Path) -> None:
    """Raise what `save_figure` would, as far as that shows beforehand.

    Raises:
        MissingExtraError: matplotlib is not installed. InputError: the format is unknown or the file cannot be written.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise MissingExtraError("plots need matplotlib: pip install 'o3bnn[report]'") from None
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise InputError(f"{str(path)!r} ends in no format that plots have: use one of {', '.join(sorted(known))}")
    check_output(path, "plot")


def check_output(path: Path, what: str) -> None:
    """Look whether a file can be written, before the work whose result it gets.

    Raises:
        InputError: the file cannot be written; names `what`.
    """
    with writing(path, what):
        check_writable(path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the format by the file's suffix, which `check_figure` has looked at.

    Raises:
        InputError: the file cannot be written.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:].lower())
    with writing(path, "plot"):
        write_whole(path, drawn.getvalue())

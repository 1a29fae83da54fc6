"""Matplotlib figures as inline SVG that takes its colours and fonts from the page, so that it suits light and dark.

A figure is drawn in stand-in colours (`INK`, `MUTED` ...); `to_inline` replaces each by a CSS variable of the page.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, ACCENT, ON_BAR = "#010000", "#020000", "#030000", "#040000", "#050000"
CAUSE_COLORS = {
    "evaluated": "#060000",
    "pooling": "#070000",
    "threshold_high": "#080000",
    "threshold_low": "#090000",
    "constant": "#0a0000",
}
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    ACCENT: "--accent",
    ON_BAR: "--on-bar",
    **{color: "--" + cause.replace("_", "-") for cause, color in CAUSE_COLORS.items()},
}
WIDTH_INCHES = 5.0
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "o3bnn",
    "text.parse_math": False,  # stage names are names, also with a dollar sign
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
}


@contextmanager
def drawing(height: float, width: float = WIDTH_INCHES) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes, in inches, in the page's style; `to_inline` belongs into the context."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def to_inline(figure: Figure, name: str, label: str) -> str:
    """Return a figure as an <svg> element for HTML.

    name: of the picture, unique in the page, put before every id. label: what a screen reader says instead.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for pattern in (r"<metadata>.*?</metadata>", r"<defs>\s*<style.*?</style>\s*</defs>", r"<!--.*?-->"):
        text = re.sub(pattern, "", text, flags=re.DOTALL)
    viewport = re.search(r'viewBox="[^"]*"', text)
    if viewport is None:
        raise RuntimeError("matplotlib wrote an SVG without a viewBox")
    head = f'<svg class="plot" {viewport[0]} role="img" aria-label="{escape(label)}">'
    text = re.sub(r"<svg.*?>", lambda _: head, text, count=1, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text).replace("url(#", f"url(#{name}-")
    text = re.sub(r"font: (?:(\d+|bold) )?([\d.]+)px [^;\"]*", _font, text)  # matplotlib before 3.11
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", text)


def _font(match: re.Match[str]) -> str:
    weight = f"; font-weight: {match[1]}" if match[1] else ""
    return f"font-size: {match[2]}px{weight}"

"""Small networks in place of the shipped ones, so that a whole demo takes a second."""

import json
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser

import numpy as np

from o3bnn.model import Network
from o3bnn.report.shipped import ShippedSet
from tests import strategies
from tests.strategies import ConvSpec, Spec

SIDE = 12
IMAGES = 24
SWEPT = 9
TIMED = 10
HOSTILE_NAME = '<b>&"$x$ {{7}}'


def conv(channels, pool):
    return ConvSpec(channels, (3, 3), (1, 1), (1, 1), "zero", ((2, 2), (2, 2)) if pool else None, True, 1, False)


CONVOLUTIONS = (conv(8, False), conv(17, True))
SPECS = {
    "alpha": Spec((SIDE, SIDE, 1), "pixel", (), (33, 40), 10, 3),
    "beta": Spec((SIDE, SIDE, 1), "pixel", CONVOLUTIONS, (20,), 10, 4),
    "plain": Spec((SIDE, SIDE, 3), "pixel", CONVOLUTIONS, (20,), 10, 5),
    "pruned": Spec((SIDE, SIDE, 3), "pixel", CONVOLUTIONS, (20,), 10, 6),
}


@cache
def network(name, hostile=False):
    """A random network; `hostile` gives its first stage a name that is markup almost everywhere."""
    built = strategies.build(SPECS[name])
    stages = list(built.stages)
    if hostile:
        stages[0] = type(stages[0])(**{**stages[0].__dict__, "name": HOSTILE_NAME})
    return Network(
        name=name, input=built.input, stages=tuple(stages), output=built.output, metadata={"training": f"<{name}>"}
    )


@dataclass(frozen=True)
class SmallSet(ShippedSet):
    """Random networks and images in place of shipped ones."""

    hostile: bool = False

    def model(self, name):
        return network(name, self.hostile)

    def model_bytes(self, name):
        return 1000 + len(name)

    def samples(self):
        """Images, uint8 [IMAGES, *shape], and labels, int64 [IMAGES]."""
        rng = np.random.default_rng(5)
        return rng.integers(0, 256, (IMAGES, *self.shape), dtype=np.uint8), rng.integers(0, 10, IMAGES)


GREY = SmallSet(
    title="Grey",
    class_names=tuple("0123456789"),
    shape=(SIDE, SIDE, 1),
    models=("alpha", "beta"),
    trained_for_pruning=False,
    file="",
    sha256="",
)
COLOUR = SmallSet(
    title="Colour",
    class_names=tuple(f"kind {letter}" for letter in "abcdefghij"),
    shape=(SIDE, SIDE, 3),
    models=("plain", "pruned"),
    trained_for_pruning=True,
    file="",
    sha256="",
)


class Page(HTMLParser):
    """A page as tests see it: elements with their attributes, the text of each kind of element, unclosed elements."""

    VOID = frozenset({"meta", "link", "input", "img", "br", "hr"})

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open, self.figures = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))
        if self.open and self.open[-1] == "data":
            self.figures.append((float(self.elements[-1][1]["value"]), data))

    def attributes(self, tag, name):
        return [attributes[name] for found, attributes in self.elements if found == tag and name in attributes]

    @property
    def text(self):
        return " ".join(text for tag, text in self.texts if tag not in ("style", "script"))


def numbers(value):
    """All numbers anywhere in a JSON document."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return set()
    if isinstance(value, int | float):
        return {float(value)}
    parts = value.values() if isinstance(value, dict) else value
    return set().union(*map(numbers, parts)) if parts else set()


def as_json(doc):
    """A document after a round trip through JSON text, in which NaN and infinity are not allowed."""
    return json.loads(json.dumps(doc, allow_nan=False))

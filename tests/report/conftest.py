"""A demo on small networks: what it returns, and the page that it writes."""

import pytest

from o3bnn.report import demo, measure
from tests.report import helpers


def measure_little(monkeypatch):
    """Time as briefly as possible, and neither sweep over nor time all of the few images."""
    monkeypatch.setattr(measure, "TIMING_BUDGET_S", 0.0)
    monkeypatch.setattr(measure, "PLAN_SECONDS", 0.01)
    monkeypatch.setattr(measure, "SWEPT_IMAGES", helpers.SWEPT)
    monkeypatch.setattr(measure, "TIMED_IMAGES", helpers.TIMED)


@pytest.fixture
def little(monkeypatch):
    measure_little(monkeypatch)


@pytest.fixture(scope="session", params=[helpers.GREY, helpers.COLOUR], ids=["grey", "colour"])
def shown(request, tmp_path_factory):
    """The small set that a demo ran on, its JSON document, and its page as text."""
    path = tmp_path_factory.mktemp("demo") / "page.html"
    with pytest.MonkeyPatch.context() as monkeypatch:
        measure_little(monkeypatch)
        doc = demo.run(path, shipped_set=request.param)
    return request.param, doc, path.read_text("utf-8")

"""A demo on small networks: what it returns, and the page that it writes."""

import pytest

from o3bnn.report import demo, measure, shipped
from tests.report import helpers


def use_small_networks(monkeypatch):
    """Put the small networks and samples in place of the shipped ones, and time as briefly as possible."""
    monkeypatch.setattr(shipped, "MODELS", tuple(helpers.SPECS))
    monkeypatch.setattr(shipped, "shipped_model", helpers.network)
    monkeypatch.setattr(shipped, "shipped_model_bytes", {"alpha": 1234, "beta": 5678}.__getitem__)
    monkeypatch.setattr(shipped, "shipped_samples", helpers.samples)
    monkeypatch.setattr(measure, "TIMING_BUDGET_S", 0.0)


@pytest.fixture
def small(monkeypatch):
    use_small_networks(monkeypatch)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The JSON document of a demo and its page as text."""
    path = tmp_path_factory.mktemp("demo") / "page.html"
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_small_networks(monkeypatch)
        doc = demo.run(path)
    return doc, path.read_text("utf-8")

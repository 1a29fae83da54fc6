"""`o3bnn demo` hands its options to `o3bnn.report.demo`, which has tests of its own."""

from pathlib import Path
from typing import Any

import pytest

from o3bnn.report import demo
from o3bnn.report.shipped import DEFAULT, MNIST, ShippedSet
from tests.cli.helpers import error_line, run, run_json, run_ok

Call = tuple[Path, ShippedSet, int, bool]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the demo is called with: output, images and models, threads, and whether it may print."""
    seen: list[Call] = []

    def recorded(output: Path, *, shipped_set: ShippedSet, threads: int, console: Any) -> dict[str, str]:
        seen.append((output, shipped_set, threads, console is not None))
        if console is not None:
            console.print("shown")
        return {"page": str(output)}

    monkeypatch.setattr(demo, "run", recorded)
    return seen


def test_options_are_handed_on(calls: list[Call]) -> None:
    assert run_ok("demo").stdout == "shown\n"
    assert run_ok("demo", "-o", "x.html", "--threads", 2).stdout == "shown\n"
    assert run_json("demo", "--output", "x.html") == {"page": "x.html"}
    assert run_ok("demo", "--digits").stdout == "shown\n"
    assert calls == [
        (Path("o3bnn-demo.html"), DEFAULT, 1, True),
        (Path("x.html"), DEFAULT, 2, True),
        (Path("x.html"), DEFAULT, 1, False),
        (Path("o3bnn-demo.html"), MNIST, 1, True),
    ]


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    assert "there is no folder" in error_line(run("demo", "-o", tmp_path / "no" / "page.html"))
    assert "Invalid value for '--threads'" in error_line(run("demo", "--threads", 0))

"""The top package: its names, imported when they are first used, and what its functions say to wrong arguments."""

import subprocess
import sys

import pytest

import o3bnn
from o3bnn.errors import InputError


def test_every_public_name_is_there():
    from o3bnn.engine import Engine
    from o3bnn.errors import O3bnnError
    from o3bnn.model import Network, artifact

    assert (o3bnn.Engine, o3bnn.Network, o3bnn.O3bnnError) == (Engine, Network, O3bnnError)
    assert (o3bnn.load, o3bnn.save) == (artifact.load, artifact.save)
    assert set(o3bnn.__all__) <= set(dir(o3bnn))
    assert all(hasattr(o3bnn, name) for name in o3bnn.__all__)
    with pytest.raises(AttributeError, match="module 'o3bnn' has no attribute 'nothing'"):
        o3bnn.nothing  # noqa: B018


@pytest.mark.parametrize("statement", ["import o3bnn", "from o3bnn.cli import main", "import o3bnn; dir(o3bnn)"])
def test_importing_it_imports_next_to_nothing(statement):
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    names = done.stdout.split()
    assert {name for name in names if name.split(".")[0] == "o3bnn"} <= {"o3bnn", "o3bnn.cli"}
    assert not {"numpy", "pydantic", "safetensors", "typer", "rich", "PIL"} & set(names)


@pytest.mark.parametrize("name", ["engine", "errors", "model"])
def test_its_packages_are_attributes(name):
    program = f"import o3bnn; print(o3bnn.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == f"o3bnn.{name}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metadata": [1]}, r"metadata = \[1\] is not a mapping: pass a dict of text to text"),
        ({"class_names": 3}, "class_names = 3 is not a sequence of texts: pass one name a class, or none"),
    ],
)
def test_compile_with_wrong_arguments(options, message):
    nn = pytest.importorskip("torch.nn")
    with pytest.raises(InputError, match=message):
        o3bnn.compile(nn.Identity(), image=(28, 28, 1), **options)

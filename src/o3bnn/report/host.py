"""The machine and the versions behind a figure."""

import platform
from importlib.metadata import PackageNotFoundError, version

from o3bnn.engine.machine import cpu_name

PACKAGES = ("o3bnn", "numpy")


def host() -> dict[str, object]:
    """Processor, system and versions, as JSON types."""
    return {
        "cpu": cpu_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: package_version(package) for package in PACKAGES},
    }


def package_version(package: str) -> str:
    """Version of an installed package, or a word that says that it runs from a source tree."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

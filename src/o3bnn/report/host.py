"""The machine and the versions behind a figure."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("o3bnn", "numpy")


def host() -> dict[str, object]:
    """Processor, system and versions, as JSON types."""
    return {
        "cpu": cpu_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: package_version(package) for package in PACKAGES},
    }


def cpu_name() -> str:
    """The processor's name as the system tells it, else its architecture."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            field, _, value = line.partition(":")
            if field.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def package_version(package: str) -> str:
    """Version of an installed package, or a word that says that it runs from a source tree."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

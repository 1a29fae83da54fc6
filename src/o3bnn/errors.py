"""The errors of o3bnn: one small tree, so that a caller can catch everything with `O3bnnError`.

Every message names what is wrong, where it is, and how to mend it.
"""

import errno


class O3bnnError(Exception):
    """Base of every error that o3bnn raises on bad input."""


class InvalidNetworkError(O3bnnError):
    """A network whose stages, shapes or thresholds do not fit together."""


class ArtifactError(O3bnnError):
    """A model file that is missing, damaged, of another format or too new."""


class UnsupportedModuleError(O3bnnError):
    """A PyTorch module that has no exact integer form here."""


class UnsupportedGraphError(O3bnnError):
    """An ONNX or TensorFlow Lite file that is damaged, or whose graph has no exact integer form here."""


class InputError(O3bnnError):
    """Images or arguments of a wrong shape, type or value."""


class PlanError(O3bnnError):
    """An engine plan that is missing, damaged, or made for another network or instruction set."""


class DataError(O3bnnError):
    """A data set that is missing, damaged or of another layout than asked for."""


class ConfigError(O3bnnError):
    """An accelerator configuration, or an energy table, with a field out of its range."""


class SimulationError(O3bnnError):
    """The simulated accelerator stood still, or disagreed with the reference: a defect of o3bnn, not of its input."""


class MissingExtraError(O3bnnError):
    """A feature whose optional dependencies are not installed."""


_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EISDIR: "give the path of a file",
    errno.ENOTDIR: "check the path",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "choose another folder",
    errno.ELOOP: "check the symbolic links",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.ENOSPC: "free some space",
}


def os_error_text(error: OSError) -> str:
    """What the operating system says went wrong, and what to do about it; the path is for the caller to name."""
    remedy = _REMEDIES.get(error.errno or 0, "check the path and the disk")
    return f"{error.strerror or str(error) or type(error).__name__}: {remedy}"

"""Files that appear whole or not at all."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from o3bnn.errors import ArtifactError, InputError, os_error_text


def write_whole(path: Path, octets: bytes) -> None:
    """Write a file atomically: to a temporary file in the same folder, synced, renamed; removed where that fails.

    Raises:
        OSError: the file cannot be written. ArtifactError: something stands there that is not a file.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def check_writable(path: Path) -> None:
    """Raise what `write_whole` would, as far as that shows beforehand: a temporary file is made and removed again."""
    temporary = _temporary(path)
    temporary.open("xb").close()
    temporary.unlink()


@contextmanager
def writing(path: str | Path, what: str) -> Iterator[None]:
    """Turn what `write_whole` and `check_writable` raise into an InputError that names `what` and its path."""
    try:
        yield
    except (OSError, ArtifactError) as error:
        reason = os_error_text(error) if isinstance(error, OSError) else error
        raise InputError(f"cannot write the {what} {str(path)!r}: {reason}") from None


def _temporary(path: Path) -> Path:
    """A new name beside `path`, where nothing but a file, or nothing, may stand."""
    if path.exists():
        check_regular(path, path.stat().st_mode)
    return path.with_name(f".o3bnn-{secrets.token_hex(8)}.tmp")


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable, where the system can open folders (not on Windows)."""
    if os.name != "posix":
        return
    with suppress(OSError):  # the file is whole already; not every folder can be opened or synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_regular(path: Path, mode: int) -> None:
    """Raise where a mode, as `stat` gives it, is not that of a regular file: a folder, a device, a pipe."""
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        raise ArtifactError("it is a device, pipe or socket, not a file: give the path of a regular file")

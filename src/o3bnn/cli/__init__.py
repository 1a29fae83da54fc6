"""The command line `o3bnn`: one thin module a sub-command, which reads options, calls the library and prints."""

import os
import sys

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main() -> None:
    """Run the command line in `sys.argv` and exit: 0 done, 2 bad input, 130 interrupted, 1 a bug of o3bnn.

    The commands are imported here, not above: that takes a good part of a second, and Ctrl-C may come within it.
    """
    try:
        import signal

        usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, or a caller's own
        if usual:  # an exception within a class body would come out as a RuntimeError
            signal.signal(signal.SIGINT, _leave)
        from o3bnn.cli.entry import run

        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _leave(*_: object) -> None:
    """End at once: while modules are imported, there is nothing to clean up."""
    os._exit(INTERRUPTED)

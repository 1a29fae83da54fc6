"""The command line `o3bnn`: one thin module a sub-command, which reads options, calls the library and prints."""

import sys

__all__ = ["main"]

INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main() -> None:
    """Run the command line in `sys.argv` and exit: 0 done, 2 bad input, 130 interrupted, 1 a bug of o3bnn.

    The commands are imported here, not above: that takes a good part of a second, and Ctrl-C may come within it.
    """
    try:
        from o3bnn.cli.entry import run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)

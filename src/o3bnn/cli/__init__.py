"""The command line `o3bnn`: one thin module a sub-command, which reads options, calls the library and prints."""

from o3bnn.cli.entry import app, main

__all__ = ["app", "main"]

"""`python -m o3bnn` is the same as the command `o3bnn`."""

from o3bnn.cli import main

if __name__ == "__main__":
    main()

"""`python -m bench`: the `bench` command, as launchers such as `torchrun -m bench` start it."""

import sys

from bench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m tune.cli`: the same as `dynamos-sweep`."""

import sys

from tune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

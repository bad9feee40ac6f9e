"""`python -m nightshift` is the `nightshift` command."""

import sys

from nightshift.cli import main

if __name__ == "__main__":
    sys.exit(main())

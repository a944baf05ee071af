"""`python -m cmet_engine.cli` is the command `cmet`."""

import sys

from cmet_engine.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""The `cmet` command. Progress goes to standard error, results to standard output.

Exit status: 0 done, 1 the work failed (one sentence on standard error), 2 wrong use.
"""

from cmet_engine.cli.main import main

__all__ = ["main"]

"""What processes keep."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from cmet_engine.processes import keep_freed_memory
{kept}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [b"x" * (3 << 20) for _ in range(6)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone has the setting")
def test_memory_that_was_freed_is_not_fetched_again() -> None:
    def faults(kept: str) -> int:
        code = FAULTS.format(kept=kept)
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout)

    without, kept = faults(""), faults("keep_freed_memory()")
    assert kept < without / 10

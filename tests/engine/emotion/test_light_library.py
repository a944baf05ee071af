"""Listing the emotions needs no heavy package."""

import subprocess
import sys

LISTING = """
import sys
from cmet_engine.emotion import library, sound_files, user_library
names = list(library.load_library())
user_library.user_problems()
heavy = {"torch", "librosa", "scipy", "av", "transformers"} & set(sys.modules)
assert not heavy, heavy
print(*names)
"""


def test_the_library_is_listed_without_torch_scipy_or_av(tmp_path):
    environment = {"CMET_HOME": str(tmp_path), "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", LISTING], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"happy", "neutral", "sarcastic"} <= set(done.stdout.split())

"""What the tests share: real data beside the project where it is there, and small things made on the spot."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("GLOG_minloglevel", "3")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference values beside the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real data beside the project (../shared), which is not on this machine")
    return SHARED

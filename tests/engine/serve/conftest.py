"""A running engine for all tests that leave it running."""

from collections.abc import Iterator

import pytest
from running_engine import RunningEngine


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    running = RunningEngine(tmp_path_factory.mktemp("engine"))
    running.start()
    yield running
    running.stop()

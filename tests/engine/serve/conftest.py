"""A running engine for the tests of its door."""

from collections.abc import Iterator

import pytest
from running_engine import RunningEngine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    running = RunningEngine(tmp_path_factory.mktemp("engine"))
    running.start()
    yield running
    running.stop()

"""A running studio with a small clip, for the tests of its door and its page."""

from collections.abc import Iterator

import pytest
from running_studio import RunningStudio
from short_clips import small


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStudio]:
    running = RunningStudio(tmp_path_factory.mktemp("studio"))
    clip = small(running.films / "take.mp4", frames=24, size=192, silent=True)
    running.start(clip)
    yield running
    running.stop()

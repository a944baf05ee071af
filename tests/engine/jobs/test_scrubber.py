"""Moments of edits, asked for in any order: each answer is that of the edit that was asked for."""

import random

import numpy as np
import pytest
from short_clips import small

from cmet_engine.face.clip import track_clip
from cmet_engine.jobs.scrubber import KEPT, Scrubber
from cmet_engine.spec import LiveSpec

FRAMES = 8
REQUESTS = 60
EDITS = [
    {"emotions": (name,), "strength": strength}
    for name in ("happy", "sad", "angry", "surprised")
    for strength in (0.5, 1)
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMET_HOME", str(tmp_path_factory.mktemp("home")))
        path = small(tmp_path_factory.mktemp("clip") / "take.mp4", frames=FRAMES, size=128, silent=True)
        track_clip(path)
        yield path


def test_random_requests_get_the_picture_of_the_edit_that_was_asked_for(clip):
    assert len(EDITS) > KEPT
    draw = random.Random(5)

    def asked(edit: int, frame: int) -> LiveSpec:
        return LiveSpec(clip=clip, time=frame / 25 + 0.01, **EDITS[edit])

    frames = (1, 4, 6)
    fresh = {}
    for edit in range(len(EDITS)):
        anew = Scrubber()
        fresh.update({(edit, frame): anew.answer(asked(edit, frame), True) for frame in frames})
    assert len({answer["picture"] for answer in fresh.values()}) == len(fresh), "the edits look alike"
    scrubber = Scrubber()
    for _ in range(REQUESTS):
        edit, frame = draw.randrange(len(EDITS)), draw.choice(frames)
        assert scrubber.answer(asked(edit, frame), True) == fresh[edit, frame]


def test_without_an_emotion_the_clip_is_as_it_is(clip):
    answer = Scrubber().answer(LiveSpec(clip=clip, time=0.1))
    assert answer["source"] == answer["edited"] and answer["picture"] is None
    assert np.isfinite(list(answer["source"].values())).all()

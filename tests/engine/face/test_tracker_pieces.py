"""Tracking that is interrupted and taken up again gives the same geometry, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

from cmet_engine.face import tracker
from cmet_engine.face.geometry import FaceGeometry

SAMPLE = Path(__file__).parents[3] / "cmet_engine" / "assets" / "sample" / "talking_head.mp4"


class Killed(BaseException):
    """Stands for kill -9."""


def stop_at(number: int):
    def progress(stage: str, done: int, total: int | None) -> None:
        if done == number:
            raise Killed

    return progress


def same(one: FaceGeometry, other: tracker.FaceGeometry) -> None:
    assert np.array_equal(np.asarray(one.landmarks), np.asarray(other.landmarks))
    for name in ("valid", "times", "head_rotation", "eye_rotation", "fade", "cuts", "teeth"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("stop", [39, 40, 41, 100, 149])
def test_interrupted_tracking_equals_uninterrupted(tmp_path, monkeypatch, stop):
    monkeypatch.setattr(tracker, "SEGMENT", 40)
    whole = tracker.track(SAMPLE)
    with pytest.raises(Killed):
        tracker.track(SAMPLE, pieces=tmp_path, progress=stop_at(stop))
    kept = len(list(tmp_path.glob("*.npz")))
    assert kept == stop // 40
    seen = []
    again = tracker.track(SAMPLE, pieces=tmp_path, progress=lambda stage, done, total: seen.append(done))
    assert seen[0] == kept * 40 + 1  # nothing finished was done again
    same(whole, again)


def test_a_border_between_segments_cannot_be_seen(monkeypatch):
    """Frames there shake no more than others, and nothing is carried away."""
    whole = np.asarray(tracker.track(SAMPLE).landmarks)[..., :2]
    monkeypatch.setattr(tracker, "SEGMENT", 40)
    parts = np.asarray(tracker.track(SAMPLE).landmarks)[..., :2]
    assert np.linalg.norm(parts - whole, axis=2).mean() < 0.5  # pixels of a face 207 wide
    shake = np.linalg.norm(np.diff(parts, 2, axis=0), axis=2).mean(1)  # of frames 1 to N-2
    assert shake[[b - 2 + k for b in (40, 80, 120) for k in (0, 1)]].max() < np.percentile(shake, 95)

"""Tracking that is interrupted and taken up again gives the same geometry, bit for bit."""

import contextlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from short_clips import SAMPLE, small
from soak_cases import soak

from cmet_engine.face import tracker
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter


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


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("clip") / "take.mp4", frames=36, size=192, silent=True)


@pytest.fixture(scope="module")
def whole(clip) -> FaceGeometry:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(tracker, "SEGMENT", 16)
        return tracker.track(clip)


@pytest.mark.parametrize("stop", [16, 35, *soak(15)])
def test_interrupted_tracking_equals_uninterrupted(clip, whole, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(tracker, "SEGMENT", 16)
    with pytest.raises(Killed):
        tracker.track(clip, pieces=tmp_path, progress=stop_at(stop))
    kept = len(list(tmp_path.glob("*.npz")))
    assert kept == stop // 16
    seen = []
    again = tracker.track(clip, pieces=tmp_path, progress=lambda stage, done, total: seen.append(done))
    assert seen[0] == kept * 16 + 1  # nothing finished was done again
    same(whole, again)


def test_a_border_between_segments_cannot_be_seen(tmp_path, monkeypatch):
    """Frames there shake no more than others, and nothing is carried away."""
    clip = small(tmp_path / "take.mp4", frames=54, size=256, silent=True)
    whole = np.asarray(tracker.track(clip).landmarks)[..., :2]
    monkeypatch.setattr(tracker, "SEGMENT", 18)
    parts = np.asarray(tracker.track(clip).landmarks)[..., :2]
    assert np.linalg.norm(parts - whole, axis=2).mean() < 0.25  # pixels of a face 104 wide
    shake = np.linalg.norm(np.diff(parts, 2, axis=0), axis=2).mean(1)  # of frames 1 to N-2
    assert shake[[b - 2 + k for b in (18, 36) for k in (0, 1)]].max() < np.percentile(shake, 95)


def test_a_segment_in_another_format_is_tracked_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, "SEGMENT", 4)
    clip = tmp_path / "clip.mkv"
    with contextlib.closing(VideoReader(SAMPLE).frames(0)) as frames:
        images = [frame.image for frame in itertools.islice(frames, 10)]
    with VideoWriter(clip, images[0].shape[1], images[0].shape[0], 30) as writer:
        for image in images:
            writer.write(image)
    whole = tracker.track(clip, pieces=tmp_path)
    first = tmp_path / "00000000.npz"
    with np.load(first) as stored:
        np.savez(first, **{name: stored[name] for name in stored.files if name != "appearance"})
    seen = []
    same(whole, tracker.track(clip, pieces=tmp_path, progress=lambda stage, done, total: seen.append(done)))
    assert seen[0] == 1

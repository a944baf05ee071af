"""Looking for what lies before the face in a clip: seldom where nothing is, steadily where something is."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from cmet_engine.face import occlusion
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.glimpses import STRIDE, Glimpses
from cmet_engine.face.occlusion import EYES, LEAST_FRAMES, MOUTH, SIDE, find_occlusion, look
from cmet_engine.face.tracker import track
from cmet_engine.media.source import Source
from tests import short_clips


@pytest.fixture(scope="module")
def talking(tmp_path_factory) -> tuple[Source, FaceGeometry]:
    path = short_clips.small(tmp_path_factory.mktemp("occlusion") / "talking.mp4", size=192)
    return Source(path), track_clip(path)[0]


class Scripted:
    """A network that sees a bar before the mouth in the crops with the given numbers, counted as they come."""

    def __init__(self, shows: Sequence[int] = ()) -> None:
        self.shows, self.crops = set(shows), 0

    def __call__(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        result = np.zeros((len(crops), SIDE, SIDE), np.float32)
        for matte in result:
            if self.crops in self.shows:
                matte[80:110, 40:90] = 0.99
            self.crops += 1
        return result


def test_between_frames_that_show_nothing_nobody_looks(talking):
    network = Scripted()
    found = look(*talking, network)
    assert not found.any()
    assert network.crops <= len(talking[1]) / STRIDE + STRIDE


def test_something_before_the_mouth_is_found_in_every_frame_and_steady(talking):
    found = look(*talking, Scripted(range(1000)))
    assert all(found.mattes)
    assert found.covered[:, MOUTH].min() > 0.5
    assert np.mean([np.abs(found.matte(k + 1) - found.matte(k)).mean() for k in range(20)]) < 0.02
    assert found.matte(3)[:60].max() < 0.1


def test_an_eye_that_is_marked_in_part_moves_and_a_hidden_one_does_not(talking):
    points = occlusion._in_crop(talking[1].landmarks[5])
    eye = occlusion._part(points, EYES[0]) > 0
    top, middle = round(points[159, 1]) - 8, round(points[159, 1]) + 1
    for bottom, hidden in ((middle, False), (middle + 12, True)):
        bar = np.zeros((SIDE, SIDE), np.float32)
        bar[top:bottom, 30:98] = 0.9
        matte = look(*talking, lambda crops, bar=bar: np.repeat(bar[None], len(crops), 0)).matte(5)
        assert (matte[eye] > 0.5).all() if hidden else (matte[eye] < 0.5).all()
        assert matte[top + 3, 64] > 0.8


def of(geometry: FaceGeometry, shown: dict[range, tuple[slice, slice, float]]):
    """A network that sees rectangles with a probability in runs of frames; every frame must be looked at."""
    blocks = [range(k, min(k + STRIDE, len(geometry))) for k in range(0, len(geometry), STRIDE)]
    count = iter([k for block in blocks for k in (block[-1], *block[:-1])])  # the last of a block is looked at first

    def network(crops: Sequence[np.ndarray]) -> np.ndarray:
        result = np.zeros((len(crops), SIDE, SIDE), np.float32)
        for matte, index in zip(result, itertools.islice(count, len(crops)), strict=True):
            matte[0, :20] = 0.6  # too little to count, enough to be looked at
            for frames, (rows, columns, probability) in shown.items():
                if index in frames:
                    matte[rows, columns] = probability
        return result

    return network


def test_a_hand_is_no_pair_of_glasses_however_far_it_reaches(talking, monkeypatch):
    monkeypatch.setattr(occlusion, "PATIENCE", 10_000)  # every frame is looked at
    hand = (slice(50, 110), slice(30, 98), 0.99)
    found = look(*talking, of(talking[1], {range(5, 20): hand}))
    assert (found.matte(12)[55:105, 35:93] > 0.9).all()
    assert found.covered[12, MOUTH] > 0.9
    frame = {range(1000): (slice(50, 58), slice(30, 98), 0.99)}
    assert look(*talking, of(talking[1], frame)).matte(12)[52:56, 40:88].min() > 0.9, "rims stay rims"


def test_a_thing_is_seen_while_it_comes_and_goes(talking, monkeypatch):
    monkeypatch.setattr(occlusion, "PATIENCE", 10_000)
    coming, there = (slice(95, 112), slice(50, 76), 0.8), (slice(80, 112), slice(45, 85), 0.99)
    found = look(*talking, of(talking[1], {range(2, 7): coming, range(7, 13): there}))
    assert all(found.mattes[3:12])
    assert not any(found.mattes[16:])
    alone = look(*talking, of(talking[1], {range(2, 13): coming}))
    assert not alone.any(), "by itself that is a fold or stubble"


def test_what_lasts_without_being_certain_is_of_the_face(talking, monkeypatch):
    monkeypatch.setattr(occlusion, "PATIENCE", 10_000)
    stubble, surer = (slice(85, 115), slice(40, 90), 0.8), (slice(85, 115), slice(40, 90), 0.97)
    found = look(*talking, of(talking[1], {range(1000): stubble, range(6, 14): surer}))
    assert not found.any()
    assert look(*talking, of(talking[1], {range(6, 14): surer})).any()


def test_what_shows_for_a_moment_between_two_covers_is_covered():
    shares = np.zeros((30, 1), np.float32)
    shares[[4, 5, 9, 10, 20]] = 0.9
    result = occlusion._without_gaps(shares)[:, 0]
    assert result.shape == (30,)
    assert np.flatnonzero(result > 0.5).tolist() == [4, 5, 6, 7, 8, 9, 10, 20]


def test_a_flash_in_fewer_frames_than_count_is_forgotten(talking):
    assert LEAST_FRAMES > 1
    assert not look(*talking, Scripted([3])).any()


def test_what_was_kept_while_tracking_is_seen_as_the_frames_are(talking, monkeypatch):
    footage, _ = talking
    crops: list[np.ndarray] = []

    def network(shown: Sequence[np.ndarray]) -> np.ndarray:
        crops.extend(shown)
        return np.zeros((len(shown), SIDE, SIDE), np.float32)

    look(footage, track(footage), network)
    decoded = crops.copy()
    kept = track(footage, glimpses=Glimpses())
    with monkeypatch.context() as patched:
        patched.setattr(occlusion, "VideoReader", lambda *_: pytest.fail("the clip was decoded again"))
        look(footage, kept, network)
    assert kept.glimpses is None
    assert np.array_equal(crops[len(decoded) :], decoded)
    seeing = track(footage, glimpses=Glimpses())
    assert all(look(footage, seeing, Scripted(range(1000))).mattes), "the frames between come from the clip"
    monkeypatch.setattr("cmet_engine.face.glimpses.MOST", 100_000)
    assert len(look(footage, track(footage, glimpses=Glimpses()), network).mattes) == len(kept)
    assert np.array_equal(crops[-len(decoded) :], decoded), "too many parts for the memory"


def test_a_clip_is_looked_at_once(talking, monkeypatch, tmp_path):
    monkeypatch.setenv("CMET_HOME", str(tmp_path))
    monkeypatch.setattr("cmet_engine.face.occlusion.assets.checksums", lambda *names: names)
    monkeypatch.setattr("cmet_engine.face.occlusion._network", lambda: Scripted(range(1000)))
    first = find_occlusion(*talking)
    monkeypatch.setattr("cmet_engine.face.occlusion._network", lambda: pytest.fail("it was looked at before"))
    again = find_occlusion(*talking)
    assert again.any()
    assert again.mattes == first.mattes
    assert np.array_equal(again.lower, first.lower)
    assert first.lower.min() == 1, "the mouth is covered all the time"

"""The tracker on clips made from the project's own sample: gaps, cuts, several faces, small faces."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from two_people import sample_heads, write

from cmet_engine.errors import CmetError
from cmet_engine.face import pose
from cmet_engine.face.gaze import gaze_degrees
from cmet_engine.face.geometry import FaceGeometry, Landmarks, fade_of
from cmet_engine.face.tracker import track
from cmet_engine.models.assets import ASSETS

SAMPLE = ASSETS / "sample" / "talking_head.mp4"
FRAMES = 24


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """The first frames of the sample, 256 pixels wide."""
    return sample_heads(FRAMES)


def _canvas(width: int, height: int, *parts: tuple[np.ndarray, int, int, int]) -> np.ndarray:
    """A grey picture with others pasted in: (picture, left, top, size)."""
    canvas = np.full((height, width, 3), 96, np.uint8)
    for image, left, top, size in parts:
        canvas[top : top + size, left : left + size] = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return canvas


def _centres(geometry: FaceGeometry) -> np.ndarray:
    return geometry.landmarks[:].mean(1)[:, :2]


def test_a_store_reads_like_an_array():
    store, values = Landmarks(), np.random.default_rng(0).normal(size=(7, 478, 3)).astype(np.float32)
    store.append(values[:5])
    store.append(values[5])
    store.append(values[6])
    assert store.shape == values.shape
    for part in (3, -1, slice(None), slice(2, 6), slice(0, 7, 3), slice(None, None, -1), slice(5, 5), np.array([4, 0])):
        np.testing.assert_array_equal(store[part], values[part])
    np.testing.assert_array_equal(np.asarray(store), values)
    np.testing.assert_array_equal(np.stack(list(store)), values)
    with pytest.raises(IndexError):
        store[7]


def test_the_edit_fades_around_lost_frames_but_not_over_cuts():
    valid = np.ones(60, bool)
    valid[20:23] = False
    fade = fade_of(valid, [40], 25.0)
    assert (fade[20:23] == 0).all()
    assert (np.diff(fade[23:30]) >= 0).all() and (np.diff(fade[12:20]) <= 0).all()
    assert 0 < fade[19] < 1 and fade[10] == 1 and fade[30] == 1
    assert (fade_of(valid, [23], 25.0)[23:] == 1).all()


def test_the_sample_is_tracked_alike_every_time(tmp_path, pictures):
    clip = write(tmp_path / "clip.mp4", pictures)
    seen: list[tuple[str, int, int | None]] = []
    first = track(clip, progress=lambda *step: seen.append(step))
    second = track(clip)
    assert len(first) == FRAMES and first.valid.all() and first.cuts == [] and (first.fade == 1).all()
    np.testing.assert_array_equal(first.landmarks[:], second.landmarks[:])
    assert seen[-1][:2] == ("tracking", FRAMES)
    assert np.abs(first.head_rotation).max() < 30
    assert np.abs(first.eye_rotation).max() < 45
    inside = first.landmarks[:][..., :2]
    assert inside.min() > 0 and inside.max() < 256


def test_frames_without_a_face_are_marked_and_filled(tmp_path, pictures):
    images = list(pictures)
    for i in range(10, 14):
        images[i] = np.full_like(images[i], 90)
    geometry = track(write(tmp_path / "gap.mp4", images))
    assert not geometry.valid[10:14].any()
    assert geometry.valid[:10].all() and geometry.valid[15:].all()
    assert np.isfinite(geometry.landmarks[:]).all() and np.isfinite(geometry.head_rotation).all()
    assert (geometry.fade[10:14] == 0).all() and geometry.fade[0] == 1


def test_a_cut_begins_a_new_shot(tmp_path, pictures):
    left = [_canvas(640, 360, (p, 10, 20, 300)) for p in pictures[:12]]
    right = [_canvas(640, 360, (p, 380, 100, 240)) // 2 for p in pictures[:12]]
    geometry = track(write(tmp_path / "cut.mp4", left + right))
    assert geometry.cuts == [12]
    assert geometry.valid.all()
    centres = _centres(geometry)
    assert np.ptp(centres[:12], axis=0).max() < 25 and np.ptp(centres[12:], axis=0).max() < 25
    assert centres[12, 0] - centres[11, 0] > 150


def test_a_person_who_moves_is_no_cut(tmp_path, pictures):
    images = [_canvas(640, 300, (p, 10 + 14 * i, 20, 256)) for i, p in enumerate(pictures)]
    geometry = track(write(tmp_path / "move.mp4", images))
    assert geometry.cuts == [] and geometry.valid.all()
    steps = np.diff(_centres(geometry)[:, 0])
    assert np.abs(steps[3:-3] - 14).max() < 4  # no lag behind the motion, no jumps


def test_faces_are_numbered_by_size_and_kept_apart(tmp_path, pictures):
    images = [
        _canvas(640, 400, (p, 20 + 12 * i, 40, 200), (q[:, ::-1], 330, 40, 300))
        for i, (p, q) in enumerate(zip(pictures[:12], reversed(pictures[:12]), strict=True))
    ]
    clip = write(tmp_path / "two.mp4", images)
    large, small = track(clip, face=0), track(clip, face=1)
    assert large.valid.all() and small.valid.all()
    assert (_centres(large)[:, 0] > 330).all()
    assert (_centres(small)[:, 0] < 380).all()
    assert _centres(small)[-1, 0] - _centres(small)[0, 0] > 100
    with pytest.raises(CmetError, match="2 faces"):
        track(clip, face=2)


def test_gaze_follows_the_irises():
    points = np.repeat(pose.template().points[None], 3, 0)
    points[1, 468:, 0] -= 0.04  # both irises to the left of the picture: the person's own right
    points[2, 468:, 1] -= 0.03
    gaze = gaze_degrees(points)
    np.testing.assert_allclose(gaze[0], 0, atol=1e-4)
    assert (gaze[1, [0, 2]] > 10).all() and np.abs(gaze[1, [1, 3]]).max() < 4
    assert (gaze[2, [1, 3]] > 8).all()


def test_a_small_face_in_a_large_picture_keeps_its_precision(tmp_path, pictures):
    size = 160  # the face itself is about 100 pixels high
    near = track(write(tmp_path / "near.mp4", pictures[:6]))
    far = track(write(tmp_path / "far.mp4", [_canvas(1920, 1080, (p, 1300, 600, size)) for p in pictures[:6]]))
    assert far.valid.all()
    found = (far.landmarks[:][..., :2] - [1300, 600]) * 256 / size
    wanted = near.landmarks[:][..., :2]
    eyes = np.linalg.norm(wanted[:, 33] - wanted[:, 263], axis=1).mean()
    assert np.linalg.norm(found - wanted, axis=2).mean() < 0.03 * eyes


@pytest.mark.parametrize(("width", "height"), [(64, 64), (8, 8)])
def test_a_clip_without_a_face_says_so(tmp_path, width, height):
    clip = write(tmp_path / "none.mp4", [np.full((height, width, 3), 100, np.uint8)] * 3)
    with pytest.raises(CmetError, match=r"none\.mp4.*no face"):
        track(clip)


def test_a_face_number_below_zero_is_refused(tmp_path):
    with pytest.raises(CmetError, match="counted from 0"):
        track(SAMPLE, face=-1)


def test_what_progress_raises_ends_the_work():
    class StopError(Exception):
        pass

    def progress(stage: str, done: int, total: int | None) -> None:
        if done == 3:
            raise StopError

    with pytest.raises(StopError):
        track(SAMPLE, progress=progress)


def test_nothing_is_written_to_standard_error(tmp_path, pictures):
    clip = write(tmp_path / "quiet.mp4", pictures[:3])
    code = f"from cmet_engine.face.tracker import track; print(track({str(clip)!r}).valid.all())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
    assert done.stderr == ""


def test_teeth_that_meet_are_told_from_a_gap_on_a_real_mouth(shared):
    """What was seen in the frames: an open mouth at first, meeting teeth at 2 s, a dark gap at 3.2 s."""
    geometry = track(shared / "data/clips/talk_andrew_clip_1.mp4")
    assert geometry.teeth[:6].max() < 0.1 and geometry.teeth[95] < 0.1
    assert geometry.teeth[60:75].min() > 0.9

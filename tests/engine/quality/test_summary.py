"""What a report says of a clip in words."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from cmet_engine import arkit
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.pose import template
from cmet_engine.quality import summary
from cmet_engine.spec import EditSpec
from cmet_engine.track import CoefficientTrack

N = 50


def clip(width: float = 200.0, valid=None, yaw=None, cuts=()) -> FaceGeometry:
    points = template().points * [1, -1, -1]
    points = points * width / np.ptp(points[:, 0]) + [320, 240, 0]
    head = np.zeros((N, 3), np.float32)
    head[:, 0] = 0 if yaw is None else yaw
    return FaceGeometry(
        np.repeat(points[None], N, 0).astype(np.float32), np.ones(N, bool) if valid is None else valid, (640, 480),
        Fraction(25), np.arange(N) / 25, head, np.zeros((N, 4), np.float32), list(cuts),
    )  # fmt: skip


def test_an_ordinary_clip_needs_no_words():
    assert summary.tracking_messages(clip()) == []


def test_what_the_tracker_met_is_said():
    valid = np.ones(N, bool)
    valid[10:14] = False
    assert summary.tracking_messages(clip(valid=valid))[0].startswith("No face was found in 4 of 50 frames")
    assert summary.tracking_messages(clip(cuts=[25])) == ["1 scene cut at 1.00 s; tracking began anew there."]
    assert "2 scene cuts at 0.40 s, 1.00 s" in summary.tracking_messages(clip(cuts=[10, 25]))[0]
    assert "only 60 pixels wide" in summary.tracking_messages(clip(width=60))[0]
    yaw = np.where((np.arange(N) >= 5) & (np.arange(N) < 11), 50, 0)
    assert "more than 45 degrees at 0.20 to 0.40 s; the edit fades" in summary.tracking_messages(clip(yaw=yaw))[0]
    often = np.where(np.arange(N) % 5 == 0, -60, 0)
    assert "and 5 more times" in summary.tracking_messages(clip(yaw=often))[0]


def test_who_is_away_is_told_from_who_is_not_found():
    geometry = clip(valid=~np.isin(np.arange(N), [3, *range(20, 30)]))
    geometry.strangers[22:30] = True
    messages = summary.tracking_messages(geometry)
    assert messages[0].startswith("The person was not found in 11 of 50 frames")
    assert messages[1] == "At 0.80 to 1.16 s the person is away and somebody else is seen, who is not edited."


def test_an_edit_that_is_not_seen_is_said():
    assert summary.unseen_edit("", {}) == summary.unseen_edit("", {"edit_realised": 0.2}) == []
    assert "the edit of anna is seen" in summary.unseen_edit("anna", {"edit_realised": 0.07})[0]


def test_the_moments_are_the_most_edited_of_their_stretch_with_a_face():
    valid = np.ones(N, bool)
    valid[12] = False
    track = [CoefficientTrack(Fraction(25), np.zeros((N, arkit.COUNT), np.float32), valid=valid) for _ in range(2)]
    for frame in (3, 12, 15, 25, 38, 44):
        track[1].coefficients[frame, 0] = 0.5
    assert summary.moments(*track) == [3, 15, 25, 38, 44]
    assert summary.moments(*track, count=1) == [3]


def test_the_box_is_in_pixels_of_the_small_picture():
    left, top, right, bottom = summary.face_box(clip(), 0, np.zeros((240, 320, 3), np.uint8))
    assert abs(right - left - 100) < 0.01
    assert abs((left + right) / 2 - 160) < 5 and 0 < top < bottom < 240
    assert summary.face_box(clip(valid=np.zeros(N, bool)), 0, np.zeros((240, 320, 3), np.uint8)) is None


def test_the_settings_name_files_without_their_folders():
    spec = EditSpec(clip=Path("a.mp4"), speech=Path("secret/folder/angry.wav"), strength=0.5)
    assert summary.settings_table(spec) == {
        "mode": "add", "renderer": "warp", "quality": "auto", "strength": 0.5, "face": 0, "speech": "angry.wav",
    }  # fmt: skip
    assert set(summary.versions()) == {"cmet", "mediapipe", "av", "torch"}

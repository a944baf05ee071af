"""The warp renderer on a drawn face and, where they are, on real clips."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import cv2
import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.evaluation.edit import evaluate_edit, format_figures
from cmet_engine.face.clip import track_clip
from cmet_engine.face.landmarks import (
    CHIN,
    INNER_LIPS,
    LID_STRIPS,
    LIDS,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    OPENINGS,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
)
from cmet_engine.face.lips import eye_opening, lip_opening
from cmet_engine.face.pose import Pose, denormalise, template
from cmet_engine.face.teeth import teeth_meet
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.render import openings
from cmet_engine.render import warp as renderer_module
from cmet_engine.render.eye_motion import FOREHEAD_STRETCH, LID_LEAST, LID_MOST
from cmet_engine.render.lip_motion import TEETH_PART, hold_lips
from cmet_engine.render.motion import landmark_motion
from cmet_engine.render.warp import WarpRenderer, facing_weights, warp
from cmet_engine.track import CoefficientTrack

FRAMES, WIDTH, HEIGHT = 4, 320, 280


def head(yaw: float = 0.0, scale: float = 90.0) -> np.ndarray:
    """Landmarks [478, 3] of the mean face in the middle of the picture, turned by `yaw` radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[[c, 0, s], [0, 1, 0], [-s, 0, c]]])
    offset = np.array([[WIDTH / 2, -HEIGHT / 2, 0.0]])
    return denormalise(template().points[None], Pose(np.array([scale]), rotation, offset))[0].astype(np.float32)


def clip(landmarks: np.ndarray, **change: float) -> tuple[FaceGeometry, CoefficientTrack, CoefficientTrack]:
    """A still head as a clip, and tracks before and after a change of the named coefficients."""
    geometry = FaceGeometry(
        np.repeat(landmarks[None], FRAMES, 0),
        np.ones(FRAMES, bool),
        (WIDTH, HEIGHT),
        Fraction(25),
        np.arange(FRAMES) / 25,
        np.zeros((FRAMES, 3), np.float32),
        np.zeros((FRAMES, 4), np.float32),
        fade=np.array([1, 1, 0.5, 0], np.float32),
    )
    source = CoefficientTrack(Fraction(25), np.zeros((FRAMES, arkit.COUNT), np.float32))
    edited = source.copy()
    for name, value in change.items():
        columns = [arkit.INDEX[name]] if name in arkit.INDEX else arkit.columns([name + "Left", name + "Right"])
        edited.coefficients[:, columns] = value
    return geometry, source, edited


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Smooth coloured noise: every place looks different, so that motion shows."""
    import cv2

    noise = np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH, 3))
    noise = cv2.GaussianBlur(noise, (0, 0), 3)
    return ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)


def test_a_frame_without_change_is_the_same_object(picture):
    renderer = WarpRenderer(*clip(head()))
    assert renderer.render(picture, 0) is picture


def test_fade_multiplies_the_edit_and_zero_leaves_the_frame(picture):
    renderer = WarpRenderer(*clip(head(), mouthSmile=0.8))
    full, half, none = (renderer.render(picture, i) for i in (1, 2, 3))
    difference = [np.abs(out.astype(int) - picture).sum() for out in (full, half)]
    assert none is picture
    assert 0 < difference[1] < difference[0]


def test_far_from_the_face_every_pixel_stays(picture):
    import cv2

    landmarks = head(scale=60)
    out = WarpRenderer(*clip(landmarks, browInnerUp=1, jawOpen=0.6, mouthSmile=1)).render(picture, 0)
    hull = cv2.convexHull(np.ascontiguousarray(landmarks[:468, :2]))[:, 0]
    grown = hull.mean(0) + 1.5 * (hull - hull.mean(0))
    outside = cv2.fillConvexPoly(np.ones((HEIGHT, WIDTH), np.uint8), np.round(grown).astype(np.int32), 0).astype(bool)
    assert outside.any()
    assert np.array_equal(out[outside], picture[outside])
    assert not np.array_equal(out, picture)


def test_order_of_frames_and_threads_do_not_matter(picture):
    one, other, third = (WarpRenderer(*clip(head(), mouthFrown=0.7)) for _ in range(3))
    forwards = [one.render(picture, i) for i in (0, 1, 2)]
    backwards = [other.render(picture, i) for i in (2, 1, 0)][::-1]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda i: third.render(picture, i), (0, 1, 2)))
    for result in (backwards, together):
        assert all(np.array_equal(a, b) for a, b in zip(forwards, result, strict=True))


def test_a_face_half_out_of_the_frame_is_drawn(picture):
    landmarks = head() + np.float32([WIDTH / 2, 0, 0])
    out = WarpRenderer(*clip(landmarks, mouthSmile=0.8)).render(picture, 0)
    assert out.shape == picture.shape
    assert not np.array_equal(out, picture)


def test_a_face_outside_the_frame_leaves_it(picture):
    landmarks = head() + np.float32([3 * WIDTH, 0, 0])
    assert np.array_equal(WarpRenderer(*clip(landmarks, mouthSmile=0.8)).render(picture, 0), picture)


def test_tracks_of_another_clip_are_refused():
    geometry, source, edited = clip(head())
    short = CoefficientTrack(Fraction(25), edited.coefficients[:2])
    with pytest.raises(CmetError, match="must be of the same clip"):
        WarpRenderer(geometry, source, short)


def test_a_very_large_face_with_an_open_mouth_is_drawn():
    landmarks = head(scale=1500) * np.float32([1, 1, 1])
    landmarks[:, :2] += np.float32([900, 1400]) - landmarks[:, :2].mean(0)
    image = np.full((2800, 1800, 3), 90, np.uint8)
    geometry, source, edited = clip(landmarks, jawOpen=0.9, mouthSmile=0.7)
    assert WarpRenderer(geometry, source, edited).render(image, 0).shape == image.shape


def delta(**change: float) -> np.ndarray:
    return clip(head(), **change)[2].coefficients[:1]


@pytest.mark.parametrize("yaw", [0.0, 0.5])
def test_no_change_moves_no_landmark_and_a_change_moves_both_sides_alike(yaw):
    assert not landmark_motion(head(yaw)[None], delta()).any()
    motion = landmark_motion(head()[None], delta(mouthSmile=0.7))[0]
    mirrored = motion[template().mirror] * [-1, 1, 1]
    assert np.abs(motion).max() > 2
    assert np.allclose(motion[:, :2], mirrored[:, :2], atol=0.05)


def test_a_smile_lifts_the_corners_of_the_mouth_and_a_frown_lowers_the_brows():
    smile = landmark_motion(head()[None], delta(mouthSmile=0.7))[0]
    frown = landmark_motion(head()[None], delta(browDown=0.7))[0]
    corners, brows = [61, 291], [55, 65, 285, 295]
    assert (smile[corners, 1] < -2).all() and smile[61, 0] < 0 < smile[291, 0]
    assert (frown[brows, 1] > 1).all()


def test_one_side_alone_moves_at_least_as_far_as_together_with_the_other():
    both = landmark_motion(head()[None], delta(mouthSmile=0.6))[0]
    left = landmark_motion(head()[None], delta(mouthSmileLeft=0.6))[0]
    assert (np.abs(left[291, :2] / both[291, :2] - 1.2) < 0.25).all()
    assert np.abs(left[61, :2]).max() < 0.1 * np.abs(both[61, :2]).max()
    brow = landmark_motion(head()[None], delta(browOuterUpRight=0.7))[0]
    assert brow[[52, 105], 1].max() < -3 and np.abs(brow[[282, 334], 1]).max() < 1


@pytest.mark.parametrize("change", [{"browInnerUp": 0.8}, {"eyeWide": 0.5, "browOuterUp": 0.6}, {"eyeBlink": 0.4}])
def test_eyes_open_and_close_by_their_lids_and_do_not_slide(change):
    face = head()[None]
    motion = landmark_motion(face, delta(**change))[0, :, 1]
    upper, lower = np.array([pair for side in LIDS for pair in side]).T
    assert np.abs(motion[[33, 133, 362, 263]]).max() < 0.3
    opened = motion[lower].mean() - motion[upper].mean()
    assert np.abs(motion[lower]).mean() < 0.5 * max(abs(opened), 0.5)
    assert opened < 0.5 * eye_opening(face).mean() * np.linalg.norm(face[0, 33] - face[0, 263])
    if "eyeBlink" in change:
        assert opened < -1


def test_inner_brows_asked_alone_slant_and_do_not_arch():
    inner, outer = [107, 336], [63, 293]
    slanted = -landmark_motion(head()[None], delta(browInnerUp=0.7))[0, :, 1]
    arched = -landmark_motion(head()[None], delta(browInnerUp=0.7, browOuterUpLeft=0.7, browOuterUpRight=0.7))[0, :, 1]
    assert slanted[inner].mean() > 4 * max(slanted[outer].mean(), 0.5)
    assert arched[outer].mean() > 3 * max(slanted[outer].mean(), 0.5)


def test_brows_raised_and_lowered_at_once_come_together():
    apart, together = (
        landmark_motion(head()[None], delta(browInnerUp=0.6, browDownLeft=down, browDownRight=down))[0]
        for down in (0.0, 0.18)
    )
    nearer = (together - apart)[[107, 336], 0]
    assert nearer[0] > 1 > -1 > nearer[1]


def test_the_forehead_comes_down_with_a_brow_that_stood_high():
    pose = Pose(np.array([90.0]), np.eye(3)[None], np.array([[160.0, -140.0, 0.0]]))
    columns = [(107, 108), (66, 69), (105, 104), (336, 337), (296, 299), (334, 333)]
    brow, above = (list(rows) for rows in zip(*columns, strict=True))
    low, high = template().points.copy(), template().points.copy()
    brows = [70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285]
    high[brows, 1] += 0.12

    def stretch(points):
        """How much taller the skin between the brow and the landmarks above it gets."""
        before = denormalise(points[None], pose)
        after = before + landmark_motion(before, delta(browDown=0.9))
        return ((after[0, brow, 1] - after[0, above, 1]) / (before[0, brow, 1] - before[0, above, 1])), before, after

    tall, before, after = stretch(high)
    assert (tall <= FOREHEAD_STRETCH + 0.02).all() and tall.max() > 0.9 * FOREHEAD_STRETCH
    assert (after[0, above, 1] > before[0, above, 1] + 1).all()
    still, before, after = stretch(low)
    assert still.max() < tall.max() and (after[0, [10, 338, 109], 1] - before[0, [10, 338, 109], 1]).max() < 8


def test_a_brow_that_comes_down_does_not_push_the_lid_over_its_edge():
    """The skin with the lashes stays above the lid's edge, or the renderer would draw a dark jagged line there."""
    points = template().points.copy()
    for _, above in LID_STRIPS[2:]:  # a deep-set eye
        for rows in (list(above), template().mirror[list(above)]):
            points[rows, 1] -= 0.02
    before = denormalise(points[None], Pose(np.array([90.0]), np.eye(3)[None], np.array([[160.0, -140.0, 0.0]])))
    after = before + landmark_motion(before, delta(browDown=0.9, eyeSquint=0.5))
    for (below, above), least in zip(LID_STRIPS, LID_LEAST, strict=True):
        was, now = (p[0, list(below), 1] - p[0, list(above), 1] for p in (before, after))
        assert (now >= least * was - 0.1).all()


def test_a_brow_that_rises_does_not_draw_the_lashes_out_of_a_shut_lid():
    """The strip next to the lashes keeps its height; the skin above it stretches instead, and that of an open eye may."""
    open_eyes = template().points.copy()
    shut_eyes = open_eyes.copy()
    for upper, lower in OPENINGS[:2]:
        shut_eyes[list(upper), 1] = shut_eyes[list(lower), 1] + 0.003
    strip = [LID_STRIPS[0], tuple(template().mirror[list(line)] for line in LID_STRIPS[0])]
    heights = []
    for points in (open_eyes, shut_eyes):
        before = denormalise(points[None], Pose(np.array([90.0]), np.eye(3)[None], np.array([[160.0, -140.0, 0.0]])))
        after = before + landmark_motion(before, delta(browInnerUp=0.9, browOuterUp=0.9, eyeWide=0.5))
        was, now = (
            np.array([(p[0, list(below), 1] - p[0, list(above), 1])[1:-1] for below, above in strip])
            for p in (before, after)
        )
        heights.append((now / was).max())
        brow = before[0, [105, 334], 1] - after[0, [105, 334], 1]
        assert (brow > 2).all()
    assert heights[1] <= LID_MOST + 0.02 < heights[0]


def test_brows_that_lie_on_the_lids_rise_less_than_others():
    points = template().points.copy()
    brows = [70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285]
    low = points.copy()
    low[brows, 1] -= 0.1
    pose = Pose(np.array([90.0]), np.eye(3)[None], np.array([[160.0, -140.0, 0.0]]))
    rise = [
        -landmark_motion(denormalise(p[None], pose), delta(browInnerUp=0.9))[0, [65, 295], 1].mean()
        for p in (points, low)
    ]
    assert 2 < rise[1] < 0.8 * rise[0]


@pytest.mark.parametrize("name", ["mouthSmile", "mouthFrown", "noseSneer", "mouthStretch"])
def test_closed_lips_stay_closed_unless_the_jaw_is_asked_to_open(name):
    points = template().points.copy()
    upper, lower = np.array(INNER_LIPS).T
    for u, low in (*zip(upper, lower, strict=True), (80, 88), (310, 318), (191, 95), (415, 324)):
        points[[u, low], 1] = points[[u, low], 1].mean()
    pose = Pose(np.array([90.0]), np.eye(3)[None], np.array([[160.0, -140.0, 0.0]]))
    closed = denormalise(points[None], pose)
    assert lip_opening(closed)[0] < 0.01
    assert lip_opening(closed + landmark_motion(closed, delta(**{name: 0.8})))[0] < 0.02
    assert lip_opening(closed + landmark_motion(closed, delta(jawOpen=0.8)))[0] > 0.04


def test_what_is_keyed_is_drawn_whatever_the_face_did():
    """Bared teeth vanish behind lips that close, closed lips part with the jaw, a broad mouth stays wide enough, eyes shut."""
    smile = {"mouthSmile": 0.8, "mouthUpperUp": 0.5, "mouthLowerDown": 0.5, "jawOpen": 0.1}
    source = delta(**smile)
    face = head()[None] + landmark_motion(head()[None], source)
    assert lip_opening(face)[0] > 0.08
    closed = face + landmark_motion(face, delta(mouthPress=0.5) - source, source)
    assert lip_opening(closed)[0] < 0.01
    assert np.ptp(closed[0, [61, 291], 0]) > 0.5 * 90
    doubted = delta(jawOpen=0.05)  # curves that say little of an opening that is seen
    assert lip_opening(face + landmark_motion(face, delta(mouthPress=0.5) - doubted, doubted))[0] < 0.01
    half = face + landmark_motion(face, -source / 2, source)
    assert lip_opening(half)[0] == pytest.approx(lip_opening(face)[0] / 2, rel=0.3)
    opened = closed + landmark_motion(closed, delta(jawOpen=0.5), delta(mouthPress=0.5))
    assert lip_opening(opened)[0] > 0.1
    together = closed + landmark_motion(closed, delta(jawOpen=0.5, mouthClose=0.5), delta(mouthPress=0.5))
    assert lip_opening(together)[0] < 0.02
    assert eye_opening(face + landmark_motion(face, delta(eyeBlink=1.0), source)).max() < 0.01
    rolled = closed + landmark_motion(closed, delta(mouthRollLower=1.0), delta(mouthPress=0.5))
    red = [(points[0, 17, 1] - points[0, 14, 1]) for points in (closed, rolled)]
    assert red[1] < 0.5 * red[0]
    # the person's left is the right of the picture
    sideways = landmark_motion(face, delta(mouthLeft=0.8, jawRight=0.8), source)[0, :, 0]
    assert sideways[list(UPPER_LIP_OUTER)].min() > 3 and sideways[152] < -4 and np.abs(sideways[[33, 263]]).max() < 0.5


def test_lips_of_a_tilted_head_close_in_depth_too():
    c, s = np.cos(0.5), np.sin(-0.5)
    pose = Pose(np.array([90.0]), np.array([[[1, 0, 0], [0, c, -s], [0, s, c]]]), np.array([[160.0, -140.0, 0.0]]))
    source = delta(jawOpen=0.9, mouthUpperUp=0.5, mouthLowerDown=0.5)
    face = denormalise(template().points[None], pose)
    face = face + landmark_motion(face, source)
    closed = face + landmark_motion(face, -source, source)
    upper, lower = np.array(INNER_LIPS).T
    gaps = [(points[0, lower, 1] - points[0, upper, 1]).mean() for points in (face, closed)]
    assert gaps[0] > 40 and gaps[1] < 7


def test_lips_that_close_leave_the_teeth_behind():
    smile = delta(mouthSmile=0.5, mouthUpperUp=0.25, mouthLowerDown=0.25)
    face = head(scale=200.0)[None] - [0, 60, 0]
    face = face + landmark_motion(face, smile)
    image = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    upper, lower = face[0, list(UPPER_LIP_INNER), :2], face[0, list(LOWER_LIP_INNER), :2]
    teeth = np.concatenate([upper, lower[::-1]])
    cv2.fillPoly(image, [np.round(teeth).astype(np.int32)], (240,) * 3)
    cv2.polylines(
        image, [np.round(teeth).astype(np.int32)], True, (240,) * 3, 3
    )  # a little larger than the landmarks say
    moves = landmark_motion(face, -smile, smile)[0]
    drawn = warp(image, face[0], moves)
    x, y = (face[0] + moves)[[13, 14], :2].mean(0).astype(int)
    assert drawn[y - 25 : y + 25, x - 30 : x + 30].max() < 175 and drawn[y - 2 : y + 3, x].min() < 120


def test_lids_that_close_show_a_line_of_lashes_and_no_speck_of_the_eyeball():
    landmarks = head(scale=150.0).astype(np.float64)
    image = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    for upper, lower in OPENINGS[:2]:
        lids = [np.round(landmarks[list(line), :2]).astype(np.int32) for line in (upper, lower)]
        cv2.fillPoly(image, [np.concatenate([lids[0], lids[1][::-1]])], (240,) * 3)
        cv2.polylines(image, [lids[1]], False, (240,) * 3, 2)  # the white reaches beyond the landmarks
        cv2.polylines(image, [lids[0]], False, (50,) * 3, 2)
    moves = landmark_motion(landmarks[None], delta(eyeBlink=1.0))[0]
    drawn = warp(image, landmarks, moves)
    for upper, lower in OPENINGS[:2]:
        line = (landmarks + moves)[list(upper + lower), :2]
        (x0, y0), (x1, y1) = (line.min(0) + np.array([6, -8])).astype(int), (line.max(0) - [6, -8]).astype(int)
        assert drawn[y0:y1, x0:x1].max() < 175 and (drawn[y0:y1, x0:x1].min((0, 2)) < 100).all()


def test_iris_and_pupil_of_an_eye_that_widens_stay_round():
    landmarks = head(scale=200.0).astype(np.float64)
    image = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    for centre, (upper, lower) in zip((468, 473), OPENINGS[:2], strict=True):
        eye = landmarks[[*upper, *lower[::-1]], :2]
        landmarks[centre : centre + 5, :2] = eye.mean(0) + 14 * np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]])
        ball = np.full_like(image, 230)
        for radius, shade in ((14, 90), (5, 20)):
            cv2.circle(ball, np.round(eye.mean(0)).astype(int).tolist(), radius, (shade,) * 3, -1)
        inside = cv2.fillPoly(np.zeros(image.shape[:2], np.uint8), [np.round(eye).astype(np.int32)], 1)
        image = np.where(inside[..., None] > 0, ball, image)
    drawn = warp(image, landmarks, landmark_motion(landmarks[None], delta(eyeWide=1.0))[0]).mean(-1)
    for centre in (468, 473):
        x, y = np.round(landmarks[centre, :2]).astype(int)
        for shade in (55, 120):  # darker than which are the pupil, and pupil and iris
            down, across = ((line < shade).sum() for line in (drawn[y - 30 : y + 30, x], drawn[y, x - 30 : x + 30]))
            assert abs(int(down) - int(across)) <= 2


def test_the_skin_beside_a_corner_of_the_mouth_goes_along_with_it():
    landmarks = head()
    delta = np.zeros((1, arkit.COUNT), np.float32)
    delta[0, arkit.INDEX["mouthSmileLeft"]] = delta[0, arkit.INDEX["mouthDimpleLeft"]] = 0.7
    rise = -landmark_motion(landmarks[None], delta)[0, :, 1]
    corner, beside = 291, 287  # 287 is the next landmark of the cheek
    assert rise[corner] > 2 and rise[beside] > 0.6 * rise[corner]


@pytest.mark.parametrize(
    ("inside", "gap", "meet", "dark"),
    [(110, 110, 0.0, False), (240, 30, 0.0, True), (240, 240, 1.0, False), (240, 200, 1.0, False)],
    ids=["tongue", "rows apart", "rows that meet", "rows that meet in a seam"],
)
def test_a_mouth_opens_over_tongue_over_darkness_between_teeth_or_shows_more_of_teeth_that_meet(
    inside, gap, meet, dark
):
    landmarks = head().astype(np.float64)
    rise = 6 * np.sin(np.linspace(0, np.pi, 11))
    landmarks[list(UPPER_LIP_INNER), 1] -= rise
    landmarks[list(LOWER_LIP_INNER), 1] += rise
    moves = np.zeros_like(landmarks)
    moves[list(LOWER_LIP_INNER[1:-1]), 1] = 9
    moves[list(CHIN), 1] = 9
    image = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    upper, lower = landmarks[list(UPPER_LIP_INNER), :2], landmarks[list(LOWER_LIP_INNER), :2]
    cv2.fillPoly(image, [np.round(np.concatenate([upper, lower[::-1]])).astype(np.int32)], (inside,) * 3)
    middle = ((upper + lower) / 2)[2:-2]
    cv2.polylines(image, [np.round(middle).astype(np.int32)], False, (gap,) * 3, 4 if gap < 100 else 1)
    seen = teeth_meet(image, landmarks)
    assert seen == pytest.approx(meet, abs=0.05)
    drawn = warp(image, landmarks, hold_lips(landmarks[None], moves[None], np.array([seen]), np.zeros(1))[0])
    x, y = landmarks[[13, 14], :2].mean(0).astype(int)
    before, after = (a[y - 20 : y + 30, x].mean(-1) for a in (image, drawn))
    assert (after.min() < 50) == dark
    opened = [np.ptp(np.flatnonzero(np.abs(column - 150) > 20)) for column in (before, after)]  # unlike the lips
    further = TEETH_PART * opened[0] if meet else 9
    assert opened[1] - opened[0] == pytest.approx(further, abs=2)


def test_teeth_keep_their_size_and_place_in_a_mouth_that_becomes_narrow():
    """The corners cover teeth, a jaw that drops leaves a dark gap: no tooth is squeezed, stretched or doubled."""
    landmarks = head(scale=200.0).astype(np.float64)
    landmarks[:, 1] -= 60
    bow = 16 * np.sin(np.linspace(0, np.pi, 11))
    landmarks[list(UPPER_LIP_INNER), 1] -= bow / 2
    landmarks[list(LOWER_LIP_INNER), 1] += bow
    image = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    inner = np.concatenate([landmarks[list(UPPER_LIP_INNER), :2], landmarks[list(LOWER_LIP_INNER), :2][::-1]])
    mask = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [np.round(inner).astype(np.int32)], 1)
    teeth = 235 - 60 * (np.arange(WIDTH) % 10 < 2)
    image[mask > 0] = np.broadcast_to(teeth[None, :, None], image.shape)[mask > 0]
    moves = np.zeros_like(landmarks)
    lips = list(UPPER_LIP_INNER + LOWER_LIP_INNER + UPPER_LIP_OUTER + LOWER_LIP_OUTER)
    centre, half = landmarks[13, 0], np.ptp(inner[:, 0]) / 2
    moves[lips, 0] = -22 * (landmarks[lips, 0] - centre) / half
    moves[list(LOWER_LIP_INNER[1:-1]), 1] = moves[list(CHIN), 1] = 24
    drawn = warp(image, landmarks, moves).mean(-1)
    shown = slice(round(centre - 0.8 * (half - 22)), round(centre + 0.8 * (half - 22)))
    assert drawn[round(landmarks[14, 1] - 15), shown] == pytest.approx(teeth[shown], abs=12)
    assert drawn[round(landmarks[14, 1] + 15), round(centre) - 10 : round(centre) + 10].max() < 80


def test_a_little_room_between_teeth_is_shade_and_much_is_dark():
    """A dark wedge at the end of a row, where the frame shows no darkness, is the first that people see."""
    landmarks = head(scale=200.0).astype(np.float64)
    landmarks[:, 1] -= 60
    bow = 16 * np.sin(np.linspace(0, np.pi, 11))
    landmarks[list(UPPER_LIP_INNER), 1] -= bow / 2
    landmarks[list(LOWER_LIP_INNER), 1] += bow
    image = np.full((HEIGHT, WIDTH, 3), (200, 110, 110), np.uint8)
    upper, lower = landmarks[list(UPPER_LIP_INNER), :2], landmarks[list(LOWER_LIP_INNER), :2]
    cv2.fillPoly(image, [np.round(np.concatenate([upper, lower[::-1]])).astype(np.int32)], (235, 230, 225))
    seam = np.round(((upper + lower) / 2)[1:-1]).astype(np.int32)
    cv2.polylines(image, [seam], False, (190, 185, 180), 2)
    darkest = []
    for further in (8, 20):
        moves = np.zeros_like(landmarks)
        moves[list(LOWER_LIP_INNER[1:-1]), 1] = moves[list(CHIN), 1] = further
        drawn = warp(image, landmarks, moves).mean(-1)
        rows = slice(round(landmarks[13, 1]), round(landmarks[14, 1] + further))
        darkest.append(drawn[rows, round(landmarks[14, 0])].min())
    assert darkest[1] < 45 < 60 < darkest[0] < 100


@pytest.mark.parametrize(("bow", "seen", "goes_on"), [(90, 0.5, True), (90, 1.0, False), (12, 0.5, False)])
def test_a_lip_that_was_tracked_through_is_no_edge_of_the_mouth(bow, seen, goes_on):
    """A mouth open by `bow` pixels, whose lower lip is seen after the share `seen` of the way to where it was tracked."""
    landmarks = head(scale=200.0).astype(np.float64)
    landmarks[:, 1] -= 90
    landmarks[list(LOWER_LIP_INNER), 1] += bow * np.sin(np.linspace(0, np.pi, 11))
    upper, lower = landmarks[list(UPPER_LIP_INNER), :2], landmarks[list(LOWER_LIP_INNER), :2]
    image = np.full((HEIGHT, WIDTH, 3), (210, 120, 120), np.uint8)
    inner = np.concatenate([upper, (upper + seen * (lower - upper))[::-1]])
    cv2.fillPoly(image, [np.round(inner).astype(np.int32)], (235, 230, 225))
    mouth = openings.Opening([(upper, upper), (lower, lower + np.array([0, 20]))], (0, 0, WIDTH, HEIGHT))
    gap_before = mouth.gap - (mouth.lower_shift - mouth.upper_shift).imag
    assert (openings._lip_goes_on(image, mouth, gap_before) > 0.9) == goes_on


def test_teeth_go_with_a_mouth_that_rises_as_a_whole():
    """A raised upper lip does not lose its teeth, and they do not come out again above the lower lip."""
    landmarks = head(scale=200.0).astype(np.float64)
    landmarks[:, 1] -= 60
    rise = 14 * np.sin(np.linspace(0, np.pi, 11))
    landmarks[list(UPPER_LIP_INNER), 1] -= rise / 2
    landmarks[list(LOWER_LIP_INNER), 1] += rise / 2
    image = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    upper, lower = landmarks[list(UPPER_LIP_INNER), :2], landmarks[list(LOWER_LIP_INNER), :2]
    cv2.fillPoly(image, [np.round(np.concatenate([upper, lower[::-1]])).astype(np.int32)], (30,) * 3)
    cv2.fillPoly(image, [np.round(np.concatenate([upper, (upper + lower)[::-1] / 2])).astype(np.int32)], (240,) * 3)
    moves = np.zeros_like(landmarks)
    moves[list(UPPER_LIP_INNER), 1], moves[list(LOWER_LIP_INNER), 1] = -10, -8
    drawn = warp(image, landmarks, moves)
    x, top, bottom = int(landmarks[13, 0]), landmarks[13, 1] - 10, landmarks[14, 1] - 8
    column = drawn[:, x].mean(-1)
    height = bottom - top
    assert height > 14
    assert column[round(top + 0.15 * height) : round(top + 0.35 * height)].min() > 200
    assert column[round(top + 0.7 * height) : round(top + 0.9 * height)].max() < 100


def test_pressed_lips_keep_their_red_unless_they_are_rolled_in():
    landmarks = head(scale=200.0).astype(np.float64)

    def heights(**change: float) -> list[float]:
        moved = landmarks + (landmark_motion(landmarks[None], delta(**change))[0] if change else 0)
        return [
            float(np.abs(moved[list(outer[3:-3]), 1] - moved[list(inner[3:-3]), 1]).mean())
            for outer, inner in (
                (UPPER_LIP_OUTER, UPPER_LIP_INNER),
                (LOWER_LIP_OUTER, LOWER_LIP_INNER),
            )
        ]

    before = heights()
    pressed = heights(mouthPressLeft=0.8, mouthPressRight=0.8, mouthDimpleLeft=0.6, mouthShrugLower=0.3)
    assert all(after > 0.5 * whole for after, whole in zip(pressed, before, strict=True))
    rolled = heights(mouthRollUpper=0.9, mouthRollLower=0.9, mouthPressLeft=0.8, mouthPressRight=0.8)
    assert all(after < 0.5 * whole for after, whole in zip(rolled, before, strict=True))


def test_a_line_between_lips_that_are_squeezed_together_is_less_of_a_saw(shared, monkeypatch):
    path = shared / "data/clips/lp_s20.mp4"
    geometry, source = track_clip(path)
    edited = source.copy()
    edited.coefficients = source.coefficients + delta(mouthPressLeft=0.4, mouthDimpleLeft=0.6, mouthSmileLeft=0.3)
    renderer = WarpRenderer(geometry, source, edited)
    image = next(iter(VideoReader(path))).image
    line = renderer.target(0)[list(UPPER_LIP_INNER), :2]
    x = np.arange(line[1, 0], line[-2, 0])
    y = np.interp(x, line[:, 0], line[:, 1]) + np.arange(-4, 4.5, 0.5)[:, None]
    jags = []
    for rows in (renderer_module.SQUEEZED, 99.0):
        monkeypatch.setattr(renderer_module, "SQUEEZED", rows)
        gray = renderer.render(image, 0).astype(np.float32).mean(-1)
        along = cv2.remap(gray, np.tile(x, (len(y), 1)).astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
        jags.append(float(np.abs(np.diff(along.min(0), 2)).mean()))
    assert jags[0] < 0.85 * jags[1]


def test_a_jaw_that_is_shut_opens_only_when_it_is_clearly_asked_to():
    geometry, source, edited = clip(head(), jawOpen=0.1, mouthLowerDown=0.5)
    geometry.teeth = np.array([0, 1, 0, 0], np.float32)
    opened = np.concatenate([lip_opening(WarpRenderer(geometry, source, edited).target(k)[None]) for k in (0, 1)])
    before = lip_opening(geometry.landmarks[:1])[0]
    assert opened[1] == pytest.approx((1 + TEETH_PART) * before, abs=0.01) and opened[0] > opened[1] + 0.01
    edited.coefficients[:, arkit.INDEX["jawOpen"]] = 0.4
    opened = np.concatenate([lip_opening(WarpRenderer(geometry, source, edited).target(k)[None]) for k in (0, 1)])
    assert opened[1] == pytest.approx(opened[0]) and opened[1] > before + 0.1


def test_eyeballs_stay_while_the_lids_move(picture):
    landmarks = head(scale=120)
    out = WarpRenderer(*clip(landmarks, eyeSquint=0.2, browDown=0.4)).render(picture, 0)
    for centre in (468, 473):
        x, y = np.round(landmarks[centre, :2]).astype(int)
        assert np.abs(out[y, x].astype(int) - picture[y, x]).max() <= 3
        brow = out[y - 25 : y - 8, x - 10 : x + 10].astype(int) - picture[y - 25 : y - 8, x - 10 : x + 10]
        assert np.abs(brow).max() > 10


def test_a_turned_away_half_is_held():
    turned = facing_weights(head(yaw=0.9)[None].astype(float))[0][[33, 263]]  # corners of the eyes
    assert turned.min() < 0.5 * turned.max()
    assert facing_weights(head(yaw=1.2)[None].astype(float)).max() < 0.1
    assert facing_weights(head()[None].astype(float))[0][[117, 346, 61, 291, 70, 300]].min() > 0.95


def test_the_edit_is_in_the_picture_of_a_real_clip(shared):
    figures = evaluate_edit(
        [shared / "data/clips/style_vscodehappy_clip1.mp4"],
        ["happy", "surprised"],
        landmarker=shared / "data/models/face_landmarker.task",
        frames=6,
        run=6,
    )
    assert [f.emotion for f in figures] == ["happy", "surprised"]
    for f in figures:
        assert f.realised is not None and f.realised > 0.5
        assert f.same_sign is not None and f.same_sign >= 0.8
        assert f.outside_psnr is not None and f.outside_psnr > 40
        assert f.flicker is not None and f.flicker < 1.5
    assert "happy" in format_figures(figures)


@pytest.mark.parametrize("inside", [(90, 40, 50), (240, 240, 240)], ids=["throat", "teeth"])
def test_a_round_mouth_that_widens_shows_no_skin_in_its_corners(inside):
    landmarks = head(scale=200.0) + landmark_motion(head(scale=200.0)[None], delta(jawOpen=0.7, mouthPucker=0.9))[0]
    landmarks[:, 1] -= 80
    skin = np.array([210, 170, 140])
    picture = np.full((HEIGHT, WIDTH, 3), skin, np.uint8)
    upper, lower = UPPER_LIP_INNER, LOWER_LIP_INNER
    edge = np.concatenate([landmarks[list(upper), :2], landmarks[list(lower), :2][::-1]])
    cv2.fillPoly(picture, [np.round(edge).astype(np.int32)], inside)
    renderer = WarpRenderer(*clip(landmarks.astype(np.float32), mouthSmile=0.9))
    out, target = renderer.render(picture, 0), renderer.target(0)
    area = np.zeros((HEIGHT, WIDTH), np.uint8)
    opening = np.concatenate([target[list(upper), :2], target[list(lower), :2][::-1]])
    cv2.fillPoly(area, [np.round(opening).astype(np.int32)], 255)
    width = np.ptp(opening[:, 0])
    assert width > 1.15 * np.ptp(edge[:, 0])
    within = cv2.erode(area, np.ones((9, 9), np.uint8)) > 0
    assert within.sum() > 200
    assert (np.abs(out[within].astype(int) - skin).max(1) > 40).mean() > 0.99

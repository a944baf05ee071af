"""What lies before the face is put back as it was, and the face behind it still moves."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.face import occlusion
from cmet_engine.face.crop import apply, crop_transform, inverse
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.landmarks import EARS, OVAL
from cmet_engine.face.occlusion import SIDE, Occlusion, left_out
from cmet_engine.face.pose import Pose, denormalise, template
from cmet_engine.render.occluder import completed, occluder
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.track import CoefficientTrack

FRAMES, SIZE = 40, 256


@pytest.fixture(scope="module")
def landmarks() -> np.ndarray:
    pose = Pose(np.array([85.0]), np.eye(3)[None], np.array([[SIZE / 2, -SIZE / 2, 0.0]]))
    return denormalise(template().points[None], pose)[0].astype(np.float32)


@pytest.fixture(scope="module")
def geometry(landmarks: np.ndarray) -> FaceGeometry:
    return FaceGeometry(
        np.repeat(landmarks[None], FRAMES, 0), np.ones(FRAMES, bool), (SIZE, SIZE), Fraction(25), np.arange(FRAMES) / 25,
        np.zeros((FRAMES, 3), np.float32), np.zeros((FRAMES, 4), np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def tracks() -> tuple[CoefficientTrack, CoefficientTrack]:
    source = CoefficientTrack(Fraction(25), np.zeros((FRAMES, arkit.COUNT), np.float32))
    edited = source.copy()
    edited.coefficients[:, arkit.columns(["browDownLeft", "browDownRight", "mouthSmileLeft", "mouthSmileRight"])] = 0.9
    return source, edited


@pytest.fixture(scope="module")
def rims(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture of skin with a black rim before the brows; the rim bool [256, 256]; its matte [128, 128]."""
    noise = np.random.default_rng(0).uniform(90, 230, (SIZE, SIZE, 3))
    picture = cv2.GaussianBlur(noise, (0, 0), 2.5).astype(np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for eye in (159, 386):
        cv2.ellipse(mask, np.round(landmarks[eye, :2]).astype(int).tolist(), (24, 18), 0, 0, 360, (255,), 4)
    picture[mask > 0] = 20
    matte = cv2.warpAffine(cv2.dilate(mask, np.ones((3, 3))), crop_transform(landmarks, SIDE), (SIDE, SIDE))
    return picture, mask > 0, matte.astype(np.float32) / 255


def of_mattes(mattes: list[np.ndarray | None], covered: np.ndarray | None = None) -> Occlusion:
    shares = np.zeros((len(mattes), 5), np.float32) if covered is None else covered
    return Occlusion([b"" if matte is None else occlusion._packed(matte) for matte in mattes], shares)


def test_rims_stay_to_the_pixel_while_the_brows_behind_them_move(geometry, tracks, rims):
    picture, rim, matte = rims
    found = left_out(of_mattes([matte] * FRAMES), geometry)
    bent = WarpRenderer(geometry, *tracks).render(picture, 5)
    kept = WarpRenderer(geometry, *tracks, occlusion=found).render(picture, 5)
    assert np.abs(bent[rim].astype(int) - picture[rim]).mean() > 20
    assert np.array_equal(kept[rim], picture[rim])
    near = cv2.dilate(rim.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool) & ~cv2.dilate(
        rim.astype(np.uint8), np.ones((9, 9), np.uint8)
    ).astype(bool)
    assert kept[near].min() > 60, "the rim is not seen a second time, moved with the skin"
    assert np.array_equal(kept[170:], bent[170:]), "elsewhere the edit is the same"


def test_a_rim_that_is_hardly_sure_is_not_lost_where_nothing_moves_behind_it(geometry, tracks, rims):
    _, rim, matte = rims
    picture = np.where(rim[..., None], 20, np.full((SIZE, SIZE, 3), 170)).astype(np.uint8)
    found = left_out(of_mattes([0.25 * matte] * FRAMES), geometry)  # taken off, and hardly put back
    kept = WarpRenderer(geometry, *tracks, occlusion=found).render(picture, 5)
    assert np.abs(kept[rim].astype(int) - picture[rim]).mean() < 15


def test_nothing_before_the_face_changes_nothing(geometry, tracks, rims):
    nothing = left_out(of_mattes([None] * FRAMES), geometry)
    pictures = [WarpRenderer(geometry, *tracks, occlusion=which).render(rims[0], 3) for which in (None, nothing)]
    assert np.array_equal(*pictures)


def test_deep_pictures_get_the_occluder_back_in_their_own_precision(geometry, tracks, rims):
    picture, rim, matte = rims
    deep = picture.astype(np.float32) + 0.25
    renderer = WarpRenderer(geometry, *tracks, occlusion=left_out(of_mattes([matte] * FRAMES), geometry))
    left, top, right, bottom = renderer.region(0)
    part = renderer.render_part(deep[top:bottom, left:right], 0, (left, top))
    assert part.dtype == np.float32
    assert np.allclose(part[rim[top:bottom, left:right]], deep[top:bottom, left:right][rim[top:bottom, left:right]])


def test_the_edit_under_a_hand_over_the_mouth_is_left_out_and_faded(geometry, tracks, landmarks):
    covered = np.zeros((FRAMES, 5), np.float32)
    covered[18:22, occlusion.MOUTH] = 1
    found = left_out(of_mattes([None] * 18 + [np.ones((SIDE, SIDE), np.float32)] * 4 + [None] * 18, covered), geometry)
    renderer = WarpRenderer(geometry, *tracks, occlusion=found)
    corner = [abs(renderer.target(k)[61, :2] - landmarks[61, :2]).max() for k in (5, 16, 20, 39)]
    assert corner[0] > 2 * corner[1] > 2 * corner[2]
    assert corner[2] < 0.8
    assert corner[3] == pytest.approx(corner[0])
    brow = [abs(renderer.target(k)[105, 1] - landmarks[105, 1]) for k in (5, 20)]
    assert brow[1] == pytest.approx(brow[0], rel=0.1), "the brows, which nothing covers, are edited on"
    assert [m for m in renderer.messages if "covers the mouth at 0.72 to 0.84 s" in m]


@pytest.mark.parametrize(("eyes", "left"), [((1,), True), ((1, 2), False), ((1, 2, 3, 4), True)])
def test_eyes_and_brows_are_left_out_under_a_hand_and_brows_go_on_above_dark_glasses(geometry, eyes, left):
    covered = np.zeros((FRAMES, 5), np.float32)
    covered[:, eyes] = 1
    found = left_out(of_mattes([np.ones((SIDE, SIDE), np.float32)] * FRAMES, covered), geometry)
    assert (found.upper == float(left)).all()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ((0, 1, 2, 3, 4), "The face is covered"),
        ((1, 2), "The eyes are hidden"),
        ((1, 2, 3, 4), "covers eyes and brows"),
        ((2, 4), "covers an eye"),
    ],
)
def test_what_is_covered_is_said_in_one_line(geometry, parts, words):
    covered = np.zeros((FRAMES, 5), np.float32)
    covered[:, parts] = 1
    [message] = of_mattes([np.ones((SIDE, SIDE), np.float32)] * FRAMES, covered).messages(geometry)
    assert words in message


def test_skin_under_an_occluder_is_completed_from_around_it():
    ramp = np.repeat(np.linspace(40, 200, 90, dtype=np.float32)[None, :, None], 60, 0).repeat(3, 2)
    known = np.ones((60, 90), np.float32)
    known[:, 40:46] = 0
    spoiled = np.where(known[..., None] > 0, ramp, 0)
    assert np.abs(completed(spoiled, known) - ramp).max() < 6
    assert np.array_equal(completed(spoiled, known)[known > 0], ramp[known > 0])


def test_skin_is_completed_from_skin_and_what_lies_beside_the_face_stays(landmarks):
    """What is seen through a lens beside the cheek does not run into the cheek, and the rim out there is not taken off."""
    outline = np.round(landmarks[list(OVAL), :2]).astype(np.int32)
    skin = cv2.fillPoly(np.zeros((SIZE, SIZE), np.uint8), [outline], 1)
    picture = np.where(skin[..., None] > 0, np.uint8([170, 120, 110]), np.uint8([20, 40, 220]))
    middle, edge = landmarks[[*EARS], :2].mean(0), landmarks[EARS[0], :2]
    mask = np.zeros((SIZE, SIZE), np.uint8)
    ends = [np.round(middle + share * (edge - middle)).astype(int).tolist() for share in (0.4, 1.25)]
    cv2.line(mask, ends[0], ends[1], 255, 9)
    worn = np.where(mask[..., None] > 0, np.uint8([10, 10, 10]), picture)
    matte = cv2.warpAffine(mask, crop_transform(landmarks, SIDE), (SIDE, SIDE)).astype(np.float32) / 255
    behind = occluder(matte, landmarks, worn.shape).taken_off(worn).astype(int)
    away = cv2.distanceTransform(skin, cv2.DIST_L2, 3)
    assert np.abs(behind - picture)[(mask > 0) & (away > 8)].max() < 6
    assert np.abs(behind - worn)[skin == 0].max() == 0


def test_a_brow_that_is_marked_faintly_beside_a_rim_keeps_its_drawing(landmarks):
    picture = np.full((SIZE, SIZE, 3), 170, np.uint8)
    brow, rim = np.zeros((2, SIZE, SIZE), np.uint8)
    x, y = np.round(landmarks[105, :2]).astype(int).tolist()
    cv2.line(brow, (x - 20, y), (x + 20, y), 1, 21)
    cv2.line(rim, (x - 20, y + 16), (x + 20, y + 16), 1, 3)
    picture[brow > 0], picture[rim > 0] = 60, 20
    faint = 0.25 * cv2.dilate(np.maximum(brow, rim), np.ones((5, 5), np.uint8)).astype(np.float32)
    matte = cv2.warpAffine(np.maximum(faint, rim), crop_transform(landmarks, SIDE), (SIDE, SIDE))
    behind = occluder(matte, landmarks, picture.shape).taken_off(picture)
    assert np.abs(behind.astype(int) - 60)[y - 4 : y + 2, x - 15 : x + 15].max() < 8
    assert behind[y + 16, x - 15 : x + 15].min() > 40, "the rim is taken off"


def test_an_occluder_is_found_again_at_its_place_in_the_frame(landmarks):
    matte = np.zeros((SIDE, SIDE), np.float32)
    matte[60:70, 30:50] = 1
    found = occluder(matte, landmarks, (SIZE, SIZE, 3))
    middle = apply(inverse(crop_transform(landmarks, SIDE)), np.array([39.5, 64.5]))
    left, top, right, bottom = found.box
    assert abs((left + right) / 2 - middle[0]) < 3
    assert abs((top + bottom) / 2 - middle[1]) < 3
    assert occluder(matte, landmarks + np.float32([2000, 0, 0]), (SIZE, SIZE, 3)) is None

"""One person, as the tracker says of itself: who leaves, is passed or cut away is the same person afterwards, or nobody."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from soak_cases import soak
from two_people import SIZE, heads, side_by_side, write

from cmet_engine.errors import CmetError
from cmet_engine.face import people, tracker
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.person import MIDDLE, OTHER, SAME, SURELY_OTHER, covered_or_another, verdict
from cmet_engine.quality.summary import tracking_messages

COUNT = 12

Heads = tuple[list[np.ndarray], list[np.ndarray]]


@pytest.fixture(scope="module")
def both() -> Heads:
    return heads(COUNT)


@pytest.fixture(scope="module")
def leaving(tmp_path_factory: pytest.TempPathFactory, both: Heads) -> Path:
    """The first person, on the left, is away in frames 12 to 23; the other one stays."""
    one, other = both
    here = [side_by_side(a, b) for a, b in zip(one, other, strict=True)]
    away = [side_by_side(None, b) for b in other]
    return write(tmp_path_factory.mktemp("leaving") / "leaving.mp4", [*here, *away, *here])


@pytest.fixture(scope="module")
def tracked(leaving: Path) -> list[FaceGeometry]:
    """Each of the two, tracked in segments of half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracker, "SEGMENT", 12)
        return [tracker.track(leaving, face=rank) for rank in (0, 1)]


def _on_the_left(geometry: FaceGeometry) -> np.ndarray:
    return geometry.landmarks[:].mean(1)[:, 0] < 320


def test_somebody_else_is_not_taken_for_who_has_left(tracked):
    geometry = next(one for one in tracked if _on_the_left(one)[0])
    assert geometry.valid[:COUNT].all() and not geometry.valid[COUNT : 2 * COUNT].any()
    assert geometry.valid[2 * COUNT + 3 :].all()
    assert _on_the_left(geometry)[geometry.valid].all()
    assert geometry.strangers[~geometry.valid].any() and not geometry.strangers[geometry.valid].any()
    messages = " ".join(tracking_messages(geometry))
    assert "0.48 to 0.9" in messages and "somebody else is seen" in messages


def test_it_goes_on_alike_after_an_interruption(tmp_path, monkeypatch, leaving, tracked):
    class Killed(BaseException):
        pass

    def kill(stage: str, done: int, total: int | None) -> None:
        if done == 30:
            raise Killed

    monkeypatch.setattr(tracker, "SEGMENT", 12)
    with pytest.raises(Killed):
        tracker.track(leaving, face=1, pieces=tmp_path, progress=kill)
    again = tracker.track(leaving, face=1, pieces=tmp_path)
    for name in ("landmarks", "valid", "strangers"):
        np.testing.assert_array_equal(np.asarray(getattr(again, name)), np.asarray(getattr(tracked[1], name)))


def test_a_shot_of_somebody_else_alone_is_left_alone(tmp_path, both):
    one, other = both
    light = [cv2.convertScaleAbs(np.pad(p, ((30, 34), (200, 184), (0, 0)), constant_values=230)) for p in other]
    mine = [side_by_side(a, None) for a in one]
    geometry = tracker.track(write(tmp_path / "cut.mp4", [*mine, *light, *mine]))
    assert geometry.cuts == [COUNT, 2 * COUNT]
    assert geometry.valid[:COUNT].all() and geometry.valid[2 * COUNT :].all()
    assert not geometry.valid[COUNT : 2 * COUNT].any() and geometry.strangers[COUNT : 2 * COUNT].any()


def test_who_passes_in_front_is_not_followed(tmp_path, both):
    pictures = []
    steps = 2 * COUNT
    for i in range(steps):
        one, other = both[0][i % COUNT], both[1][i % COUNT]
        canvas = np.full((320, 800, 3), 96, np.uint8)
        canvas[40 : 40 + SIZE, 270 : 270 + SIZE] = one
        x = round((800 - SIZE) * i / (steps - 1))  # from left to right, over the one who stays
        canvas[40 : 40 + SIZE, x : x + SIZE] = other
        pictures.append(canvas)
    geometry = tracker.track(write(tmp_path / "passing.mp4", pictures), person=_signatures(both[0][0], tmp_path))
    x = geometry.landmarks[:].mean(1)[:, 0]
    assert geometry.valid.sum() >= 6
    assert (np.abs(x[geometry.valid] - 398) < 60).all()  # in the middle, wherever the other one is


def _signatures(picture: np.ndarray, folder: Path) -> np.ndarray:
    cv2.imwrite(str(folder / "one.png"), picture[:, :, ::-1])
    return people.picture_signature(folder / "one.png")[None]


def test_everyone_is_listed_and_chosen_by_number_name_or_picture(tmp_path, both, leaving):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(leaving.read_bytes())
    found = people.find_people(clip)
    assert [person.number for person in found] == [1, 2]
    assert sorted(person.share for person in found)[1] == 1  # the one who stays
    left = next(person for person in found if person.share < 1)
    assert 0.55 < left.share < 0.8 and left.first == 0 and left.last > 1.2

    people.give_names(clip, {"anna": left.number})
    assert [person.name for person in people.find_people(clip)][left.number - 1] == "anna"
    people.give_names(clip, {"berta": left.number})  # a person has one name
    assert people.names(clip) == {"berta": left.number}
    files = people.write_people(people.find_people(clip), tmp_path / "faces")
    assert {f"{left.number}_berta.png", "sheet.png"} <= set(files) and all(path.exists() for path in files.values())
    with pytest.raises(CmetError, match="shows 2 people; there is no #3"):
        people.give_names(clip, {"carl": 3})

    cv2.imwrite(str(tmp_path / "one.png"), both[0][3][:, :, ::-1])
    by_number, by_name, by_picture = (
        track_clip(clip, face=face)[0] for face in (f"#{left.number}", "#berta", tmp_path / "one.png")
    )
    for geometry in (by_number, by_name, by_picture):
        assert _on_the_left(geometry)[geometry.valid].all() and not geometry.valid[COUNT : 2 * COUNT].any()
    with pytest.raises(CmetError, match="is called 'carl'"):
        track_clip(clip, face="#carl")
    with pytest.raises(CmetError, match="no face"):
        cv2.imwrite(str(tmp_path / "grey.png"), np.full((200, 200, 3), 128, np.uint8))
        track_clip(clip, face=tmp_path / "grey.png")


def test_the_picture_of_a_person_is_one_in_which_nothing_covers_the_face(tmp_path, both):
    """A hand before the mouth in sharp pictures, the whole face in softer ones."""
    covered = [picture.copy() for picture in both[0]]
    for picture in covered:
        cv2.ellipse(picture, (SIZE // 2, SIZE * 5 // 8), (SIZE // 4, SIZE // 6), 20, 0, 360, (150, 105, 85), -1)
        cv2.line(picture, (SIZE // 3, SIZE * 5 // 8), (SIZE * 2 // 3, SIZE * 9 // 16), (90, 60, 50), 2)
    free = [cv2.GaussianBlur(picture, None, 0.8) for picture in both[0]]
    pictures = [side_by_side(picture, None) for picture in [*covered[:12], *free, *free[:6]]]
    (found,) = people.find_people(write(tmp_path / "clip.mp4", pictures))
    mouth = found.picture[140:180, 100:156].astype(float)
    assert mouth.std() > 15  # lips and teeth, not the even hand


@pytest.fixture(scope="module")
def upright(tmp_path_factory: pytest.TempPathFactory, both: Heads) -> FaceGeometry:
    return tracker.track(write(tmp_path_factory.mktemp("upright") / "upright.mp4", both[0][:6]))


@pytest.mark.parametrize(("turns", "roll"), [(2, 180), (1, 90), *soak((3, -90))])
def test_heads_upside_down_and_lying_are_tracked(tmp_path, both, upright, turns, roll):
    pictures = [np.ascontiguousarray(np.rot90(p, turns)) for p in both[0][:6]]
    geometry = tracker.track(write(tmp_path / "turned.mp4", pictures))
    assert geometry.valid.all()
    away = (geometry.head_rotation[:, 2] - upright.head_rotation[:, 2] - roll + 180) % 360 - 180
    assert np.abs(away).max() < 5
    assert ("upside down" if turns == 2 else "lying") in " ".join(tracking_messages(geometry))


def test_one_frame_says_little_and_several_decide():
    assert verdict([]) is None
    assert verdict([SAME - 0.1]) is True
    assert verdict([SURELY_OTHER + 0.1]) is False
    assert verdict([OTHER + 0.02] * 2) is None and verdict([OTHER + 0.02] * 3) is False
    assert verdict([MIDDLE + 0.01] * 2) is None and verdict([MIDDLE + 0.01] * 2, settled=True) is False


def test_a_face_that_changes_while_it_is_followed_is_covered_unless_others_are_there():
    unlike = [SURELY_OTHER + 0.05] * 8
    assert covered_or_another(unlike, others=False) is None and covered_or_another(unlike, others=True) is False
    assert covered_or_another(unlike[:2], others=True) is None
    assert covered_or_another(unlike, others=False, settled=True) is True
    assert covered_or_another([0.95] * 12, others=False) is False


def test_a_hand_before_the_face_is_nobody_else(tmp_path, both):
    pictures = [picture.copy() for picture in (*both[0], *both[0], *both[0])]
    for picture in pictures[COUNT : 2 * COUNT]:
        cv2.ellipse(picture, (128, 165), (34, 22), 0, 0, 360, (205, 160, 140), -1)
    geometry = tracker.track(write(tmp_path / "hand.mp4", pictures))
    assert geometry.valid.all() and not geometry.strangers.any()


def test_the_cases_with_two_real_people(shared):
    folder = shared / "data" / "cases" / "media" / "05-edit-moves-to-another-person"
    if not folder.is_dir():
        pytest.skip("the cases of this fault are not on this machine")
    left = tracker.track(folder / "leave.mp4")
    assert left.valid[:30].all() and not left.valid[35:65].any() and left.valid[70:].all()
    crossed = tracker.track(folder / "crossbehind.mp4", face=1)
    assert crossed.valid[:20].all() and not crossed.valid[28:48].any() and crossed.valid[60:].all()
    cut = tracker.track(folder / "cutother.mp4")
    assert cut.valid[:30].all() and not cut.valid[31:60].any() and cut.valid[61:].all()

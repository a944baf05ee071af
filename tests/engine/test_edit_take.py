"""Takes, curves without footage, are edited like clips."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cmet_engine import arkit
from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.errors import InvalidInput
from cmet_engine.jobs.execute import execute
from cmet_engine.spec import EditSpec
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory) -> Path:
    times = np.arange(90) / 30
    coefficients = np.zeros((90, arkit.COUNT), np.float32)
    coefficients[:, arkit.INDEX["jawOpen"]] = 0.2 + 0.2 * np.sin(9 * times)
    track = CoefficientTrack(Fraction(30), coefficients, head_rotation=np.stack([5 * np.sin(times)] * 3, 1))
    return track.save(tmp_path_factory.mktemp("takes") / "take.csv")


def test_a_take_is_edited_like_the_track_of_a_clip(take: Path, tmp_path: Path) -> None:
    spec = EditSpec(clip=take, emotions=("happy=0.8@1-2.5",))
    result = execute(spec, tmp_path / "out")
    assert set(result.files) == {"source.npz", "edited.npz", "edited.csv", "report.html", "report.json"}
    source, edited = CoefficientTrack.load(take), CoefficientTrack.load(result.files["edited.npz"])
    wanted = edit_track(source, EmotionTimeline.parse(["happy=0.8@1-2.5"]), load_library())
    np.testing.assert_allclose(edited.coefficients, wanted.coefficients, atol=1e-6)
    np.testing.assert_array_equal(edited.head_rotation, source.head_rotation)
    smile = edited["mouthSmileLeft"] - source["mouthSmileLeft"]
    assert smile[45:60].mean() > 0.15 and np.abs(smile[:20]).max() < 0.02
    again = CoefficientTrack.load(result.files["edited.csv"])
    np.testing.assert_allclose(again.coefficients, edited.coefficients, atol=1e-5)


def test_corrections_hold_in_the_result_with_and_without_an_emotion(take: Path, tmp_path: Path) -> None:
    for emotions in ((), ("happy",)):
        spec = EditSpec(clip=take, emotions=emotions, corrections=("jawOpen=0.9@1.5",))
        result = execute(spec, tmp_path / f"out{len(emotions)}")
        assert CoefficientTrack.load(result.files["edited.npz"])["jawOpen"][45] == pytest.approx(0.9, abs=1e-5)


def test_the_rest_of_a_take_is_taken_off_by_a_range_of_frames(tmp_path: Path) -> None:
    track = CoefficientTrack(Fraction(30), np.zeros((90, arkit.COUNT), np.float32), np.full((90, 3), -12.0))
    track.coefficients[:, arkit.INDEX["eyeSquintLeft"]] = 0.36  # the tracker's
    track.coefficients[20:41, arkit.INDEX["browInnerUp"]] = 0.2
    take = track.save(tmp_path / "biased.npz")
    spec = EditSpec.read({"clip": str(take), "emotions": ["happy"], "rest_frame": "20-40"})
    source = CoefficientTrack.load(execute(spec, tmp_path / "out").files["source.npz"])
    assert np.abs(source.coefficients).max() < 1e-6 and np.abs(source.head_rotation).max() < 1e-6
    for asked, says in (
        ("20-95", "behind the last one, 89"),
        ("40-20", "the last frame comes before the first"),
        ("a", "rest_frame"),
    ):
        with pytest.raises(InvalidInput, match=says):
            execute(EditSpec.read({"clip": str(take), "emotions": ["happy"], "rest_frame": asked}), tmp_path / "no")
    with pytest.raises(InvalidInput, match="footage keeps its own"):
        EditSpec.read({"clip": "take.mp4", "emotions": ["happy"], "calibrate": True})


def test_nothing_of_the_users_is_replaced(take: Path, tmp_path: Path) -> None:
    execute(EditSpec(clip=take, emotions=("sad",)), tmp_path / "out")
    before = take.read_bytes()
    with pytest.raises(InvalidInput, match="holds files already"):
        execute(EditSpec(clip=take, emotions=("sad",)), tmp_path / "out")
    with pytest.raises(InvalidInput):
        execute(EditSpec(clip=tmp_path / "out" / "edited.npz", emotions=("sad",)), tmp_path / "out", force=True)
    assert take.read_bytes() == before


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"renderer": "warp"}, "about footage"),
        ({"range_from": "1"}, "about footage"),
        ({"matte": "matte.mp4"}, "about footage"),
    ],
)
def test_what_only_footage_has_is_refused(take: Path, fields: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        EditSpec.read({"clip": str(take), "emotions": ["happy"], **fields})


def test_a_take_has_one_face(take: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="one face"):
        execute(EditSpec(clip=take, emotions=("happy#anna",)), tmp_path / "out")
    assert not (tmp_path / "out").exists()

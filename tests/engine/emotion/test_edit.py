"""The edit keeps speech, blinks, gaze and range, whatever emotion is asked for."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmet_engine import arkit
from cmet_engine.emotion import edit, facs, protection
from cmet_engine.emotion.library import load_library
from cmet_engine.emotions import LIBRARY
from cmet_engine.errors import CmetError
from cmet_engine.face.lips import said_opening
from cmet_engine.timeline import REGIONS, EmotionTimeline
from cmet_engine.track import CoefficientTrack


@pytest.fixture(scope="module")
def library():
    return load_library()


def talking(frames: int = 150, seed: int = 0) -> CoefficientTrack:
    """A talking face: syllables with closed lips between them, blinks, a little smile that comes and goes."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / 30
    values = np.zeros((frames, arkit.COUNT))
    syllable = np.clip(np.sin(2 * np.pi * 3 * t) + 0.4 * np.sin(2 * np.pi * 1.1 * t), 0, None)
    values[:, arkit.INDEX["jawOpen"]] = 0.35 * syllable
    for side in ("Left", "Right"):
        values[:, arkit.INDEX["mouthLowerDown" + side]] = 0.3 * syllable
        values[:, arkit.INDEX["eyeSquint" + side]] = 0.3
        values[:, arkit.INDEX["mouthSmile" + side]] = 0.2 + 0.1 * np.sin(2 * np.pi * 0.3 * t)
        values[40:45, arkit.INDEX["eyeBlink" + side]] = (0.4, 0.9, 1.0, 0.8, 0.3)
        values[:, arkit.INDEX["eyeLookIn" + side]] = 0.2 + 0.05 * rng.normal(size=frames)
    values[:, arkit.INDEX["mouthPressLeft"]] = 0.2 * (syllable == 0)
    return CoefficientTrack(30, np.clip(values, 0, 1))


def edited(library, text: str, track: CoefficientTrack | None = None, **options) -> CoefficientTrack:
    if track is None and not options:
        return edited_talk(text).copy()
    return edit.edit_track(track or talking(), EmotionTimeline.parse([text]), library, **options)


@functools.cache
def edited_talk(text: str) -> CoefficientTrack:
    return edit.edit_track(talking(), EmotionTimeline.parse([text]), load_library())


@pytest.mark.parametrize("emotion", LIBRARY)
def test_what_is_said_stays_said(library, emotion):
    source = talking()
    result = edited(library, emotion)
    before, after = protection.lip_gap(source.coefficients), protection.lip_gap(result.coefficients)
    limit = 0.85 if emotion == "surprised" else 0.95
    assert np.corrcoef(before, after)[0, 1] >= limit
    closed = before < protection.LIPS_CLOSED
    assert closed.sum() > 20
    assert (after[closed] < protection.LIPS_CLOSED + 0.01).mean() >= 0.95


@pytest.mark.parametrize("emotion", LIBRARY)
def test_every_emotion_changes_the_face_and_leaves_gaze_and_pose(library, emotion):
    source = talking()
    result = edited(library, emotion)
    change = result.coefficients - source.coefficients
    assert np.abs(change).mean(0).max() > 0.2
    assert not change[:, arkit.columns(arkit.GAZE)].any()
    np.testing.assert_array_equal(result.head_rotation, source.head_rotation)
    assert result.coefficients.min() >= 0 and result.coefficients.max() <= 1
    upper = arkit.columns(arkit.REGIONS["brows"] + arkit.REGIONS["cheeks"] + arkit.REGIONS["nose"])
    acceleration = np.abs(np.diff(change, 2, axis=0))
    assert acceleration[:, upper].max() < 0.012  # an edit that jitters would show here
    assert acceleration.mean(0).max() < 0.05  # the mouth may follow syllables


def test_an_emotion_closes_what_is_held_open_and_leaves_what_speech_opens():
    """Syllables at 3 a second, alone and over a smile that bares the teeth; the emotion takes openers away, or adds them."""
    frames = np.arange(150)
    spoken = np.maximum(np.sin(2 * np.pi * 3 * frames / 25), 0)
    alone, smiling = np.zeros((2, 150, arkit.COUNT))
    alone[:, arkit.INDEX["jawOpen"]] = 0.4 * spoken
    smiling[:, arkit.INDEX["jawOpen"]] = 0.45 + 0.4 * spoken
    less = np.zeros_like(alone)
    less[:, arkit.INDEX["jawOpen"]] = -0.25
    kept, closed = (protection.protect(source, less.copy(), 25.0) for source in (alone, smiling))
    assert np.abs(said_opening(kept)).max() < 0.01
    assert said_opening(closed)[50:100] == pytest.approx(0.352 * -0.25, abs=0.015)
    more = np.zeros_like(alone)
    more[:, arkit.columns(["jawOpen", "mouthLowerDownLeft", "mouthLowerDownRight"])] = 0.3
    further = said_opening(protection.protect(alone, more, 25.0))
    assert (further <= protection.FURTHER_OPEN * said_opening(alone) + 1e-6).all() and further.max() > 0.03


def test_a_blink_still_closes_under_widened_eyes(library):
    result = edited(library, "fear")
    assert result["eyeBlinkLeft"][42] > 0.95
    assert result["eyeWideLeft"][42] < 0.05
    assert result["eyeWideLeft"][100] > 0.12


def test_brows_that_were_up_are_not_pushed_into_the_eyes(library):
    track = talking()
    for name in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"):
        track.coefficients[:, arkit.INDEX[name]] = 0.7
    change = edited(library, "angry=1.5", track).coefficients - track.coefficients
    down = change[:, arkit.INDEX["browDownLeft"]]
    up = (change[:, arkit.INDEX["browInnerUp"]] + change[:, arkit.INDEX["browOuterUpLeft"]]) / 2
    assert (down - up).max() < 1.25  # the renderer holds the brows off the eyes as well
    assert down.mean() > 0.3  # still a scowl


@pytest.mark.parametrize("scowl", [0.0, 0.5])
def test_brows_never_stand_like_a_roof(library, scowl):
    track = talking()
    track.coefficients[:, arkit.columns(["browDownLeft", "browDownRight"])] = scowl
    rises = {}
    for emotion in ("fear", "sad", "empathetic", "fear=1.5"):
        change = edited(library, emotion, track).coefficients - track.coefficients
        rise = change[:, arkit.INDEX["browInnerUp"]]
        outer = change[:, arkit.columns(["browOuterUpLeft", "browOuterUpRight"])].mean(1)
        slant = rise - protection.OUTER_ALONG * outer
        assert slant.max() < protection.MOST_SLANT * (1.5 if emotion[-1] == "5" else 1) + 0.03
        rises[emotion] = rise[100]
    assert rises["fear"] > rises["sad"] > 0.15 and rises["fear=1.5"] > rises["fear"]


def test_nothing_changes_without_an_emotion(library):
    source = talking()
    for text in ("happy=0", "neutral"):
        np.testing.assert_array_equal(edited(library, text, source).coefficients, source.coefficients)


def test_an_emotion_acts_only_in_its_time(library):
    source = talking()
    result = edited(library, "happy@2-3", source)
    change = np.abs(result.coefficients - source.coefficients).sum(1)
    assert not change[:60].any() and not change[91:].any()
    assert change[75] > 0.5


def test_strength_grows_softly_and_negative_is_the_opposite(library):
    smile = [edited(library, f"happy={s}")["mouthSmileLeft"].mean() for s in (0.5, 1, 2, 5)]
    assert smile[0] < smile[1] < smile[2] <= smile[3] <= 1
    reverse = edited(library, "happy=-1")
    assert reverse["mouthSmileLeft"].mean() < 0.05
    assert reverse["mouthFrownLeft"].mean() > 0.1


def test_a_region_has_a_gain_of_its_own(library):
    plain, gained = edited(library, "angry"), edited(library, "angry[brows=0,mouth=0.5]")
    before = talking().coefficients
    brows, cheeks, mouth = (arkit.columns(REGIONS[name]) for name in ("brows", "cheeks", "mouth"))
    np.testing.assert_array_equal(gained.coefficients[:, brows], before[:, brows])
    np.testing.assert_array_equal(gained.coefficients[:, cheeks], plain.coefficients[:, cheeks])
    ratio = np.abs(gained.coefficients - before)[:, mouth].sum() / np.abs(plain.coefficients - before)[:, mouth].sum()
    assert 0.3 < ratio < 0.7


def test_replace_does_not_stack(library):
    source = talking()
    once = edited(library, "happy", source, mode="replace")
    twice = edited(library, "happy", once, mode="replace")
    added = edited(library, "happy", edited(library, "happy", source))
    smile = "mouthSmileLeft"
    assert abs(twice[smile].mean() - once[smile].mean()) < 0.08
    assert added[smile].mean() > once[smile].mean() + 0.05


def test_emphasis_makes_it_stronger_where_the_voice_is(library):
    voice = np.r_[np.zeros(75), np.ones(75)]
    result, plain = edited(library, "angry", emphasis=voice), edited(library, "angry")
    change = result.coefficients.sum(1) - plain.coefficients.sum(1)
    assert change[110:].mean() > change[:40].mean() + 0.1


def _added(result: CoefficientTrack, source: CoefficientTrack) -> np.ndarray:
    return result.coefficients.astype(float) - source.coefficients


def _jumps(values: np.ndarray) -> float:
    return float(np.abs(np.diff(values, 2, axis=0)).mean())


@pytest.mark.parametrize("emotion", ["happy", "angry", "sad"])
def test_the_edit_is_alive_without_jitter(library, emotion):
    source = talking(300)
    voice = 1 + 0.3 * np.sin(2 * np.pi * 0.25 * source.times)
    added = _added(edited(library, emotion, source, emphasis=voice), source)
    size = np.abs(added).sum(1)
    assert size.std() > 0.05 * size.mean(), "the change of a talking face is not one constant"
    assert _jumps(added) < 0.5 * _jumps(source.coefficients), "and moves more calmly than the face itself"
    gain = size / np.abs(_added(edited(library, emotion, source), source)).sum(1)
    assert np.corrcoef(gain, voice)[0, 1] > 0.9 and gain.max() / gain.min() > 1.1, (
        "stronger where the voice stresses it"
    )


@pytest.mark.parametrize("emotion", ["happy", "angry", "sad"])
def test_it_varies_with_the_actor(library, emotion):
    calm, lively = talking(seed=0), talking(seed=1)
    for name in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "mouthSmileLeft", "mouthSmileRight"):
        lively.coefficients[:, arkit.INDEX[name]] = 0.5
    one, other = (_added(edited(library, emotion, track), track).mean(0) for track in (calm, lively))
    assert np.abs(one - other).max() > 0.1
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.3, "it is still the same emotion"


@pytest.mark.slow
def test_on_a_real_clip_the_edit_follows_the_clips_own_voice(shared, tmp_path):
    from cmet_engine import pipeline
    from cmet_engine.emotion.intensity import intensity
    from cmet_engine.emotion.speech import load_encoder
    from cmet_engine.media import audio
    from cmet_engine.spec import EditSpec

    clip = shared / "data/clips/hdtf_radio1.mp4"
    asked = EditSpec(clip=clip, emotions=("happy",), renderer="none")
    files = pipeline.edit_clip(asked, tmp_path / "out").files
    source, result = (CoefficientTrack.load(files[name]) for name in ("source.npz", "edited.npz"))
    added, emotion = _added(result, source), load_library()
    times, stress = intensity(load_encoder().frame_features(audio.load(clip), audio.RATE), emotion["happy"].vector)
    silent = edit.edit_track(source, asked.timeline(), emotion)
    gain = np.abs(added).sum(1) / np.abs(_added(silent, source)).sum(1)
    assert np.corrcoef(gain, np.interp(source.times, times, stress))[0, 1] > 0.8
    assert gain.max() - gain.min() > 0.1
    assert _jumps(result.coefficients) < 1.2 * _jumps(source.coefficients)


def test_an_unknown_emotion_names_the_nearest(library):
    with pytest.raises(CmetError, match="Did you mean 'happy'"):
        edited(library, "hapy")


def test_wrong_mode_and_emphasis_are_named(library):
    with pytest.raises(CmetError, match="mode 'mix'"):
        edited(library, "happy", mode="mix")
    with pytest.raises(CmetError, match="emphasis has 3 values"):
        edited(library, "happy", emphasis=np.zeros(3))


@given(
    emotion=st.sampled_from(LIBRARY),
    other=st.sampled_from(LIBRARY),
    strength=st.floats(-3, 3),
    frames=st.integers(1, 40),
    mode=st.sampled_from(edit.MODES),
    seed=st.integers(0, 1000),
)
def test_any_edit_of_any_face_stays_in_range(library, emotion, other, strength, frames, mode, seed):
    rng = np.random.default_rng(seed)
    track = CoefficientTrack(25, rng.uniform(0, 1, (frames, arkit.COUNT)) ** 3)
    timeline = EmotionTimeline.parse([f"{emotion}={strength}", f"{other}=0.8"])
    result = edit.edit_track(track, timeline, library, mode=mode)
    assert np.isfinite(result.coefficients).all()
    assert result.coefficients.min() >= 0 and result.coefficients.max() <= 1
    assert len(result) == frames


@pytest.mark.parametrize("emotion", LIBRARY)
def test_sampled_expressions_spread_around_their_mean(emotion):
    drawn = facs.sample_expressions(emotion, 400, np.random.default_rng(1))
    assert drawn.shape == (400, arkit.COUNT)
    assert drawn.min() >= 0 and drawn.max() <= 1
    strong = facs.mean_expression(emotion) > 0.25
    assert strong.any()
    assert (drawn.std(0)[strong] > 0.02).all()
    np.testing.assert_allclose(drawn.mean(0)[strong], facs.mean_expression(emotion)[strong], atol=0.12)


def test_contempt_is_one_sided_and_fear_is_not_surprise():
    contempt, fear, surprise = (facs.mean_expression(e) for e in ("contempt", "fear", "surprised"))
    i = arkit.INDEX
    assert contempt[i["mouthSmileLeft"]] > 0.2 > 0.05 > contempt[i["mouthSmileRight"]]
    assert fear[i["mouthStretchLeft"]] > 0.3 > surprise[i["mouthStretchLeft"]]
    assert surprise[i["jawOpen"]] > fear[i["jawOpen"]]

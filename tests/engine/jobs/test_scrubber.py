"""Moments of edits, asked for in any order: each answer is that of the edit that was asked for."""

import base64
import random
from fractions import Fraction
from typing import get_args

import cv2
import numpy as np
import pytest
from short_clips import small

from cmet_engine import arkit
from cmet_engine.choices import View
from cmet_engine.face.clip import track_clip
from cmet_engine.jobs import curves
from cmet_engine.jobs.scrubber import KEPT, Scrubber
from cmet_engine.media import audio, proxy
from cmet_engine.media.source import Source
from cmet_engine.spec import CurvesSpec, LiveSpec
from cmet_engine.track import CoefficientTrack

FRAMES = 8
REQUESTS = 20
EDITS = [
    {"emotions": (name,), "strength": strength}
    for name, strength in (("happy", 0.5), ("happy", 1), ("sad", 1), ("angry", 0.5), ("angry", 1))
]


def pixels(answer: dict) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(answer["picture"]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMET_HOME", str(tmp_path_factory.mktemp("home")))
        path = small(tmp_path_factory.mktemp("clip") / "take.mp4", frames=FRAMES, size=128, silent=True)
        track_clip(path)
        yield path


def test_random_requests_get_the_picture_of_the_edit_that_was_asked_for(clip):
    assert len(EDITS) > KEPT
    draw = random.Random(5)

    def asked(edit: int, frame: int) -> LiveSpec:
        return LiveSpec(clip=clip, time=frame / 25 + 0.01, **EDITS[edit])

    frames = (1, 4, 6)
    fresh = {}
    for edit in range(len(EDITS)):
        anew = Scrubber()
        fresh.update(
            {(edit, frame): {**anew.values(asked(edit, frame)), **anew.picture(asked(edit, frame))} for frame in frames}
        )
    assert len({answer["picture"] for answer in fresh.values()}) == len(fresh), "the edits look alike"
    scrubber = Scrubber()
    for _ in range(REQUESTS):
        edit, frame = draw.randrange(len(EDITS)), draw.choice(frames)
        assert {**scrubber.values(asked(edit, frame)), **scrubber.picture(asked(edit, frame))} == fresh[edit, frame]


def test_without_an_emotion_the_clip_is_as_it_is(clip):
    answer = Scrubber().values(LiveSpec(clip=clip, time=0.1))
    assert answer["source"] == answer["edited"]
    assert np.isfinite(list(answer["source"].values())).all()


def test_a_small_picture_comes_from_the_copies_once_they_are_there(clip):
    scrubber, asked = Scrubber(), LiveSpec(clip=clip, time=0.2, emotions=("happy",), size=128)
    decoded = pixels(scrubber.picture(asked))
    proxy.make(Source.of(clip))
    copied = pixels(Scrubber().picture(asked))
    assert copied.shape == decoded.shape and np.abs(copied.astype(int) - decoded).mean() < 4
    half = pixels(Scrubber().picture(asked.model_copy(update={"size": 64})))
    assert half.shape == (64, 64, 3)


def test_every_view_shows_something_else(clip):
    scrubber, asked = Scrubber(), LiveSpec(clip=clip, time=0.2, emotions=("happy",))
    shown = {view: pixels(scrubber.picture(asked.model_copy(update={"view": view}))) for view in get_args(View)}
    assert np.abs(shown["edited"].astype(int) - shown["source"]).max() > 10
    assert shown["difference"].mean() < 60 < shown["source"].mean()
    assert (shown["matte"][..., 0].astype(int) - shown["edited"][..., 0] > 40).mean() > 0.05
    assert len({picture.tobytes() for picture in shown.values()}) == len(shown)


def test_the_curves_of_an_edit_and_what_is_corrected_by_hand(clip):
    scrubber = Scrubber()
    plain = scrubber.curves(CurvesSpec(clip=clip, emotions=("happy",), most=3))
    assert len(plain["edited"]) == 3 and "mouthSmileLeft" in plain["edited"]
    assert plain["times"] == pytest.approx([n / 25 for n in range(FRAMES)], abs=1e-3)
    assert plain["waveform"] == [] and plain["speech"] == []
    held = scrubber.curves(CurvesSpec(clip=clip, emotions=("happy",), most=3, corrections=("jawOpen=0.9@0.16",)))
    assert held["edited"]["jawOpen"][4] == pytest.approx(0.9, abs=1e-3)
    spec = LiveSpec(clip=clip, time=0.17, emotions=("happy",), corrections=("jawOpen=0.9@0.16",))
    assert scrubber.values(spec)["edited"]["jawOpen"] == pytest.approx(0.9, abs=1e-3)


def test_speech_blinks_and_peaks_are_found_where_they_are():
    wave = np.zeros(2 * audio.RATE, np.float32)
    wave[audio.RATE // 2 : audio.RATE] = np.sin(np.arange(audio.RATE // 2) / 5)
    assert audio.spoken(wave) == [(pytest.approx(0.5, abs=0.05), pytest.approx(1.0, abs=0.05))]
    assert audio.spoken(wave[:100]) == []
    wave[int(0.7 * audio.RATE) : int(0.8 * audio.RATE)] /= 30
    assert curves.word_edges(wave, audio.RATE) == [pytest.approx(0.75, abs=0.02)]
    assert np.flatnonzero(curves.peaks(wave, 8)).tolist() == [2, 3] and curves.peaks(wave[:0], 8) == []
    values = np.zeros((50, 52), np.float32)
    values[20:24, arkit.columns(("eyeBlinkLeft", "eyeBlinkRight"))] = 0.9
    track = CoefficientTrack(Fraction(25), values, np.zeros((50, 3), np.float32), np.zeros((50, 4), np.float32))
    assert curves.blinks(track) == [0.8]

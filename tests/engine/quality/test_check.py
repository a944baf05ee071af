"""The check of a result says what is really in the pictures: nothing, half of it, or all."""

import contextlib
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import cmet_engine
from cmet_engine import arkit
from cmet_engine.face.clip import track_clip
from cmet_engine.media.info import Frame
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.quality.check import ResultCheck
from cmet_engine.quality.outside import psnr_of_video
from cmet_engine.quality.report.data import REALISED_TARGET, SIGN_TARGET
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.track import CoefficientTrack

SAMPLE = Path(cmet_engine.__file__).parent / "assets/sample/talking_head.mp4"
FRAMES = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Part of the sample that ships with the project: path, geometry, source track and frames."""
    path = tmp_path_factory.mktemp("check") / "clip.mkv"
    with contextlib.closing(VideoReader(SAMPLE).frames(40)) as frames:
        images = [frame.image for frame in itertools.islice(frames, FRAMES)]
    with VideoWriter(path, images[0].shape[1], images[0].shape[0], VideoReader(SAMPLE).info.fps) as writer:
        for image in images:
            writer.write(image)
    images = [frame.image for frame in VideoReader(path)]
    return (path, *track_clip(path), images)


def changed(source: CoefficientTrack, **values: float) -> CoefficientTrack:
    coefficients = source.coefficients.copy()
    for name, value in values.items():
        coefficients[:, arkit.columns([name])] += value
    return CoefficientTrack(source.fps, coefficients, source.head_rotation, source.eye_rotation, source.valid)


def happy(source: CoefficientTrack, strength: float = 1.0) -> CoefficientTrack:
    smile = {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7, "cheekSquintLeft": 0.6, "cheekSquintRight": 0.6}
    return changed(source, **{name: strength * value for name, value in smile.items()})


def pair(renderer: WarpRenderer, image: np.ndarray, index: int) -> tuple[Frame, Frame]:
    """A frame before and after."""
    return Frame(index, Fraction(index), image), Frame(index, Fraction(index), renderer.render(image, index))


def figures(clip, drawn: CoefficientTrack, edited: CoefficientTrack) -> dict[str, float]:
    """Of pictures drawn by one track, reported as if they were to show another."""
    _, geometry, source, images = clip
    renderer = WarpRenderer(geometry, source, drawn)
    with contextlib.closing(ResultCheck(geometry)) as check:
        for index, image in enumerate(images):
            check.observe(*pair(renderer, image, index))
        return check.figures(source, edited)


def test_an_edit_that_is_there_is_good(clip):
    source = clip[2]
    found = figures(clip, happy(source), happy(source))
    assert found["edit_realised"] >= REALISED_TARGET
    assert found["same_sign"] >= SIGN_TARGET
    assert found["edit_realised"] < 1.5


def test_an_edit_that_does_nothing_fails(clip):
    source = clip[2]
    found = figures(clip, source, happy(source))
    assert found["edit_realised"] == pytest.approx(0, abs=0.01)
    assert found["same_sign"] < SIGN_TARGET


def test_an_edit_that_is_too_weak_or_another_one_fails(clip):
    source = clip[2]
    full, weak = (figures(clip, happy(source, s), happy(source))["edit_realised"] for s in (1.0, 0.4))
    assert weak < 0.75 * full and weak < REALISED_TARGET
    other = figures(clip, changed(source, mouthFrownLeft=0.7, mouthFrownRight=0.7), happy(source))
    assert other["edit_realised"] < 0.2


def test_nothing_is_claimed_of_what_was_not_asked(clip):
    source = clip[2]
    assert "edit_realised" not in figures(clip, source, source)
    with contextlib.closing(ResultCheck(clip[1])) as unused:
        assert unused.figures(source, source) == {}


def test_after_an_interruption_the_figures_are_the_same(clip):
    _, geometry, source, images = clip
    edited = happy(source)
    renderer = WarpRenderer(geometry, source, edited)
    with contextlib.closing(ResultCheck(geometry, 5)) as first, contextlib.closing(ResultCheck(geometry, 5)) as second:
        for index in range(6):
            first.observe(*pair(renderer, images[index], index))
        second.index, second.before, second.after = list(first.index), list(first.before), list(first.after)
        for check in (first, second):
            for index in range(6, FRAMES):
                check.observe(*pair(renderer, images[index], index))
        assert len(first.index) == 5
        assert first.figures(source, edited) == second.figures(source, edited)


def test_the_picture_outside_the_face_is_measured_in_the_written_file(clip, tmp_path):
    path, geometry, _, images = clip
    assert psnr_of_video(path, path, [geometry], FRAMES) == np.inf
    spoilt = tmp_path / "spoilt.mkv"
    with VideoWriter(spoilt, images[0].shape[1], images[0].shape[0], geometry.fps) as writer:
        for image in images:
            image = image.copy()
            image[:40] = np.minimum(image[:40].astype(int) + 40, 255)
            writer.write(image)
    assert psnr_of_video(path, spoilt, [geometry], FRAMES) < 40

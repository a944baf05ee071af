"""The embedded network on the project's own head: glasses drawn before it are found and stay, and the bare head is let alone."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from cmet_engine.emotion.edit import edit_track
from cmet_engine.emotion.library import load_library
from cmet_engine.face.clip import track_clip
from cmet_engine.face.crop import crop_transform
from cmet_engine.face.occlusion import find_occlusion
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline
from tests.short_clips import SAMPLE

FRAMES, SIZE = 10, 384


def rim(shape: tuple[int, ...], landmarks: np.ndarray) -> np.ndarray:
    """Round glasses with bridge and temples before a face: bool [H, W]."""
    mask = np.zeros(shape[:2], np.uint8)
    right, left = landmarks[[33, 133], :2].mean(0), landmarks[[362, 263], :2].mean(0)
    unit = float(np.linalg.norm(left - right))
    thick = max(2, round(0.07 * unit))
    for eye in (right, left):
        cv2.circle(
            mask,
            np.round(eye + np.array([0, 0.06 * unit])).astype(int).tolist(),
            round(0.4 * unit),
            (255,),
            thick,
            cv2.LINE_AA,
        )
    along = (left - right) / unit
    for a, b in ((right + 0.4 * unit * along, left - 0.4 * unit * along), (landmarks[127, :2], right - 0.4 * unit * along),
                 (left + 0.4 * unit * along, landmarks[356, :2])):  # fmt: skip
        cv2.line(mask, np.round(a).astype(int).tolist(), np.round(b).astype(int).tolist(), (255,), thick, cv2.LINE_AA)
    return mask > 127


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> tuple[Path, Path, list[np.ndarray]]:
    """The head bare, and with glasses; the glasses in every frame."""
    folder = tmp_path_factory.mktemp("glasses")
    images = []
    for frame in VideoReader(SAMPLE):
        images.append(cv2.resize(frame.image, (frame.image.shape[1] * SIZE // frame.image.shape[0] // 2 * 2, SIZE)))
        if len(images) == FRAMES:
            break
    bare = write(folder / "bare.mp4", images)
    geometry = track_clip(bare)[0]
    masks = [rim(image.shape, geometry.landmarks[k]) for k, image in enumerate(images)]
    for image, mask in zip(images, masks, strict=True):
        image[mask] = (35, 28, 26)
    return bare, write(folder / "glasses.mp4", images), masks


def write(path: Path, images: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=Fraction(25), options={"crf": "12", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        for image in images:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        target.mux(stream.encode(None))
    return path


def test_drawn_glasses_are_found_and_stay_while_the_brows_move(clips):
    _, path, masks = clips
    geometry, track = track_clip(path)
    found = find_occlusion(path, geometry)
    assert all(found.mattes)
    transform = crop_transform(geometry.landmarks[5], found.matte(5).shape[0])
    seen = (
        cv2.warpAffine(found.matte(5), transform, masks[5].shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        > 0.5
    )
    assert (seen & masks[5]).sum() > 0.5 * (seen | masks[5]).sum()
    edited = edit_track(track, EmotionTimeline.parse(["angry"]), load_library())
    image = next(frame.image for frame in VideoReader(Source(path)) if frame.index == 5)
    bent, kept = (
        np.abs(WarpRenderer(geometry, track, edited, occlusion=which).render(image, 5).astype(int) - image)[
            masks[5]
        ].mean()
        for which in (None, found)
    )
    assert kept < 1.5 < bent


def test_before_a_bare_head_nothing_is_found(clips):
    path = clips[0]
    assert not find_occlusion(path, track_clip(path)[0]).any()

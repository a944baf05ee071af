"""Curves rendered by generators that a draft drives, with stand-in weights: what changes, and what must not."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import portrait_networks
import pytest
import torch
from portrait_networks import SIZE
from torch import nn

from cmet_engine import arkit
from cmet_engine.errors import CmetError
from cmet_engine.face.pose import Pose, denormalise, template
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.source import Source
from cmet_engine.media.writer import VideoWriter
from cmet_engine.render.driven import DrivenRenderer
from cmet_engine.render.edtalk import Generator
from cmet_engine.render.edtalk.networks import Networks
from cmet_engine.render.edtalk.renderer import EdtalkRenderer
from cmet_engine.render.liveportrait.generator import PortraitGenerator
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.timeline import EmotionTimeline
from cmet_engine.track import CoefficientTrack

WIDTH, HEIGHT, FRAMES = 320, 256, 4
RATE = Fraction(25)


def textured(index: int) -> np.ndarray:
    """A coloured picture that changes a little from frame to frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / 9 + index / 5), np.cos(y / 11 - index / 7), np.sin((x + y) / 2.5)]
    return np.stack([128 + 40 * wave for wave in waves], axis=-1).astype(np.uint8)


def geometry(scale: float = 60, yaw: float = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> FaceGeometry:
    landmarks = []
    for index in range(FRAMES):
        pose = Pose(np.array([scale]), np.eye(3)[None], np.array([[size[0] / 2 + index, -size[1] / 2.0, 0.0]]))
        landmarks.append(denormalise(template().points[None], pose)[0].astype(np.float32))
    rotation = np.tile(np.float32([yaw, 0, 0]), (FRAMES, 1))
    return FaceGeometry(
        np.stack(landmarks), np.ones(FRAMES, bool), size, RATE, np.arange(FRAMES) / 25, rotation, np.zeros((FRAMES, 4), np.float32)
    )  # fmt: skip


def tracks() -> tuple[CoefficientTrack, CoefficientTrack]:
    """The clip's own curves, and those corrected by hand: the last frame is left as it is."""
    still = np.zeros((FRAMES, 52), np.float32)
    smiling = still.copy()
    smiling[: FRAMES - 1, [arkit.INDEX["mouthSmileLeft"], arkit.INDEX["mouthSmileRight"]]] = 0.8
    made = [
        CoefficientTrack(
            RATE, c, np.zeros((FRAMES, 3), np.float32), np.zeros((FRAMES, 4), np.float32), np.ones(FRAMES, bool)
        )
        for c in (still, smiling)
    ]
    return made[0], made[1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Source:
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with VideoWriter(path, WIDTH, HEIGHT, RATE, codec="ffv1") as writer:
        for index in range(FRAMES):
            writer.write(textured(index))
    return Source.of(path)


@pytest.fixture(scope="module")
def light():
    """Five keypoints: the convolutions of the warp become narrow, too."""
    return portrait_networks.small("performrecast", points=5)


@pytest.fixture(scope="module")
def liveportrait(clip):
    generator = PortraitGenerator(portrait_networks.small(), device="cpu", size=SIZE)
    return DrivenRenderer(clip, WarpRenderer(geometry(), *tracks()), generator)


@pytest.fixture(scope="module")
def driven(clip, light):
    generator = PortraitGenerator(light, device="cpu", batch=2, size=SIZE)
    return DrivenRenderer(clip, WarpRenderer(geometry(), *tracks()), generator)


def face_mask(renderer) -> np.ndarray:
    """A generous outline of the face, bool [H, W]."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    points = renderer.geometry.landmarks[0][:, :2]
    middle = points.mean(0)
    hull = cv2.convexHull(np.round(middle + 1.6 * (points - middle)).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, (1,))
    return mask > 0


def test_corrected_curves_drive_every_generator_and_the_background_stays(clip, liveportrait, driven):
    torch.manual_seed(0)
    codes = Generator(style_dim=48, max_channels=8, channel_budget=1024, expression_hidden=8).eval()
    draft = WarpRenderer(geometry(), *tracks())
    renderers = {
        "liveportrait": liveportrait,
        "performrecast": driven,
        "edtalk": EdtalkRenderer(
            clip, geometry(), EmotionTimeline([]), {}, draft=draft, networks=Networks(codes, None), device="cpu"
        ),
    }
    source = textured(1)
    for name, renderer in renderers.items():
        assert renderer.name == name
        picture = renderer.render(source, 1)
        outside = ~face_mask(renderer)
        assert np.array_equal(picture[outside], source[outside]), name
        assert np.abs(picture.astype(int) - source)[~outside].mean() > 1, name
        assert picture.std() > 5, name
    last = textured(FRAMES - 1)
    assert driven.render(last, FRAMES - 1) is last, "a frame without an edit is the frame"
    # the codes that edtalk draws with are the clip's own where nothing is edited, and others where something is
    edtalk = renderers["edtalk"]
    assert np.array_equal(edtalk.expression[-1], edtalk.codes.expression[-1])
    assert np.abs(edtalk.expression[0] - edtalk.codes.expression[0]).max() > 0


def test_the_edit_moves_the_keypoints_and_pose_stays_the_sources(clip, liveportrait):
    own, edited = tracks()
    half = replace(edited, coefficients=edited.coefficients / 2)
    weaker = DrivenRenderer(clip, WarpRenderer(geometry(), own, half), liveportrait.generator)
    assert (
        0
        < np.abs(weaker.readings[:3, 1] - liveportrait.readings[:3, 1]).max()
        < np.abs(liveportrait.readings[:3, 1]).max() * 2
    )
    assert np.array_equal(weaker.readings[:3, 0], liveportrait.readings[:3, 0])
    assert np.array_equal(liveportrait.readings[3], np.zeros_like(liveportrait.readings[3]))
    assert set(np.flatnonzero(np.abs(liveportrait.readings[0, 1]).sum(1) == 0)) >= {0, 7, 10}, (
        "these points move the head"
    )


def test_frames_are_the_same_alone_in_any_order_and_for_every_precision(driven):
    together = driven.render_parts([(textured(index), index, (0, 0)) for index in range(2)])
    assert np.abs(driven.render(textured(1), 1).astype(int) - together[1]).max() <= 1
    left, top, right, bottom = driven.region(1)
    part = driven.render_part(textured(1)[top:bottom, left:right].astype(np.float32), 1, (left, top))
    whole = textured(1)
    whole[top:bottom, left:right] = np.clip(np.rint(part), 0, 255)
    apart = np.abs(whole.astype(int) - together[1])
    assert apart.mean() < 0.1 and apart.max() <= 3  # the detail that the crop lacks is added to unrounded samples


@pytest.mark.parametrize(("given", "words"), [({"yaw": 60}, "more than 45 degrees"), ({"scale": 12}, "too small")])
def test_a_turned_or_small_face_shows_the_draft_and_says_so(clip, driven, given, words):
    draft = WarpRenderer(geometry(**given), *tracks())
    renderer = DrivenRenderer(clip, draft, driven.generator)
    source = textured(0)
    assert np.array_equal(renderer.render(source, 0), draft.render(source, 0))
    assert sum(words in message and "0.00 to 0.12 s" in message for message in renderer.messages) == 1


def test_detail_beyond_the_crop_comes_back_from_the_frame(clip, driven, monkeypatch):
    """The face is four times as large as the crop holds it."""
    size = (WIDTH * 4, HEIGHT * 4)
    shape = geometry(240, size=size)
    generator = PortraitGenerator(driven.generator.networks, device="cpu", size=128)
    monkeypatch.setattr(generator, "draw", lambda sources, readings: np.stack(sources))
    renderer = DrivenRenderer(clip, WarpRenderer(shape, *tracks()), driven.generator)
    renderer.generator, renderer.path = generator, generator.crops(shape)
    rng = np.random.default_rng(0)
    source = np.clip(128 + rng.normal(0, 20, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
    nose = shape.landmarks[0][4, :2].astype(int)
    around = (slice(nose[1] - 120, nose[1] - 20), slice(nose[0] - 60, nose[0] + 60))
    fine = cv2.Laplacian(renderer.render(source, 0)[around].astype(np.float32), cv2.CV_32F).std()
    assert fine > 0.7 * cv2.Laplacian(source[around].astype(np.float32), cv2.CV_32F).std()


def test_little_memory_makes_batches_smaller_and_is_said_once(light, monkeypatch):
    said: list[str] = []
    generator = PortraitGenerator(light, device="cpu", batch=2, warn=said.append, size=SIZE)
    appearance, most = light.appearance.forward, 1

    def small(picture):
        if len(picture) > most:
            raise torch.OutOfMemoryError("out of memory")
        return appearance(picture)

    monkeypatch.setattr(light.appearance, "forward", small)
    crops = [np.full((SIZE, SIZE, 3), 90, np.uint8)] * 2
    readings = np.zeros((2, 2, 5, 3), np.float32)
    assert generator.draw(crops, readings).shape == (2, SIZE, SIZE, 3)
    assert len(said) == 1 and "fewer frames" in said[0] and generator.batch == 1
    most = 0
    with pytest.raises(CmetError, match="does not hold one frame"):
        generator.draw(crops, readings)


def test_black_pictures_in_half_precision_are_drawn_again(light):
    class Failing(nn.Module):
        """Gives no numbers in half precision, as some GPUs do."""

        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.tensor(0.5, dtype=torch.float16))

        def forward(self, feature):
            level = self.level.float() if self.level.dtype == torch.float32 else torch.tensor(float("nan"))
            return level.expand(len(feature), 3, SIZE, SIZE)

    said: list[str] = []
    decoder = Failing()
    generator = PortraitGenerator(replace(light, decoder=decoder), device="cpu", warn=said.append, size=SIZE)
    decoder.half()  # what a CUDA GPU draws with
    picture = generator.draw([np.full((SIZE, SIZE, 3), 90, np.uint8)], np.zeros((1, 2, 5, 3), np.float32))
    assert (picture == 128).all() and len(said) == 1 and "single precision" in said[0]


@pytest.mark.gpu
def test_a_gpu_draws_what_the_cpu_draws_with_its_work_captured_once(light):
    rng = np.random.default_rng(0)
    crops = list(rng.integers(0, 256, (5, 16, 16, 3), np.uint8).repeat(16, 1).repeat(16, 2))
    readings = rng.normal(0, 0.05, (5, 2, 5, 3)).astype(np.float32)
    there = PortraitGenerator(light, device="cuda", batch=4, size=portrait_networks.SIZE)
    drawn = there.draw(crops, readings)  # a whole batch, and a part of one
    captured = there._captured
    assert captured is not None and np.array_equal(there.draw(crops, readings), drawn)
    assert there._captured is captured
    there.networks.exact()
    here = PortraitGenerator(light, device="cpu", size=portrait_networks.SIZE).draw(crops, readings)
    assert np.abs(here.astype(int) - drawn).max() <= 2, "half precision"

from copy import deepcopy
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from soak_cases import soak

from cmet_engine.emotion.connector import Connector
from cmet_engine.errors import CmetError
from cmet_engine.face.pose import Pose, denormalise, template
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.render.edtalk import Audio2Lip, Generator, encoding, portrait
from cmet_engine.render.edtalk.crop import Crops, follow, squares
from cmet_engine.render.edtalk.encoding import extract_codes
from cmet_engine.render.edtalk.enhancer import load_enhancer
from cmet_engine.render.edtalk.expression import expression_changes
from cmet_engine.render.edtalk.networks import NetworkRunner, Networks
from cmet_engine.render.edtalk.paste import alignment, border_mask, match_colour, outline_mask, paste, skin_mask
from cmet_engine.render.edtalk.portrait import PortraitRenderer
from cmet_engine.render.edtalk.renderer import EdtalkRenderer
from cmet_engine.timeline import EmotionKey, EmotionTimeline
from cmet_engine.training.edtalk_codes import extract_folder

WIDTH, HEIGHT, FRAMES = 320, 240, 17


@pytest.fixture(scope="module")
def networks() -> Networks:
    """The published architectures with few channels and stand-in weights: quick, and right in everything but the picture."""
    torch.manual_seed(0)
    generator = Generator(style_dim=48, max_channels=8, channel_budget=1024, expression_hidden=8).eval()
    connector = Connector(10, width=64, layers=1, feedforward=32).eval()
    return Networks(generator, connector, Audio2Lip().eval())


def head(x: float, y: float, scale: float) -> np.ndarray:
    """Landmarks [478, 3] of the mean face, seen from the front."""
    pose = Pose(np.array([scale]), np.eye(3)[None], np.array([[x, -y, 0.0]]))
    return denormalise(template().points[None], pose)[0].astype(np.float32)


def textured(index: int) -> np.ndarray:
    """A smooth coloured picture that changes a little from frame to frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / 9 + index / 5), np.cos(y / 11 - index / 7), np.sin((x + y) / 13)]
    return np.stack([128 + 60 * wave for wave in waves], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, Fraction(30000, 1001)) as writer:
        for index in range(FRAMES):
            writer.write(textured(index))
    return path


def geometry(cuts: list[int] | None = None, lost: tuple[int, ...] = ()) -> FaceGeometry:
    landmarks = np.stack([head(150 + index, 115 + 0.5 * index, 42) for index in range(FRAMES)])
    valid = np.ones(FRAMES, bool)
    valid[list(lost)] = False
    fade = valid.astype(np.float32)
    fps = Fraction(30000, 1001)
    times = np.arange(FRAMES) / float(fps)
    return FaceGeometry(
        landmarks, valid, (WIDTH, HEIGHT), fps, times, np.zeros((FRAMES, 3), np.float32), np.zeros((FRAMES, 4), np.float32),
        cuts or [], fade,
    )  # fmt: skip


HAPPY = EmotionTimeline([EmotionKey("happy")])
VECTORS = {"happy": np.random.default_rng(0).standard_normal(1024).astype(np.float32)}


def test_every_frame_is_drawn_and_the_background_stays_bit_by_bit(clip, networks):
    shape = geometry(lost=(5,))
    renderer = EdtalkRenderer(clip, shape, HAPPY, VECTORS, networks=networks, device="cpu")
    assert renderer.expression.shape == (FRAMES, 10)
    assert (np.abs(renderer.expression - renderer.codes.expression).max(axis=1) > 1e-6).all()
    count = 0
    for frame in VideoReader(clip):
        picture = renderer.render(frame.image, frame.index)
        count += 1
        if frame.index == 5:
            assert picture is frame.image  # the face is lost there
            continue
        changed = (picture != frame.image).any(axis=2)
        points = shape.landmarks[frame.index][:, :2]
        left, top = points.min(axis=0) - 0.35 * np.ptp(points, axis=0)
        right, bottom = points.max(axis=0) + 0.35 * np.ptp(points, axis=0)
        y, x = np.nonzero(changed)
        assert len(x) > 1000
        assert x.min() >= left and x.max() <= right and y.min() >= top and y.max() <= bottom
        centre = points.mean(axis=0).astype(int)
        assert changed[centre[1] - 5 : centre[1] + 5, centre[0] - 5 : centre[0] + 5].mean() > 0.9
    assert count == FRAMES


def test_frames_in_any_order_and_any_batch_are_the_same(clip, networks):
    images = [frame.image.copy() for frame in VideoReader(clip)][:6]
    forward = EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, networks=networks, device="cpu", batch=4)
    ordered = [forward.render(image, index) for index, image in enumerate(images)]
    backward = EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, networks=networks, device="cpu", batch=1)
    for index in (5, 1, 3, 0):
        difference = np.abs(backward.render(images[index], index).astype(int) - ordered[index])
        assert difference.max() <= 1  # rounding of batches of different size


def test_strength_zero_changes_no_code_and_strength_scales_the_change(clip, networks):
    def change(strength: float) -> np.ndarray:
        timeline = EmotionTimeline([EmotionKey("happy", strength=strength)])
        renderer = EdtalkRenderer(clip, geometry(), timeline, VECTORS, networks=networks, device="cpu")
        return renderer.expression - renderer.codes.expression

    assert not change(0.0).any()
    np.testing.assert_allclose(change(2.0), 2 * change(1.0), atol=1e-5)


def test_an_enhancer_sharpens_what_is_pasted(clip, networks):
    import cv2

    def twice(face):
        return cv2.resize(face, (512, 512), interpolation=cv2.INTER_CUBIC)

    image = next(iter(VideoReader(clip))).image
    plain = EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, networks=networks, device="cpu").render(image, 0)
    large = EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, networks=networks, device="cpu", enhancer=twice).render(
        image, 0
    )
    assert (plain != image).any()
    assert (
        np.abs(large.astype(int) - plain).mean() < 0.1 * np.abs(plain.astype(int) - image).mean()
    )  # in the same place
    assert load_enhancer() is None or callable(load_enhancer())


def test_emotion_comes_and_goes_with_the_timeline(clip, networks):
    timeline = EmotionTimeline([EmotionKey("happy", start=0.2, end=0.4, ease_in=0.05, ease_out=0.05)])
    renderer = EdtalkRenderer(clip, geometry(), timeline, VECTORS, networks=networks, device="cpu")
    moved = np.abs(renderer.expression - renderer.codes.expression).max(axis=1)
    times = renderer.times
    assert (moved[(times > 0.25) & (times < 0.35)] > 1e-6).all()
    assert not moved[(times < 0.19) | (times > 0.41)].any()


@pytest.mark.parametrize("rate", [23.976, 60, *soak(25, 30, 50)])
def test_the_edit_runs_at_25_a_second_whatever_the_clips_rate(networks, rate):
    """The same slow motion, filmed at any rate, gets the same change at the same time."""
    times = np.arange(round(2 * rate)) / rate
    expression = np.sin(times[:, None] * np.linspace(0.5, 2, 10)).astype(np.float32)
    at_rate = expression_changes(networks.connector, VECTORS, expression, times)["happy"]
    grid = np.arange(50) / 25
    slow = np.sin(grid[:, None] * np.linspace(0.5, 2, 10)).astype(np.float32)
    at_25 = expression_changes(networks.connector, VECTORS, slow, grid)["happy"]
    assert at_rate.shape == expression.shape
    inside = (times > 0.1) & (times < 1.8)
    resampled = np.column_stack([np.interp(times, grid, column) for column in at_25.T])
    spread = at_25.std()
    assert np.abs(at_rate - resampled)[inside].mean() < 0.15 * spread


def test_each_shot_keeps_its_own_appearance(clip, networks):
    renderer = EdtalkRenderer(clip, geometry(cuts=[8]), HAPPY, VECTORS, networks=networks, device="cpu")
    assert [(shot.first, shot.last) for shot in renderer.shots] == [(0, 8), (8, FRAMES)]
    assert (renderer.shots[0].source != renderer.shots[1].source).any()


def test_codes_for_training_come_at_25_a_second_shot_by_shot(clip, networks):
    shape = geometry(cuts=[8], lost=(0, 16))
    extracted = extract_codes(clip, geometry=shape, networks=networks, device="cpu")
    # frames 1 to 7 lie at 0.033 to 0.234 s, frames 8 to 15 at 0.267 to 0.501 s: 5 and 6 multiples of 0.04 s
    assert [part.expression.shape for part in extracted] == [(5, 10), (6, 10)]
    assert all(np.isfinite(values).all() for part in extracted for values in (part.expression, part.pose, part.lip))


def test_a_folder_of_videos_becomes_codes_and_an_interrupted_run_goes_on(clip, networks, tmp_path, monkeypatch):
    from cmet_engine.training.connector.faces import read_codes

    videos = tmp_path / "CREMA-D"
    (videos / "VideoFlash").mkdir(parents=True)
    for name in ("1001_DFA_ANG_XX", "1001_DFA_NEU_XX", "1002_DFA_HAP_XX"):
        (videos / "VideoFlash" / f"{name}.flv").write_bytes(clip.read_bytes())
    monkeypatch.setattr(encoding, "track", lambda path, **options: geometry(cuts=[8]))  # a drawn pattern has no face
    written = extract_folder(videos, tmp_path / "codes", networks=networks, device="cpu")
    assert len(written) == 6  # two shots each
    codes = read_codes(tmp_path / "codes")
    assert sorted(codes) == [("crema_1001", "angry"), ("crema_1001", "neutral"), ("crema_1002", "happy")]
    assert all(track.shape[1] == 10 for tracks in codes.values() for track in tracks)
    monkeypatch.setattr(encoding, "track", lambda path, **options: pytest.fail("tracked again"))
    again = extract_folder(videos, tmp_path / "codes", networks=networks, device="cpu")
    assert sorted(again) == sorted(written)


def test_lips_from_a_voice_replace_those_of_the_clip(clip, networks):
    wave = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    own = EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, networks=networks, device="cpu")
    spoken = EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, voice=wave, networks=networks, device="cpu")
    assert spoken.codes.lip.shape == own.codes.lip.shape
    assert np.abs(spoken.codes.lip - own.codes.lip).max() > 1e-4
    np.testing.assert_array_equal(spoken.codes.pose, own.codes.pose)
    with pytest.raises(CmetError, match="shorter than a frame"):
        EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, voice=wave[:500], networks=networks, device="cpu")


def test_a_preset_leads_to_its_codes(clip, networks, tmp_path, monkeypatch):
    from cmet_engine.models import store

    monkeypatch.setenv("CMET_MODELS", str(tmp_path))
    timeline = EmotionTimeline([EmotionKey("edtalk-happy")])
    with pytest.raises(CmetError, match="preset 'happy' is unknown, there are none"):
        EdtalkRenderer(clip, geometry(), timeline, {}, networks=networks, device="cpu")
    np.save(tmp_path / "happy.npy", np.arange(10, dtype=np.float32)[None])
    store.convert(tmp_path / "happy.npy")
    renderer = EdtalkRenderer(clip, geometry(), timeline, {}, networks=networks, device="cpu")
    np.testing.assert_allclose(renderer.expression, np.tile(np.arange(10), (FRAMES, 1)), atol=1e-5)
    with pytest.raises(CmetError, match="'sad' has no vector"):
        EdtalkRenderer(clip, geometry(), EmotionTimeline([EmotionKey("sad")]), VECTORS, networks=networks, device="cpu")


def test_missing_weights_and_a_clip_without_a_face_are_said_in_a_sentence(clip, networks, tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_MODELS", str(tmp_path))
    with pytest.raises(CmetError, match="cmet models pull cmet"):
        EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, device="cpu")
    with pytest.raises(CmetError, match="No frame of the clip shows a face"):
        EdtalkRenderer(clip, geometry(lost=tuple(range(FRAMES))), HAPPY, VECTORS, networks=networks, device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(CmetError, match="no CUDA GPU"):
            EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, networks=networks, device="cuda")


def test_too_little_memory_means_smaller_batches_said_once(networks, monkeypatch):
    said: list[str] = []
    runner = NetworkRunner(networks, "cpu", 8, said.append)
    original = networks.generator.codes
    sizes = []

    def narrow(images):
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("no memory")
        return original(images)

    images = [np.full((256, 256, 3), 20 * i, np.uint8) for i in range(9)]
    whole = runner.encode(images)
    monkeypatch.setattr(networks.generator, "codes", narrow)
    runner = NetworkRunner(networks, "cpu", 8, said.append)
    parts = runner.encode(images)
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    np.testing.assert_allclose(parts.expression, whole.expression, atol=1e-4, rtol=1e-3)
    assert len(said) == 1 and "fewer frames" in said[0]
    monkeypatch.setattr(networks.generator, "codes", lambda images: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(CmetError, match="does not hold one frame"):
        runner.encode(images)


def test_a_gpu_that_does_not_hold_one_frame_leaves_the_work_to_the_cpu(networks, monkeypatch):
    said: list[str] = []
    runner = NetworkRunner(networks, "cpu", 4, said.append)
    runner.device = "cuda"
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    tried = []

    def work(part):
        tried.append((runner.device, runner.batch))
        if runner.device == "cuda":
            raise torch.OutOfMemoryError("no memory")
        return "drawn"

    assert runner.guarded(work, slice(0, 4)) == runner.guarded(work, slice(0, 4)) == "drawn"
    assert tried == [("cuda", 4), ("cuda", 2), ("cuda", 1), ("cpu", 4), ("cpu", 4)]
    assert len(said) == 2 and "fewer frames" in said[0] and "on the CPU" in said[1]


def test_weights_moved_in_the_midst_of_work_can_be_worked_with(networks):
    own = deepcopy(networks)
    with torch.inference_mode():  # as the change from a full GPU to the processor happens
        own.to("meta")
    assert not any(parameter.is_inference() for parameter in own.generator.parameters())


def test_the_square_lies_where_the_published_crops_lie(shared):
    """A clip that was cut by EDTalk's own script: our square is nearly the whole picture."""
    from cmet_engine.face.mesh import Box, Mesh

    frame = next(iter(VideoReader(shared / "data" / "clips" / "edtalk_expression_source.mp4")))
    height, width = frame.image.shape[:2]
    mesh = Mesh()
    points = mesh.find(frame.image, Box(width / 2, height / 2, width / 2))
    mesh.close()
    centres, sides = squares(points[None])
    assert 0.75 < sides[0] / width < 1.15
    assert np.abs(centres[0] / width - 0.5).max() < 0.08


def test_squares_follow_without_jitter_and_do_not_reach_over_cuts():
    shape = geometry()
    noise = np.random.default_rng(0).normal(0, 1.0, (FRAMES, 1, 3)).astype(np.float32)
    still = np.repeat(shape.landmarks[:1], FRAMES, axis=0) + noise
    crops = follow(replace(shape, landmarks=still))
    assert np.abs(np.diff(crops.centres, axis=0)).max() < 0.15  # of 1 pixel of noise
    jump = shape.landmarks.copy()
    jump[8:] += [60, 0, 0]
    crops = follow(replace(shape, landmarks=jump, cuts=[8]))
    assert crops.centres[8, 0] - crops.centres[7, 0] > 50


def test_cutting_and_pasting_back_gives_the_frame_again():
    image = textured(0)
    crops = Crops(np.array([[160.3, 119.6]]), np.array([200.0]))
    again = paste(image, crops.cut(image, 0), border_mask(), crops, 0)
    assert np.abs(again.astype(int) - image).max() <= 3
    landmarks = head(160, 120, 42)
    points = crops.points(landmarks, 0)
    matrix = crops.matrix(0)
    np.testing.assert_allclose(points, landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2], atol=1e-4)


def test_a_square_that_leaves_the_frame_is_pasted_as_far_as_it_is_seen():
    image = textured(0)
    crops = Crops(np.array([[5.0, 230.0], [-300.0, 0.0]]), np.array([150.0, 100.0]))
    face = np.full((256, 256, 3), 255, np.float32)
    once = paste(image, face, border_mask(), crops, 0)
    assert (
        once.shape == image.shape and (once[-10:, :10] == 255).all() and (once[:100, 120:] == image[:100, 120:]).all()
    )
    assert paste(image, face, border_mask(), crops, 1) is image


def test_the_mask_covers_the_face_and_ends_softly_inside_the_square():
    crops = Crops(*squares(head(160, 120, 42)[None]))
    points = crops.points(head(160, 120, 42), 0)
    mask = outline_mask(points)
    assert mask[[0, -1]].max() == 0 and mask[:, [0, -1]].max() == 0
    inside = points[[1, 4, 13, 33, 263, 17, 199, 50, 280]].astype(int)
    assert mask[inside[:, 1], inside[:, 0]].min() > 0.85
    x, y = points[152].astype(int)
    assert mask[y, x] > 0.7  # the chin, which an edit may move
    assert np.abs(np.diff(mask, axis=0)).max() < 0.08
    skin = skin_mask(points)
    for place in (13, 468, 473):  # lips and irises
        x, y = points[place].astype(int)
        assert not skin[y, x]
    x, y = points[[50, 280]].mean(axis=0).astype(int)
    assert skin.sum() > 3000


def test_colours_become_those_of_the_frame():
    rng = np.random.default_rng(0)
    original = np.clip(rng.normal([180, 120, 90], 20, (256, 256, 3)), 0, 255)
    drawn = original[::-1] * 0.85 + 30
    where = np.ones((256, 256), bool)
    matched = match_colour(drawn, original, where)
    np.testing.assert_allclose(matched.mean((0, 1)), original.mean((0, 1)), atol=0.1)
    np.testing.assert_allclose(matched.std((0, 1)), original.std((0, 1)), rtol=0.02)


def test_a_misplaced_drawing_is_found_and_an_absurd_one_is_not_believed():
    points = np.repeat(Crops(*squares(head(160, 120, 42)[None])).points(head(160, 120, 42), 0)[None], 5, axis=0)
    angle, scale, shift = 0.05, 1.04, np.array([4.0, -3.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = points[0].mean(axis=0)
    drawn = (points - centre - shift) @ np.linalg.inv(turn).T + centre
    drawn[0] += 25  # one frame found badly
    move = alignment(drawn, points)
    np.testing.assert_allclose(drawn[1] @ move[:, :2].T + move[:, 2], points[1], atol=0.5)
    assert alignment(points + 60, points) is None
    assert alignment(points[:2], points[:2]) is None


def test_a_portrait_speaks_as_long_as_the_voice(clip, networks, monkeypatch):
    picture = textured(3)
    monkeypatch.setattr(portrait, "portrait_landmarks", lambda image: head(160, 120, 42))  # a drawn pattern has no face
    driving = EdtalkRenderer(clip, geometry(), HAPPY, VECTORS, networks=networks, device="cpu")
    wave = np.random.default_rng(0).standard_normal(12800).astype(np.float32) * 0.1
    speaking = PortraitRenderer(picture, driving, Fraction(25), voice=wave)
    frames = list(speaking)
    assert len(frames) == speaking.count == 20 and frames[0].shape == picture.shape
    assert any("The voice lasts 0.80 s" in message for message in speaking.messages)
    np.testing.assert_array_equal(speaking.codes.pose[-1], speaking.codes.pose[-5])
    assert np.abs(speaking.codes.lip[-1] - speaking.codes.lip[-5]).max() > 0
    short = PortraitRenderer(picture, driving, Fraction(25), voice=wave[:4800])
    assert short.count == 8
    silent = PortraitRenderer(picture, driving, Fraction(30000, 1001))
    assert silent.count == FRAMES


def test_portraits_without_one_face_are_refused(shared):
    blank = np.full((200, 200, 3), 128, np.uint8)
    with pytest.raises(CmetError, match="shows no face"):
        portrait.portrait_landmarks(blank)
    face = portrait.read_portrait(shared / "data" / "faces" / "stills" / "images" / "00000.jpg")
    assert portrait.portrait_landmarks(face).shape == (478, 3)
    with pytest.raises(CmetError, match="shows 3 faces"):
        portrait.portrait_landmarks(np.hstack([face] * 3))


def test_a_portrait_file_that_is_none_is_named(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(CmetError, match=r"text\.png is no picture"):
        portrait.read_portrait(tmp_path / "text.png")
    with pytest.raises(CmetError, match="Cannot read the picture"):
        portrait.read_portrait(tmp_path / "absent.png")

"""The refined renderer: its geometry, its choice of frames, the fit to a clip, and what it makes of bad footage."""

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from cmet_engine import arkit, cache
from cmet_engine.emotion.clip_emotions import basic_emotion_deltas
from cmet_engine.evaluation.renderer import best_slots, choose_pairs, reconstruct
from cmet_engine.face.clip import track_clip
from cmet_engine.face.crop import apply, crop_transform, inverse
from cmet_engine.face.landmarks import IRIS, LOWER_LIP_INNER, LOWER_LIP_OUTER
from cmet_engine.face.lips import lip_opening
from cmet_engine.face.tracker import FaceGeometry
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Source
from cmet_engine.media.writer import VideoWriter
from cmet_engine.models.assets import ASSETS
from cmet_engine.pipeline import render_clip
from cmet_engine.render.base import Renderer
from cmet_engine.render.choose import open_renderer
from cmet_engine.render.refine import fitting, occlusion, pairs, reference_frames
from cmet_engine.render.refine.canonical_crop import rasterise
from cmet_engine.render.refine.network import GEOMETRY, SOURCES, Refiner, compose, load_refiner
from cmet_engine.render.refine.optimise import loss_of, optimise
from cmet_engine.render.refine.renderer import RefinedRenderer, refine
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.spec import RenderSpec
from cmet_engine.track import CoefficientTrack

SAMPLE = ASSETS / "sample" / "talking_head.mp4"
SIZE, FRAMES, STEP = 256, 50, 2
"""The tests' clip: every second frame of the sample, small."""

Tracked = tuple[Path, FaceGeometry, CoefficientTrack]


def written(path: Path, pictures: list[np.ndarray]) -> Path:
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, width, height, Fraction(25), force=True) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def changed(source: CoefficientTrack, **values: float) -> CoefficientTrack:
    edited = source.copy()
    for name, value in values.items():
        columns = [k for k, known in enumerate(arkit.NAMES) if known.startswith(name)]
        edited.coefficients[:, columns] = np.clip(edited.coefficients[:, columns] + value, 0, 1)
    return edited


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CMET_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    frames = (f.image for f in VideoReader(SAMPLE) if f.index % STEP == 0)
    return [
        cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        for image, _ in zip(frames, range(FRAMES), strict=False)
    ]


@pytest.fixture(scope="module")
def clip(home: Path, pictures: list[np.ndarray]) -> Tracked:
    path = written(home / "clip.mp4", pictures)
    return path, *track_clip(path)


@pytest.fixture(scope="module")
def prepared(clip: Tracked) -> fitting.Prepared:
    return prepare(clip, "standard", steps=0)


@pytest.fixture(scope="module")
def images(clip: Tracked) -> list[np.ndarray]:
    return [f.image for f in VideoReader(clip[0])]


def deltas_of(source: CoefficientTrack) -> pairs.Deltas:
    return partial(basic_emotion_deltas, source)


def prepare(clip: Tracked, quality: str, **options: Any) -> fitting.Prepared:
    path, geometry, source = clip
    return fitting.prepare(path, geometry, deltas_of(source), quality, **options)


def renderer(clip: Tracked, prepared: fitting.Prepared, edited: CoefficientTrack) -> RefinedRenderer:
    return RefinedRenderer(clip[1], clip[2], edited, prepared)


def test_the_crop_holds_the_upright_face_wherever_it_is_and_however_it_leans(clip):
    points = np.asarray(clip[1].landmarks[0], np.float64)
    turn = cv2.getRotationMatrix2D((50, 90), 35, 1.7)
    leaning = np.column_stack([apply(turn, points), points[:, 2] * 1.7])
    here, there = (apply(crop_transform(p, 192), p) for p in (points, leaning))
    np.testing.assert_allclose(here, there, atol=0.01)
    assert here.min() > 5
    assert here.max() < 187
    assert here[10, 1] < here[152, 1]


def test_a_face_onto_itself_comes_from_where_it_is(clip):
    points = np.asarray(clip[1].landmarks[0], np.float64)
    square = crop_transform(points, 192)
    raster = rasterise(points, square, 192)
    y, x = np.mgrid[:192, :192]
    there = apply(inverse(square), np.stack([x, y], -1).astype(np.float64))
    assert np.abs(raster.sources(points) - there)[raster.inside].max() < 0.05
    assert np.abs(raster.stretch(points)).max() < 0.05
    assert set(np.unique(raster.opening)) >= {0, 1, 2}


def test_references_change_seldom_and_gently():
    random = np.random.default_rng(0)
    cost = random.uniform(0, reference_frames.SWITCH / 2, (50, 6))  # noise that is not worth a change
    cost[:25, 2] -= 0.1
    cost[25:, 4] -= 0.1
    path = reference_frames.cheapest_path(cost)
    assert path.tolist() == [2] * 25 + [4] * 25
    mixed = reference_frames.cross_fades(path)
    assert all(sum(share for _, share in entry) == pytest.approx(1) for entry in mixed)
    shares = [sum(share for k, share in entry if k == 4) for entry in mixed]
    assert max(np.diff(shares)) < 0.3
    assert shares[20] == 0
    assert shares[30] == 1


def test_a_cut_is_not_faded_over_and_no_reference_comes_from_another_shot(clip):
    appearance = reference_frames.appearance_of(
        np.repeat(np.asarray(clip[1].landmarks[:1]), 4, 0), np.array([0, 0, 1, 1])
    )
    cost = reference_frames.matching_costs(appearance, appearance, appearance[[0, 3]], "mouth")
    cut = np.array([False, False, True, False])
    path = reference_frames.cheapest_path(cost, cut)
    assert path.tolist() == [0, 0, 1, 1]
    assert reference_frames.cross_fades(path, cut) == [[(0, 1.0)], [(0, 1.0)], [(1, 1.0)], [(1, 1.0)]]


def test_reference_frames_show_different_mouths(clip):
    appearance = reference_frames.clip_appearance(clip[1])
    chosen = reference_frames.choose_frames(appearance, np.arange(len(appearance)), 8)
    opening = lip_opening(np.asarray(clip[1].landmarks))
    assert len(set(chosen.tolist())) == 8
    assert np.ptp(opening[chosen]) > 0.8 * np.ptp(opening)


def test_an_untrained_network_follows_the_rule_of_thumb_and_never_leaves_the_mask():
    network = Refiner().eval()
    random = torch.Generator().manual_seed(0)
    pictures = torch.rand(1, 3 * SOURCES, 64, 64, generator=random)
    prior = torch.randn(1, SOURCES, 64, 64, generator=random)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1
    with torch.inference_mode():
        weights, flow, shade = network(pictures, torch.rand(1, GEOMETRY, 64, 64, generator=random), prior)
        made = compose(pictures, weights, flow, shade, mask)
    assert torch.allclose(weights, torch.softmax(prior, 1))
    assert torch.equal(made[..., 32:], pictures[:, :3, :, 32:])
    expected = sum(weights[:, k : k + 1] * pictures[:, 3 * k : 3 * k + 3] for k in range(SOURCES))
    assert torch.allclose(made[..., :32], expected[..., :32], atol=1e-4)


def test_frames_of_the_clip_are_rebuilt_better_than_by_the_draft(clip, prepared, images):
    geometry = clip[1]
    held = np.arange(42, FRAMES)
    ready = prepare(clip, "standard", among=np.arange(42), steps=0)
    chosen = choose_pairs(held, 6)
    signal, structure = reconstruct(
        geometry, dict(enumerate(images)), chosen, ready.references, ready.network, ready.size
    )
    assert signal["mouth"][1] > signal["mouth"][0] + 1
    assert structure["mouth"][1] > structure["mouth"][0]
    assert signal["face"][1] > signal["face"][0]


def test_outside_the_face_and_where_nothing_is_asked_the_picture_stays(clip, prepared, images):
    _, geometry, source = clip
    edited = changed(source, jawOpen=0.4)
    edited.coefficients[0] = source.coefficients[0]
    edits = renderer(clip, prepared, edited)
    assert edits.render(images[0], 0) is images[0]
    made, draft = edits.render(images[10], 10), WarpRenderer(geometry, source, edited).render(images[10], 10)
    points = np.asarray(geometry.landmarks[10])[:, :2]
    low, high = points.min(0) - 12, points.max(0) + 12
    outside = np.ones((SIZE, SIZE), bool)
    outside[max(0, int(low[1])) : int(high[1]), max(0, int(low[0])) : int(high[0])] = False
    np.testing.assert_array_equal(made[outside], draft[outside])
    assert np.abs(made.astype(int) - draft).max() > 10


def test_the_edit_stays_in_the_picture(clip, prepared, images):
    _, geometry, source = clip
    edited = changed(source, jawOpen=0.5)
    edits = renderer(clip, prepared, edited)
    from cmet_engine.face.mesh import Mesh, box_of

    mesh = Mesh()
    box = box_of(geometry.landmarks[5])
    gaps = []
    for picture in (images[5], edits.render(images[5], 5)):
        mesh.forget()
        found = mesh.find(picture, box)
        assert found is not None
        gaps.append(lip_opening(found[None])[0])
    mesh.close()
    asked = lip_opening(edits.target(5)[None])[0] - lip_opening(np.asarray(geometry.landmarks[5:6]))[0]
    assert asked > 0.05
    assert gaps[1] - gaps[0] > 0.6 * asked


def test_a_hand_before_the_mouth_stays_a_hand(clip, prepared, images):
    _, geometry, source = clip
    edits = renderer(clip, prepared, changed(source, jawOpen=0.4))
    points = np.asarray(geometry.landmarks[8])
    size = float(np.ptp(points[:468, 1]))
    picture = images[8].copy()
    middle = points[13, :2]
    colour = (40, 90, 160)
    cv2.ellipse(picture, (int(middle[0]), int(middle[1] + 0.05 * size)), (int(0.3 * size), int(0.2 * size)), 0, 0, 360, colour, -1)  # fmt: skip
    draft = WarpRenderer(geometry, source, changed(source, jawOpen=0.4)).render(picture, 8)
    made = edits.render(picture, 8)
    there = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(there, (int(middle[0]), int(middle[1] + 0.05 * size)), (int(0.2 * size), int(0.12 * size)), 0, 0, 360, (1,), -1)  # fmt: skip
    assert np.abs(made.astype(int) - draft)[there > 0].mean() < 2
    assert "cover" in edits.messages[0]
    assert not renderer(clip, prepared, changed(source, jawOpen=0.4)).messages


def test_nothing_unusual_is_seen_in_the_clip_itself(clip, prepared, images):
    usual = occlusion.learn(prepared.references)
    shares = [
        occlusion.covered_share(usual.unusual(image, np.asarray(clip[1].landmarks[i])))
        for i, image in enumerate(images[::6])
        for i in (6 * i,)
    ]
    assert max(shares) < occlusion.COVERED


def test_the_fit_is_kept_and_an_interrupted_one_goes_on(clip, monkeypatch):
    calls: list[int] = []

    def stop(stage: str, done: int, total: int | None) -> None:
        assert stage == "fit"
        assert total == 3
        calls.append(done)
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "POOL", 4)
    monkeypatch.setattr(fitting, "BATCH", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(clip, "standard", steps=3, progress=stop)
    assert calls == [0, 1, 2]
    calls.clear()

    def go_on(stage: str, done: int, total: int | None) -> None:
        calls.append(done)

    first = prepare(clip, "standard", steps=3, progress=go_on)
    assert calls == [2, 3]
    assert not list(cache.folder().glob("*unfinished"))
    calls.clear()
    again = prepare(clip, "standard", steps=3, progress=go_on)
    assert calls == []
    for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)  # a rendering that was interrupted goes on with the same network


def test_only_best_fits_to_the_clip(clip, monkeypatch):
    monkeypatch.setattr(fitting._Fit, "run", lambda fit: fits.append(fit))
    fits: list[object] = []
    prepare(clip, "standard")
    assert not fits
    prepare(clip, "best")
    assert len(fits) == 1


def test_the_fit_learns(clip):
    frames = pairs.read_frames(clip[0], clip[1], deltas_of(clip[2]), np.arange(FRAMES), 200)
    random = np.random.default_rng(0)
    batch = torch.from_numpy(np.stack([pairs.make_pair(frames, 96, random) for _ in range(2)]))
    network = load_refiner()
    with torch.no_grad():
        before = float(loss_of(network, batch)[0])
    optimise(network, lambda _: batch, 12, rate=5e-4)
    with torch.no_grad():
        assert float(loss_of(network, batch)[0]) < before


@pytest.mark.parametrize("count", [1, 3])
def test_a_clip_of_few_frames_is_refined(clip, images, home, count):
    path = written(home / f"short{count}.mp4", images[:count])
    _, source = track_clip(path)
    edited = changed(source, mouthSmile=0.5)
    edited.save(home / f"short{count}.npz")
    source.save(home / f"short{count}-source.npz")
    spec = RenderSpec(
        clip=path, track=home / f"short{count}.npz", source=home / f"short{count}-source.npz", quality="standard"
    )
    result = render_clip(spec, home / f"short{count}-edited.mp4", force=True)
    assert sum(1 for _ in VideoReader(result.path)) == count
    ready = prepare((path, *track_clip(path)), "best", steps=3)
    assert any("too few" in message for message in ready.messages), "and not fitted to"


def test_a_still_picture_held_as_video_says_that_it_shows_one_face_only(images, home):
    path = written(home / "still.mp4", [images[0]] * 24)
    geometry, source = track_clip(path)
    ready = prepare((path, geometry, source), "standard")
    assert any("hardly moves" in message for message in ready.messages)
    edits = RefinedRenderer(geometry, source, changed(source, jawOpen=0.4), ready)
    assert np.abs(edits.render(images[0], 3).astype(int) - images[0]).max() > 10


def test_two_shots_take_references_from_their_own(images, home):
    bright = [cv2.convertScaleAbs(cv2.flip(image, 1), alpha=0.55) for image in images[:12]]
    path = written(home / "two.mp4", [*images[:12], *bright])
    geometry, source = track_clip(path)
    assert geometry.cuts == [12]
    ready = prepare((path, geometry, source), "standard", steps=0)
    edits = RefinedRenderer(geometry, source, changed(source, jawOpen=0.4), ready)
    means = {i: float(np.median([b.image.mean() for b in edits.slots(i)[0]["mouth"]])) for i in (3, 18)}
    assert means[3] > 1.4 * means[18]


def test_a_small_and_a_cut_off_face_are_drawn(images, home):
    small = [cv2.copyMakeBorder(cv2.resize(i, (110, 110), interpolation=cv2.INTER_AREA), 60, 60, 60, 60, cv2.BORDER_REFLECT) for i in images[:8]]  # fmt: skip
    half = [image[:, 96:] for image in images[:8]]
    for name, frames in (("small", small), ("half", half)):
        path = written(home / f"{name}.mp4", frames)
        geometry, source = track_clip(path)
        ready = prepare((path, geometry, source), "standard", steps=0)
        edits = RefinedRenderer(geometry, source, changed(source, mouthSmile=0.6), ready)
        made = edits.render(frames[6], 6)
        assert made.shape == frames[6].shape
        assert np.abs(made.astype(int) - frames[6]).max() > 5


def test_the_reference_of_a_mouth_whose_teeth_meet_is_one_whose_teeth_meet(clip):
    """Of two mouths that stand alike the one with the same teeth is taken, and the other is hardly trusted."""
    appearance = reference_frames.appearance_of(
        np.repeat(np.asarray(clip[1].landmarks[:1]), 3, 0), teeth=np.array([1.0, 0.0, 1.0])
    )
    costs = reference_frames.matching_costs(appearance[:1], appearance[:1], appearance[1:], "mouth")[0]
    assert costs[1] == 0 and costs[0] > 0.1
    assert (
        reference_frames.trust(appearance[0], appearance[0], appearance[2], "mouth") == 1
        and reference_frames.trust(appearance[0], appearance[0], appearance[1], "mouth") <= 0.1
    )
    assert not reference_frames.matching_costs(appearance[:1], appearance[:1], appearance[1:], "eyes").any()


def test_a_mouth_or_an_eye_that_shows_something_else_is_not_trusted(clip):
    """Lips that hardly part show no teeth, teeth do not fit into a seam, and an iris elsewhere would be a second one."""
    own = np.asarray(clip[1].landmarks[0], np.float64)
    unit = np.linalg.norm(own[33, :2] - own[263, :2])
    opened, aside = own.copy(), own.copy()
    opened[list(LOWER_LIP_INNER[1:-1]), 1] += 0.2 * unit
    opened[list(LOWER_LIP_OUTER[1:-1]), 1] += 0.2 * unit
    aside[IRIS, 0] += 0.08 * unit
    faces = reference_frames.appearance_of(np.stack([own, opened, aside]))
    for wanted, offered, part in ((1, 0, "mouth"), (0, 1, "mouth"), (0, 2, "eyes")):
        assert reference_frames.trust(faces[wanted], faces[0], faces[offered], part) == 0
    assert reference_frames.trust(faces[1], faces[0], faces[1], "mouth") == 1
    assert reference_frames.trust(faces[0], faces[0], faces[0], "eyes") == 1


def test_flickering_light_does_not_come_along_with_references(clip, prepared, images):
    geometry = clip[1]
    target = np.asarray(geometry.landmarks[10], np.float64)
    appearance = reference_frames.appearance_of(target[None])
    slots = best_slots(prepared.references, appearance, appearance)
    bright, dark = (np.clip(images[10] * f, 0, 255).astype(np.uint8) for f in (1.0, 0.75))
    a, b = (refine(i, target, target, slots, prepared.network, prepared.size) for i in (bright, dark))
    mouth = cv2.boundingRect(target[[61, 291, 0, 17], :2].astype(np.float32))
    x, y, w, h = mouth
    ratio = b[y : y + h, x : x + w].mean() / a[y : y + h, x : x + w].mean()
    assert ratio == pytest.approx(0.75, abs=0.05)


def test_auto_says_that_it_chose_a_draft(clip):
    path, geometry, source = clip
    edited = changed(source, mouthSmile=0.4)

    def opened(**options: str) -> Renderer:
        spec = RenderSpec(clip=path, track=path, device="cpu", **options)
        return open_renderer(spec, Source(path), geometry, source, edited)

    edits = opened()
    assert type(edits) is WarpRenderer
    assert len(edits.messages) == 1
    assert "--quality standard" in edits.messages[0]
    assert not opened(quality="draft").messages


def test_a_part_in_floating_point_is_refined_as_the_whole_frame_is(clip, prepared, images):
    edits = renderer(clip, prepared, changed(clip[2], mouthSmile=0.7, jawOpen=0.3))
    whole = edits.render(images[20], 20)
    left, top, right, bottom = edits.region(20)
    part = images[20][top:bottom, left:right].astype(np.float32)
    drawn = edits.render_part(part, 20, (left, top))
    assert drawn.dtype == np.float32 and not np.array_equal(drawn, np.rint(drawn))
    difference = np.abs(drawn - whole[top:bottom, left:right])
    assert difference.mean() < 0.5 and np.quantile(difference, 0.999) < 6
    outside = whole.copy()
    outside[top:bottom, left:right] = images[20][top:bottom, left:right]
    np.testing.assert_array_equal(outside, images[20])


def test_references_of_a_deep_clip_keep_its_depth(home, clip, pictures):
    path = home / "deep.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv444p10le"
        for index, picture in enumerate(pictures[:10]):
            frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv444p10le")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    geometry, _ = track_clip(path)
    crops = reference_frames.open_references(path, geometry, 200)
    assert all(image.dtype == np.float32 for image in crops.images)
    plain = reference_frames.open_references(clip[0], clip[1], 200)
    assert all(image.dtype == np.uint8 for image in plain.images)
    index = crops.index[0]
    x, y = crops.landmarks[0][:, :2].mean(0)
    assert (
        np.abs(
            crops.images[0][int(y), int(x)]
            - pictures[index][tuple(geometry.landmarks[index][:, 1::-1].mean(0).astype(int))]
        ).max()
        < 25
    )

"""The watermark: its code, where it lies and how strong it is, and that it is read after what happens to videos."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from short_clips import small

from cmet_engine.errors import InvalidInput
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.face.pose import Pose, denormalise, template
from cmet_engine.pipeline import edit_clip
from cmet_engine.provenance import ledger, show
from cmet_engine.provenance.mark_code import CHIPS, decode, encode
from cmet_engine.provenance.mark_reader import SURE, Found, evidence, find_in
from cmet_engine.provenance.mark_surface import places, unrolled
from cmet_engine.provenance.seal import Signatory
from cmet_engine.provenance.watermark import Marker, mark
from cmet_engine.spec import EditSpec, RenderSpec

SIDE, UNIT, RATE, FRAMES, ID = 192, 80, 25, 75, 0xFEDCBA9876543210
REGION = np.zeros((SIDE, SIDE), bool)
REGION[16:-16, 20:-20] = True


def pose(index: int, rate: float = RATE, share: float = 1, crop: int = 0) -> Pose:
    """A head that sways a little, in a picture of SIDE pixels that was cropped by some and then scaled by a share."""
    angle = 0.25 * np.sin(index / rate)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    middle = np.array([SIDE / 2 + 6 * np.sin(2 * index / rate) - crop, -SIDE / 2 + crop, 0])
    return Pose(np.array([UNIT * share]), turn[None], (middle * share)[None])


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """Luma of a textured face that moves as `pose` does, with noise: uint8 [FRAMES, SIDE, SIDE]."""
    random = np.random.default_rng(3)
    skin = cv2.GaussianBlur(random.normal(0, 1, (256, 256)).astype(np.float32), (0, 0), 5) * 200 + 130
    frames = []
    for index in range(FRAMES):
        x, y = places(pose(index), 0, (0, 0, SIDE, SIDE))
        face = cv2.remap(skin, x * 3 + 40, y * 3 + 30, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        frames.append(np.clip(face + random.normal(0, 1, face.shape), 16, 235).astype(np.uint8))
    return np.stack(frames)


@pytest.fixture(scope="module")
def marked(plain) -> np.ndarray:
    parts = [
        mark(ID, i / RATE, pose(i), luma.astype(np.float32), REGION, (0, 0)) * (219 / 255)
        for i, luma in enumerate(plain)
    ]
    return np.clip(np.rint(plain + np.stack(parts)), 0, 255).astype(np.uint8)


def encoded(frames: np.ndarray, path: Path, factor: int) -> np.ndarray:
    """Luma after H.264."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": str(factor)})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for luma in frames:
            frame = av.VideoFrame.from_ndarray(luma, format="gray").reformat(format="yuv420p")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray()[: frame.height] for frame in file.decode(video=0)])


def heard(frames: np.ndarray, share: float = 1, crop: int = 0, known: Sequence[int] = ()) -> Found | None:
    surfaces = [unrolled(luma, pose(i, RATE, share, crop), 0) for i, luma in enumerate(frames)]
    return find_in([evidence(np.stack(surfaces), np.arange(len(frames)) / RATE)], known)


def test_the_code_corrects_what_noise_turns_over_and_knows_when_it_cannot():
    random = np.random.default_rng(0)
    sent = encode(ID)
    assert sent.shape == (CHIPS,) and set(sent) == {-1, 1}
    noisy = (0.72 * sent + random.normal(0, 1, CHIPS)).astype(np.float32)
    assert ((noisy < 0) != (sent < 0)).mean() > 0.15
    assert decode(sent) == decode(noisy) == ID
    assert sum(decode(random.normal(0, 1, CHIPS).astype(np.float32)) is None for _ in range(8)) >= 7
    assert ((encode(ID ^ 1 << 40) != sent).mean()) > 0.15


def test_the_id_is_read_after_h264_crop_and_half_size(marked, tmp_path):
    found = heard(encoded(marked, tmp_path / "a.mp4", 23))
    assert found is not None and found.number == ID
    cropped = marked[:, 8:-8, 8:-8]
    small = np.stack([cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for luma in cropped])
    found = heard(encoded(small, tmp_path / "b.mp4", 23), share=0.5, crop=8)
    assert found is not None and found.number == ID


def test_the_id_is_read_at_another_rate_gamma_and_start(marked):
    later = marked[7:]
    shown = np.rint(255 * (later[::2] / 255) ** 1.2).astype(np.uint8)  # every other frame
    surfaces = [unrolled(luma, pose(7 + 2 * i), 0) for i, luma in enumerate(shown)]
    found = find_in([evidence(np.stack(surfaces), np.arange(len(shown)) * 2 / RATE)])
    assert found is not None and found.number == ID


def test_a_mark_too_weak_to_say_its_id_is_found_and_known(plain, marked):
    weak = (plain + 0.07 * (marked.astype(np.float32) - plain)) + np.random.default_rng(1).normal(0, 8, plain.shape)
    found = heard(weak)
    assert found is not None and found.number is None and found.score >= SURE
    found = heard(weak, known=(1, ID, 2))
    assert found is not None and found.number == ID


def test_nothing_is_read_where_nothing_is(plain):
    assert heard(plain) is None
    flat = np.full_like(plain, 128)
    assert heard(flat) is None


def test_the_mark_is_faint_and_lies_only_where_it_may(plain, marked):
    change = marked.astype(int) - plain
    assert not change[:, ~REGION].any()
    assert 10 * np.log10(255**2 / (change[:, REGION] ** 2).mean()) >= 44
    assert np.abs(change).max() <= 6
    flat = np.full((SIDE * 3, SIDE * 3), 128, np.float32)
    large = Pose(np.array([3.0 * UNIT]), np.eye(3)[None], np.array([[SIDE * 1.5, -SIDE * 1.5, 0]]))
    assert np.abs(mark(ID, 0, large, flat, np.ones(flat.shape, bool), (0, 0))).mean() < 0.3


def test_the_mark_on_a_large_face_lies_only_where_it_may():
    side = SIDE * 4 + 3
    luma = np.full((side, side), 128, np.float32)
    edited = np.zeros(luma.shape, np.uint8)
    cv2.ellipse(edited, (side // 2, side // 2), (230, 301), 20, 0, 360, (255,), cv2.FILLED)
    inside = edited.copy()
    edited[np.random.default_rng(2).random(edited.shape) < 0.2] = 0  # places that the edit left as they were by chance
    large = Pose(np.array([4.0 * UNIT]), np.eye(3)[None], np.array([[side / 2, -side / 2, 0]]))
    change = mark(ID, 0, large, luma, edited, (0, 0))
    assert not change[inside == 0].any()
    deep = cv2.erode(inside, np.ones((41, 41), np.uint8)) > 0
    assert (np.abs(change[deep]) > 0.02).mean() > 0.8


def geometry_of(landmarks: np.ndarray) -> FaceGeometry:
    """Where a face is, in every frame the same size."""
    count = len(landmarks)
    return FaceGeometry(
        landmarks, np.ones(count, bool), (SIDE, SIDE), Fraction(RATE), np.arange(count) / RATE, np.zeros((count, 3), np.float32),
        np.zeros((count, 4), np.float32), fade=np.ones(count, np.float32),
    )  # fmt: skip


def test_the_mark_on_a_still_head_turns_slowly_and_is_read(plain):
    random, points = np.random.default_rng(5), template().points[None]
    still, moving = (
        Marker(ID, [geometry_of(np.concatenate([denormalise(points, pose(i * moves)) for i in range(FRAMES)]))])
        for moves in (0, 5)
    )
    after = np.repeat((plain[0] + REGION)[..., None], 3, 2).astype(np.uint8)
    edited = REGION.astype(np.uint8)
    marks = [
        np.stack([marker(i, i / RATE, after, edited, (0, 0)) for i in range(FRAMES)]) for marker in (still, moving)
    ]
    slow, fast = (np.abs(np.diff(one, axis=0)).mean() for one in marks)
    assert 0 < slow < 0.3 * fast
    shown = np.rint(after[..., 1] + marks[0] + random.normal(0, 1, marks[0].shape))
    surfaces = np.stack([unrolled(luma, pose(0), 0) for luma in shown])
    found = find_in([evidence(surfaces, np.arange(FRAMES) / RATE)])
    assert found is not None and found.number == ID


def test_a_lost_face_is_not_marked(plain):
    lost = geometry_of(np.zeros((1, 478, 3), np.float32))
    after = np.repeat(plain[0][..., None], 3, 2)
    assert not Marker(ID, [lost])(0, 0.0, after, np.ones(after.shape[:2], np.uint8), (0, 0)).any()


def test_one_request_has_one_id(tmp_path):
    clip, other = tmp_path / "a.mp4", tmp_path / "moved.mp4"
    clip.write_bytes(b"a clip")
    other.write_bytes(b"a clip")

    def watermark_of(spec):
        return Signatory(spec).seal(" ".join(getattr(spec, "emotions", ()))).mark

    number = watermark_of(EditSpec(clip=clip, emotions=("happy",)))
    assert number is not None and number == watermark_of(EditSpec(clip=other, emotions=("happy",)))
    assert 0 <= number < 2**64
    assert number != watermark_of(EditSpec(clip=clip, emotions=("sad",)))
    other.write_bytes(b"another clip")
    assert number != watermark_of(EditSpec(clip=other, emotions=("happy",)))
    assert watermark_of(RenderSpec(clip=clip, track=clip, watermark=False)) is None
    with pytest.raises(InvalidInput, match="watermark"):
        EditSpec.read({"clip": "a.mp4", "watermark": "perhaps"})


def test_a_copy_without_credentials_is_known_by_its_mark(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_HOME", str(tmp_path / "home"))
    clip = small(tmp_path / "take.mp4", frames=45, size=256)
    result = edit_clip(EditSpec(clip=clip, emotions=("happy",), quality="draft"), tmp_path / "out")
    (entry,) = ledger.entries()
    copy = tmp_path / "copy.mp4"
    with av.open(str(result.files["edited.mp4"])) as edited, av.open(str(copy), "w") as file:
        shown = edited.streams.video[0]
        stream = file.add_stream("libx264", rate=shown.average_rate, options={"crf": "26"})
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        for frame in edited.decode(shown):
            file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode())
    assert show.examine(copy).recorded is None
    mark = show.mark_in(copy)
    assert mark == entry["id"] == entry["watermark"]
    verdict = show.examine(copy, lambda _: mark)
    assert verdict.credentials == show.NONE and (verdict.recorded or {})["source"] == str(clip)
    assert show.mark_in(clip) is None
    sentences = show.examine(copy, lambda _: show.NO_ID).sentences
    assert any("edited it. Too little of it is left" in sentence for sentence in sentences)

"""A clip rendered in its own pixel format: read back from a lossless file, it is the clip but for the face, to the last bit."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.codec.context import Flags
from soak_cases import soak

from cmet_engine import arkit
from cmet_engine.face.clip import track_clip
from cmet_engine.face.geometry import FaceGeometry
from cmet_engine.media.info import Frame
from cmet_engine.media.planes import LEFT, Tag, layout, read_rgb, views
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter
from cmet_engine.models.assets import ASSETS
from cmet_engine.render.own_format import FrameRenderer
from cmet_engine.render.stream import VideoOutput, render_video
from cmet_engine.render.warp import WarpRenderer
from cmet_engine.track import CoefficientTrack

SAMPLE = ASSETS / "sample" / "talking_head.mp4"
FRAMES, SIDE = 3, 256


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """The head, uint8, without the shaven edge: some background on all sides."""
    with av.open(str(SAMPLE)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(FRAMES), strict=False)]
    return [frame.reformat(SIDE, SIDE, "rgb24").to_ndarray() for frame in frames]


@pytest.fixture(scope="module")
def face(images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceGeometry, CoefficientTrack]:
    path = tmp_path_factory.mktemp("face") / "clip.mp4"
    with VideoWriter(path, SIDE, SIDE, 25) as writer:
        for image in images:
            writer.write(image)
    return track_clip(path)


def smiling(face: tuple[FaceGeometry, CoefficientTrack]) -> WarpRenderer:
    geometry, source = face
    edited = source.copy()
    for name in ("mouthSmile", "browDown", "noseSneer", "eyeSquint"):
        edited.coefficients[:, arkit.columns([f"{name}Left", f"{name}Right"])] += 0.7
    edited.coefficients[:, arkit.INDEX["jawOpen"]] += 0.3
    return WarpRenderer(geometry, source, edited)


def clip(path: Path, images: list[np.ndarray], pixels: str, codec: str = "ffv1", **about: Any) -> Path:
    """The head as a clip in a pixel format, its lowest bits and its alpha random."""
    random = np.random.default_rng(3)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=about.pop("options", {}))
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], pixels
        if rotation := about.pop("rotation", 0):
            stream.set_display_rotation(rotation)
        colours = {"colorspace": 1, "color_range": 1, "color_primaries": 1, "color_trc": 1, **about}
        for name, value in colours.items():
            setattr(stream.codec_context, name, value)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image).reformat(
                format=pixels, dst_colorspace=colours["colorspace"], dst_color_range=colours["color_range"]
            )
            if layout(pixels).bits > 8 and frame.format.is_planar:
                for number, plane in enumerate(views(frame)):
                    low = 2 ** (layout(pixels).bits - 8)
                    if layout(pixels).alpha and number == 3:
                        plane[...] = random.integers(0, 256 * low, plane.shape)
                    else:
                        plane[...] = plane // low * low + random.integers(0, low, plane.shape)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            for name, value in colours.items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def planes_of(path: Path) -> list[list[np.ndarray]]:
    return [views(frame.source) for frame in VideoReader(path).frames(planes=True) if frame.source is not None]


@pytest.mark.parametrize(
    ("pixels", "about"),
    [
        ("yuv420p", {}),
        ("yuv420p", {"colorspace": 6, "color_range": 2}),
        ("yuv422p10le", {}),
        ("gray10le", {}),
        ("yuv420p10le", {"colorspace": 9, "color_primaries": 9, "color_trc": 16}),
        ("gbrp16le", {}),
        ("bgr0", {}),
        ("yuva444p10le", {}),
        *soak(("yuv422p", {}), ("yuv444p12le", {}), ("yuv420p10le", {"color_range": 2}), ("rgb48le", {})),
    ],
)
def test_a_lossless_file_equals_the_clip_outside_the_face(face, images, tmp_path, pixels, about) -> None:
    source, target = clip(tmp_path / "in.mkv", images, pixels, **about), tmp_path / "out.mkv"
    info = VideoReader(source).info
    renderer = smiling(face)
    render_video(source, renderer, VideoOutput(target, codec="ffv1", watermark=7))
    written = VideoReader(target).info
    assert written.pixels == info.pixels and written.colors == info.colors and written.codec == "ffv1"
    before, after = planes_of(source), planes_of(target)
    assert len(before) == len(after) == FRAMES
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        left, top, right, bottom = renderer.region(index)
        assert (right - left) * (bottom - top) < 0.8 * SIDE * SIDE
        for number, (a, b) in enumerate(zip(old, new, strict=True)):
            if number == 3:
                np.testing.assert_array_equal(a, b)  # alpha
                continue
            across, down = SIDE // a.shape[1], SIDE // a.shape[0]
            outside = np.ones(a.shape, bool)
            outside[top // down : -(-bottom // down), left // across : -(-right // across)] = False
            np.testing.assert_array_equal(a[outside], b[outside])
            assert (a != b).sum() > 0.02 * a.size
            assert (a == b).sum() > 0.3 * a.size


def test_prores_4444_keeps_its_alpha(face, images, tmp_path) -> None:
    source = clip(
        tmp_path / "in.mov", images, "yuva444p10le", "prores_ks", options={"profile": "4444", "alpha_bits": "16"}
    )
    notes = render_video(source, smiling(face), VideoOutput(tmp_path / "out.mov"))
    assert [note for note in notes if "bits" in note] == [
        "ProRes 4444 is written with 10 bits a colour; if the clip has 12, use ffv1."  # nobody can tell from its header
    ]
    assert VideoReader(tmp_path / "out.mov").info.pixels == VideoReader(source).info.pixels == "yuva444p12le"
    for old, new in zip(planes_of(source), planes_of(tmp_path / "out.mov"), strict=True):
        assert np.abs(old[3].astype(int) - new[3]).max() <= 4  # 10 bits on the way, of 12
    render_video(source, smiling(face), VideoOutput(tmp_path / "out.mkv", codec="ffv1"))
    for old, new in zip(planes_of(source), planes_of(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(old[3], new[3])
        np.testing.assert_array_equal(old[0][:20], new[0][:20])


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p10le"])
def test_a_turned_phone_clip_of_odd_size(face, images, tmp_path, pixels) -> None:
    turned = [np.ascontiguousarray(np.rot90(image[:, 1:], -1)) for image in images]  # stored lying, shown upright
    source = clip(tmp_path / "in.mkv", turned, pixels, rotation=90)
    info = VideoReader(source).info
    assert (info.width, info.height) == (SIDE - 1, SIDE)
    render_video(source, smiling(face), VideoOutput(tmp_path / "out.mkv", codec="ffv1"))
    with av.open(str(source)) as container:
        stored = [[plane.copy() for plane in views(frame)] for frame in container.decode(video=0)]
    for old, new in zip(stored, planes_of(tmp_path / "out.mkv"), strict=True):
        for a, b in zip(old, new, strict=True):
            upright = np.rot90(a)
            assert upright.shape == b.shape
            np.testing.assert_array_equal(upright[:6], b[:6])
            np.testing.assert_array_equal(upright[:, :6], b[:, :6])
            assert (upright != b).any()


def test_the_edit_has_the_depth_of_the_clip(face, images, tmp_path) -> None:
    """A smooth ramp of ten bits over the face stays smooth: it has more levels than eight bits can tell apart."""
    renderer = smiling(face)
    frame = av.VideoFrame(SIDE, SIDE, "yuv420p10le")
    luma, *chroma = views(frame)
    luma[...] = np.linspace(100, 900, SIDE * SIDE).reshape(SIDE, SIDE)
    for plane in chroma:
        plane[...] = 512
    info = VideoReader(clip(tmp_path / "in.mkv", images, "yuv420p10le")).info
    old = luma.copy()
    shown = np.clip(read_rgb(frame, (0, 0, SIDE, SIDE), info.colors) + 0.5, 0, 255).astype(np.uint8)
    FrameRenderer(renderer, info)([Frame(0, Fraction(0), shown, frame)])
    changed = old != luma
    left, top, right, bottom = renderer.region(0)
    assert changed.sum() > 5000 and not changed[:top].any()
    assert len(np.unique(luma[changed])) > 256
    # skin that moves smoothly takes every level along: none is jumped over for long
    column = luma[top:bottom, (left + right) // 2 + SIDE // 6].astype(int)
    assert len(np.unique(column)) > 0.9 * len(np.unique(old[top:bottom, (left + right) // 2 + SIDE // 6]))


def test_ten_bits_look_like_eight(face, images, tmp_path) -> None:
    """Of one picture in 8 and in 10 bits the edit is the same, but for rounding."""
    edits = []
    for pixels in ("yuv444p", "yuv444p10le"):
        info = VideoReader(clip(tmp_path / f"{pixels}.mkv", images, pixels)).info
        frame = next(VideoReader(tmp_path / f"{pixels}.mkv").frames(planes=True))
        source: Any = frame.source
        picture = FrameRenderer(smiling(face), info)([frame])[0].image
        shown = read_rgb(source, (0, 0, SIDE, SIDE), info.colors)
        assert np.abs(shown.clip(0, 255) - picture).max() < 3  # what is previewed is what is written
        edits.append(shown)
    difference = np.abs(edits[0] - edits[1])
    assert difference.mean() < 1 and np.quantile(difference, 0.999) < 5


def interlaced(
    path: Path, moments: list[np.ndarray], order: str, pixels: str, codec: str = "ffv1", **opts: str
) -> Path:
    """Two moments in each frame of a clip, line by line."""
    start = 0 if order == "tff" else 1
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=opts)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, pixels
        stream.codec_context.flags |= Flags.interlaced_dct
        tag = Tag((SIDE, SIDE), pixels, LEFT, order)
        for index in range(len(moments) // 2):
            first, second = (
                av.VideoFrame.from_ndarray(image).reformat(format=pixels, dst_colorspace=1, dst_color_range=1)
                for image in moments[2 * index : 2 * index + 2]
            )
            frame = av.VideoFrame(SIDE, SIDE, pixels)
            for plane, one, other in zip(views(frame), views(first), views(second), strict=True):
                plane[start::2], plane[1 - start :: 2] = one[start::2], other[1 - start :: 2]
            frame = tag(frame)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def stored(path: Path) -> list[tuple[list[np.ndarray], bool]]:
    """Planes of every frame as they are stored, and whether it is interlaced."""
    with av.open(str(path)) as container:
        return [([plane.copy() for plane in views(f)], f.interlaced_frame) for f in container.decode(video=0)]


@pytest.mark.parametrize(("order", "pixels"), [("tff", "yuv420p"), ("bff", "yuv422p10le")])
def test_interlaced_pictures_stay_so(face, images, tmp_path, order, pixels) -> None:
    """In a lossless file every sample outside the face is the clip's, and both fields of the face are edited."""
    moments = [np.roll(image, 5 * number, 1) for number, image in enumerate(images * 2)]  # all moves
    source, renderer = interlaced(tmp_path / "in.mkv", moments, order, pixels), smiling(face)
    halfway = (renderer.target(0) + renderer.target(1)) / 2
    np.testing.assert_allclose(renderer.half_later().target(0), halfway)  # where the face is at the second moment
    notes = render_video(source, renderer, VideoOutput(tmp_path / "out.mkv", codec="ffv1", matte=tmp_path / "m.mkv"))
    assert VideoReader(tmp_path / "out.mkv").info.field_order == order
    assert not any("interlaced" in note for note in notes)
    mattes = [frame.image[..., 0] > 0 for frame in VideoReader(tmp_path / "m.mkv")]
    pairs = zip(stored(source), stored(tmp_path / "out.mkv"), mattes, strict=True)
    for (before, _), (after, is_interlaced), matte in pairs:
        assert is_interlaced
        for a, b in zip(before, after, strict=True):
            inside = matte[:: SIDE // a.shape[0], :: SIDE // a.shape[1]]
            inside = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3))) > 0
            np.testing.assert_array_equal(a[~inside], b[~inside])
            assert all((a != b)[field::2].sum() > 0.02 * a[field::2].size for field in (0, 1))


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [
        ("h.mp4", None, True),
        ("p.mov", "prores_hq", True),
        ("q.mov", "prores_4444", True),
        ("e.mp4", "hevc", False),
        ("s.png", None, False),
    ],
)
def test_an_edit_brings_no_comb(face, images, tmp_path, name, codec, kept) -> None:
    """Of a face that stands still the edited fields fit line to line; where no fields fit in, that is said."""
    source = interlaced(tmp_path / "in.mkv", [images[0]] * 2, "bff", "yuv420p")
    notes = render_video(source, smiling(face), VideoOutput(tmp_path / name, codec=codec))
    assert any("interlaced" in note or "fields" in note for note in notes) is not kept
    path = tmp_path / (name if name != "s.png" else "s_000001.png")
    assert VideoReader(path).info.field_order == ("bff" if kept else "")
    whole = next(VideoReader(clip(tmp_path / "whole.mkv", images[:1], "yuv420p")).frames(planes=True))
    edited = smiling(face).render(whole.image.copy(), 0)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        picture = frame.to_ndarray(format="rgb24", **({} if frame.format.is_rgb else {"src_colorspace": 1}))
    rows = [shown[..., 1].astype(float) for shown in (edited, picture)]
    combs = [np.abs(one[1:-1] - (one[:-2] + one[2:]) / 2).mean() for one in rows]
    assert combs[1] < 1.3 * combs[0]  # compression adds a tenth; an edit of one field alone makes it 2.3
    assert 10 * np.log10(255**2 / ((rows[0] - rows[1]) ** 2).mean()) > 38

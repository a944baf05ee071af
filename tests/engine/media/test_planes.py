"""Pictures keep their clip's own pixel format: every bit where nothing was changed, and all its depth where something was."""

from dataclasses import replace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from media_clips import MakeClip

from cmet_engine.media.colour import ToEncoder, ToRgb, orientation_of
from cmet_engine.media.info import Colors
from cmet_engine.media.planes import (
    CENTER,
    LEFT,
    PLACES,
    TOP_LEFT,
    Tag,
    Upright,
    box_of,
    changed_pixels,
    layout,
    planar_name,
    read_rgb,
    turned_place,
    views,
    write_change,
)
from cmet_engine.media.reader import VideoReader

SIZE = (48, 32)
BOX = (10, 6, 33, 25)


def noise(pixels: str, size: tuple[int, int] = SIZE) -> av.VideoFrame:
    """A frame whose every sample is random, so that nothing that changes it goes unseen."""
    random = np.random.default_rng(5)
    frame = av.VideoFrame(*size, pixels)
    for plane in views(frame):
        plane[...] = random.integers(0, 2 ** layout(pixels).bits, plane.shape)
    return frame


def flat(pixels: str, value: float = 0.5, size: tuple[int, int] = SIZE) -> av.VideoFrame:
    frame = av.VideoFrame(*size, pixels)
    for plane in views(frame):
        plane[...] = round(value * 2 ** layout(pixels).bits)
    return frame


def copies(frame: av.VideoFrame) -> list[np.ndarray]:
    return [plane.astype(int) for plane in views(frame)]


FORMATS = [
    "yuv420p", "yuv422p10le", "yuv444p12le", "yuv411p", "yuv440p10le", "gray", "gray10le", "gray16le", "yuva444p10le", "yuva420p",
    "gbrp", "gbrap", "gbrp10le", "gbrp16le", "yuv420p16le",
]  # fmt: skip


@pytest.mark.parametrize("size", [SIZE, (47, 33)])
@pytest.mark.parametrize("pixels", FORMATS)
def test_only_what_was_changed_is_written(pixels: str, size: tuple[int, int]) -> None:
    frame, about = noise(pixels, size), layout(pixels)
    before = copies(frame)
    shown = read_rgb(frame, BOX, Colors())
    write_change(frame, BOX, shown, shown.copy(), Colors())
    assert all(np.array_equal(a, b) for a, b in zip(before, copies(frame), strict=True))
    after = shown.copy()
    after[5:9, 7:12] += 40
    write_change(frame, BOX, shown, after, Colors())
    for number, (a, b) in enumerate(zip(before, copies(frame), strict=True)):
        rows, columns = np.nonzero(a != b)
        if number == 3 or (number and not about.rgb):
            assert not len(rows)  # alpha, and the chroma of a change of brightness
            continue
        assert len(rows) > 10
        assert rows.min() >= 11 and rows.max() < 15 and columns.min() >= 17 and columns.max() < 22


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p", "yuv440p12le"])
@pytest.mark.parametrize("place", [LEFT, CENTER, TOP_LEFT])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("full", [False, True])
def test_a_colour_comes_out_as_it_was_asked_for(pixels: str, place: int, matrix: int, full: bool) -> None:
    colors = Colors(matrix, full, chroma_place=place)
    frame = flat(pixels)
    shown = read_rgb(frame, (0, 0, *SIZE), colors)
    wanted = np.zeros_like(shown) + np.float32([200.3, 90.7, 60.2])
    write_change(frame, (0, 0, *SIZE), shown, wanted, colors)
    step = 1.6 / 2 ** (layout(pixels).bits - 8)
    np.testing.assert_allclose(read_rgb(frame, (0, 0, *SIZE), colors), wanted, atol=step)


@pytest.mark.parametrize(
    "pixels", ["yuv420p", "yuv422p", "yuv444p", "gray", "gbrp", "yuv420p10le", "gray10le", "gbrp16le"]
)
def test_colours_are_those_of_the_scaler(pixels: str) -> None:
    y, x = np.mgrid[0:32, 0:48]
    image = np.stack([60 + 3 * x, 40 + 5 * y, 200 - 2 * x - y], 2).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(image).reformat(format=pixels, dst_colorspace=1, dst_color_range=1)
    frame.colorspace, frame.color_range = 1, 1
    shown = read_rgb(frame, (0, 0, *SIZE), Colors(chroma_place=CENTER))
    difference = np.abs(shown - ToRgb()(frame))[2:-2, 2:-2]  # the scaler ends otherwise at the edge
    assert difference.max() < (1.2 if layout(pixels).across == 1 else 3.5)


def test_chroma_lies_where_the_clip_says() -> None:
    """A block of colour that begins at a chroma sample's own place is written to that sample, not beside it."""
    for place, first in ((LEFT, 0.75), (CENTER, 1.0)):
        frame = flat("yuv420p10le")
        before = copies(frame)
        shown = read_rgb(frame, (0, 0, *SIZE), Colors())
        after = shown.copy()
        after[:, 16:] += np.float32([60, -18.2, 3])
        write_change(frame, (0, 0, *SIZE), shown, after, Colors(chroma_place=place))
        change = (copies(frame)[2] - before[2])[8].astype(float)
        assert change[12] > 20 and not change[:6].any()
        # the mean over the samples that straddle the edge tells where it lies
        assert change[7:10].sum() / change[14] == pytest.approx(1 + first, abs=0.06)


def test_a_moved_edge_leaves_no_ghost_of_its_colour() -> None:
    """Colours that were averaged to chroma samples and enlarged again: their old detail goes when they are painted over."""
    frame = flat("yuv420p10le")
    views(frame)[2][:, 10:] = 700
    colors = Colors(chroma_place=LEFT)
    shown = read_rgb(frame, (0, 0, *SIZE), colors)
    plain = np.broadcast_to(shown[:, :1], shown.shape)
    write_change(frame, (0, 0, *SIZE), shown, np.ascontiguousarray(plain), colors)
    assert np.abs(copies(frame)[2] - 512).max() <= 0.05 * 188


def test_depth_is_kept_where_something_was_changed() -> None:
    frame = flat("yuv420p10le")
    views(frame)[0][...] = np.linspace(200, 800, SIZE[0] * SIZE[1]).reshape(SIZE[::-1])
    shown = read_rgb(frame, (0, 0, *SIZE), Colors())
    write_change(frame, (0, 0, *SIZE), shown, shown * np.float32(0.9), Colors())
    assert len(np.unique(views(frame)[0])) > 450


def test_where_pictures_differ() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    other = picture.copy()
    assert box_of(changed_pixels(picture, picture)) is None
    other[4, 7, 1], other[9, 20, 2] = 1, 1
    assert box_of(changed_pixels(picture, other)) == (7, 4, 21, 10)
    assert box_of(changed_pixels(picture, other, 1)) is None


@pytest.mark.parametrize(
    ("pixels", "planar"),
    [
        ("nv12", "yuv420p"), ("p010le", "yuv420p10le"), ("uyvy422", "yuv422p"), ("y210le", "yuv422p10le"), ("rgb24", "gbrp"),
        ("bgra", "gbrap"), ("bgr0", "gbrp"), ("rgb48le", "gbrp16le"), ("rgba64be", "gbrap16le"), ("x2rgb10le", "gbrp10le"),
        ("pal8", "gbrap"), ("ya8", "gbrap"), ("yuvj422p", "yuv422p"), ("yuv422p10be", "yuv422p10le"), ("gray16be", "gray16le"),
        ("ayuv64le", "yuva444p16le"), ("gbrpf32le", "gbrpf32le"), ("gbrapf16be", "gbrapf16le"),
        ("grayf32le", "grayf32le"), ("bayer_rggb8", None),
    ],
)  # fmt: skip
def test_packed_formats_have_a_planar_one(pixels: str, planar: str | None) -> None:
    assert planar_name(pixels) == planar


@pytest.mark.parametrize(
    ("codec", "pixels", "size"),
    [
        ("ffv1", "yuv420p", (64, 48)), ("ffv1", "yuv422p10le", (64, 48)), ("ffv1", "yuv444p12le", (63, 47)),
        ("ffv1", "gray10le", (64, 48)), ("ffv1", "gbrp16le", (63, 47)), ("ffv1", "rgb48le", (64, 48)), ("ffv1", "bgra", (64, 48)),
        ("rawvideo", "uyvy422", (64, 48)), ("rawvideo", "nv12", (64, 48)), ("libx264", "yuv420p", (64, 48)),
        ("libx265", "yuv420p10le", (64, 48)),
    ],
)  # fmt: skip
def test_the_reader_hands_out_the_decoded_planes(
    make_clip: MakeClip, codec: str, pixels: str, size: tuple[int, int]
) -> None:
    options = {"x265-params": "log-level=error:bframes=0"} if codec == "libx265" else {}
    clip = make_clip(
        "clip.mkv" if codec != "rawvideo" else "clip.avi",
        codec=codec,
        pixels=pixels,
        size=size,
        frames=3,
        options=options,
    )
    with av.open(str(clip)) as container:
        stored = [frame.reformat(format=planar_name(frame.format.name)) for frame in container.decode(video=0)]
    read = list(VideoReader(clip).frames(planes=True))
    assert len(read) == len(stored) == 3
    for frame, wanted in zip(read, stored, strict=True):
        assert frame.source is not None and frame.source.format.name == wanted.format.name
        for a, b in zip(views(frame.source), views(wanted), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (
            np.abs(ToRgb()(frame.source).astype(int) - frame.image).max() <= 1
        )  # matrix and range are known of it too
    assert all(frame.source is None for frame in VideoReader(clip))


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p"])
def test_a_turned_clip_has_its_planes_turned(make_clip: MakeClip, rotation: int, pixels: str) -> None:
    clip = make_clip("clip.mp4", rotation=rotation, pixels=pixels, size=(64, 48), frames=2)
    with av.open(str(clip)) as container:
        stored = next(container.decode(video=0))
    frame: Any = next(VideoReader(clip).frames(planes=True))
    for a, b in zip(views(frame.source), views(stored), strict=True):
        np.testing.assert_array_equal(a, np.rot90(b, rotation // 90))
    about = VideoReader(clip).info
    assert frame.source.format.name == about.pixels == (pixels if rotation == 180 or pixels != "yuv422p" else "yuv440p")
    colors = replace(about.colors, chroma_place=CENTER)
    shown = read_rgb(frame.source, (0, 0, about.width, about.height), colors)
    assert np.abs(shown - frame.image)[2:-2, 2:-2].max() < 4


@pytest.mark.parametrize("place", ["left", "topleft", "center"])
def test_the_chroma_place_is_read(make_clip: MakeClip, place: str) -> None:
    clip = make_clip("clip.mkv", options={"chroma_sample_location": place}, frames=2)
    assert VideoReader(clip).info.colors.chroma_place == {"left": 1, "center": 2, "topleft": 3}[place]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("place", ["left", "topleft", "center"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p"])
def test_the_proxy_and_the_planes_show_chroma_in_one_place(
    make_clip: MakeClip, rotation: int, place: str, pixels: str
) -> None:
    """Colours that change quickly come out the same by FFmpeg's scaler, before turning, and from the turned planes."""
    clip = make_clip(
        "clip.mp4", pixels=pixels, rotation=rotation, frames=1, options={"chroma_sample_location": place, "qp": "0"}
    )
    with av.open(str(clip)) as container:  # the fixture's colours are too smooth
        stored = next(container.decode(video=0))
    random = np.random.default_rng(2)
    for plane in views(stored)[1:]:
        plane[...] = cv2.GaussianBlur(random.normal(128, 70, plane.shape), (0, 0), 1).clip(70, 180)
    views(stored)[0][...] = 128
    info = VideoReader(clip).info
    if pixels == "yuv422p":  # H.264 does not say where it lies across only; the scaler takes what it is told
        stored = Tag((64, 48), pixels, PLACES.index(place))(stored)
    turned = orientation_of(stored)
    colors = replace(
        info.colors, chroma_place=turned_place(PLACES.index(place), layout(pixels), (info.width, info.height), turned)
    )
    own = Upright((info.width, info.height), info.pixels, colors, turned)(stored)
    to_rgb = ToRgb()
    to_rgb.orientation = turned
    shown = read_rgb(own, (0, 0, info.width, info.height), colors).clip(0, 255)
    difference = np.abs(shown - to_rgb(stored))[4:-4, 4:-4]
    assert difference.mean() < 1.0


def test_resampled_chroma_stays_where_it_is() -> None:
    """From 4:2:0 to 4:2:2 and 4:4:4, as ProRes wants it, a block of colour does not wander."""
    for place in (LEFT, CENTER, TOP_LEFT):
        colors = Colors(chroma_place=place)
        frame = flat("yuv420p10le")
        views(frame)[2][:, 12:] = 800
        views(frame)[2][9:] = 300
        frame = Tag(SIZE, "yuv420p10le", place)(frame)
        wanted = read_rgb(frame, (0, 0, *SIZE), colors)
        for pixels in ("yuv444p10le", "yuv422p10le", "yuv420p"):
            made = ToEncoder(colors, colors, pixels)(frame)
            if pixels == "yuv422p10le":
                colors = replace(colors, chroma_place=LEFT if place != CENTER else CENTER)
            difference = np.abs(read_rgb(made, (0, 0, *SIZE), colors) - wanted)[4:-4, 4:-4]
            assert difference.mean() < 1.5, (place, pixels)
            colors = Colors(chroma_place=place)

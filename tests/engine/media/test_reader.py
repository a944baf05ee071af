"""The frames of clips of every kind, made on the spot."""

import itertools
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_clips import MakeClip, copy, picture, psnr, same_pictures

from cmet_engine.media.planes import views
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.source import Decoded, Source, decoded_frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_frame_of_a_variable_rate_keeps_its_time(make_clip: MakeClip, tmp_path: Path, suffix: str) -> None:
    ticks = [0, 40, 70, 110, 111, 200, 260, 300, 350, 390, 500, 501]
    source = make_clip("clip" + suffix, ticks=ticks, time_base=Fraction(1, 1000))
    info = probe(source)
    assert info.variable
    frames, _ = copy(source, tmp_path / ("out" + suffix))
    assert [f.time for f in frames] == [Fraction(t, 1000) for t in ticks]
    after = VideoReader(tmp_path / ("out" + suffix))
    assert after.info.variable
    assert after.info.fps == info.fps
    same_pictures(frames, after)


def test_damage_in_the_middle_does_not_stop_the_rest(make_clip: MakeClip) -> None:
    source = make_clip("clip.mkv", frames=60, options={"crf": "10", "g": "10"})
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = os.urandom(200)
    source.write_bytes(data)
    times = [f.time for f in VideoReader(source)]
    assert len(times) > 20
    assert all(b > a for a, b in itertools.pairwise(times))


def test_one_frame(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip("clip.mp4", frames=1)
    info = probe(source)
    assert (info.frames, info.duration, info.variable) == (1, pytest.approx(0.04), False)
    frames, _ = copy(source, tmp_path / "out.mp4")
    same_pictures(frames, VideoReader(tmp_path / "out.mp4"))


def test_a_short_clip_that_was_read_is_not_decoded_again(make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip("clip.mp4", frames=30)
    expected = [(frame.time, frame.image) for frame in VideoReader(path)]
    decoded = []

    def counted(*about: object) -> Iterator[av.VideoFrame | None]:
        for frame in decoded_frames(*about):  # type: ignore[arg-type]
            decoded.append(frame)
            yield frame

    def read(source: Source, start: int = 0) -> int:
        """How many frames had to be decoded for it."""
        decoded.clear()
        frames = VideoReader(source).frames(start, planes=True, whole=False)
        for frame, (time, image) in zip(frames, expected[start:], strict=True):
            assert frame.time == time and np.array_equal(frame.image, image)
            views(frame.source)[0][...] = 0  # the caller's own
        return len(decoded)

    monkeypatch.setattr("cmet_engine.media.reader.decoded_frames", counted)
    source = Source(path, decoded=Decoded())
    assert len(list(itertools.islice(VideoReader(source), 5))) == 5  # not read to its end
    assert [read(source), read(source), read(source, 7)] == [30, 0, 0]
    assert read(Source(path)) == 30
    assert len(list(VideoReader(Source(path, first=4, end=9, decoded=source.decoded)))) == 5
    monkeypatch.setattr(Decoded, "MOST", 20_000)
    long = Source(path, decoded=Decoded())
    assert [read(long), read(long)] == [30, 30]


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_reading_again_and_stopping_early(make_clip: MakeClip, prefetch: int) -> None:
    reader = VideoReader(make_clip("clip.mp4", frames=50), prefetch=prefetch)
    for frame in reader:
        if frame.index == 3:
            break
    before = threading.active_count()
    first, second = list(reader), list(reader)
    assert [f.index for f in first] == list(range(50))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("pixels", "codec"), [("yuv420p", "libx264"), ("bgr0", "ffv1"), ("gray", "ffv1"), ("yuv420p10le", "ffv1")]
)
def test_frames_are_plain_arrays(make_clip: MakeClip, pixels: str, codec: str) -> None:
    for rotation in (0, 90):
        source = make_clip(
            "clip.mov" if codec == "libx264" else "clip.mkv",
            pixels=pixels,
            codec=codec,
            size=(54, 38),
            rotation=rotation,
        )
        for frame in VideoReader(source):
            assert frame.image.flags["C_CONTIGUOUS"] and frame.image.flags["WRITEABLE"]
            assert frame.image.dtype == np.uint8 and frame.image.shape[2] == 3


@pytest.mark.parametrize(("pixels", "codec"), [("yuv420p", "libx264"), ("yuv422p10le", "ffv1")])
def test_a_region_is_the_same_as_in_the_whole(make_clip: MakeClip, pixels: str, codec: str) -> None:
    for rotation in (0, 90, 180):
        name = "clip.mov" if codec == "libx264" else "clip.mkv"
        reader = VideoReader(make_clip(name, pixels=pixels, codec=codec, size=(96, 62), rotation=rotation, frames=2))
        for whole, lazy in zip(reader.frames(), reader.frames(whole=False), strict=True):
            height, width, _ = whole.shape
            assert lazy.shape == whole.image.shape
            for left, top, right, bottom in ((0, 0, width, height), (13, 21, 50, 40), (width - 9, 0, width, 5)):
                part = lazy.part((left, top, right, bottom))
                np.testing.assert_array_equal(part, whole.image[top:bottom, left:right])
            assert np.abs(cv2.resize(lazy.sparse(4), (4, 4)).astype(int) - cv2.resize(whole.image, (4, 4))).mean() < 12
            np.testing.assert_array_equal(lazy.image, whole.image)


def test_frames_are_the_callers_own(make_clip: MakeClip) -> None:
    kept = []
    for frame in VideoReader(make_clip("clip.mp4")):
        kept.append(frame.image.copy())
        frame.image[:] = 0
    for i, image in enumerate(kept):
        assert psnr(image, picture(i, 64, 48)) > 38


def test_interlaced_pictures_are_made_whole(tmp_path: Path) -> None:
    """A bar moves between the two moments of every frame: combed lines in the clip, none in what is read."""
    path, frames = tmp_path / "interlaced.mp4", 12
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for i in range(frames):
            image = np.full((240, 320, 3), 60, np.uint8)
            for moment in (0, 1):
                left = 20 + (2 * i + moment) * 6
                image[moment::2, left : left + 40] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())

    def combing(image: np.ndarray) -> float:
        rows = image[..., 1].astype(np.float64)
        return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())

    reader = VideoReader(path)
    read = list(reader)
    assert [f.time for f in read] == [Fraction(i, 25) for i in range(frames)]
    with av.open(str(path)) as container:
        stored = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert all(combing(f.image) < combing(s) / 4 for f, s in zip(read, stored, strict=True))
    assert reader.info.field_order and not reader.warnings


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    """Five times as many frames take no more memory (they would be 88 MB more if all were kept)."""
    script = f"""
        import resource
        import numpy as np
        from cmet_engine.media.reader import VideoReader
        from cmet_engine.media.writer import VideoWriter
        for count in (40, 160):
            path = {str(tmp_path)!r} + f"/{{count}}.mp4"
            image = np.zeros((384, 640, 3), np.uint8)
            with VideoWriter(path, 640, 384, 25) as writer:
                for i in range(count):
                    image[:, :, 1] = i % 256
                    writer.write(image)
            assert sum(1 for _ in VideoReader(path)) == count
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    few, many = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert many < few + 40

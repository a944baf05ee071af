"""Start timecode, reel and time of recording go from the footage into the result, so that it can be relinked."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import copy

from cmet_engine.media.probe import probe

NTSC = Fraction(30000, 1001)
CREATED = "2024-05-06T07:08:09.000000Z"


def shot(
    path: Path,
    timecode: str,
    fps: Fraction | int = 25,
    codec: str = "libx264",
    reel: str = "A001C003",
    size: tuple[int, int] = (64, 48),
) -> Path:
    """A clip of a second as a camera writes it."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as out:
        out.metadata["creation_time"] = CREATED
        stream: Any = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.metadata.update(timecode=timecode, reel_name=reel)
        for _ in range(24):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((*size[::-1], 3), 90, np.uint8))))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("name", "timecode", "fps", "codec"),
    [
        ("clip.mov", "10:11:12:13", 25, "libx264"),
        ("clip.mp4", "01:00:59:23", 24, "libx264"),
        ("clip.mov", "23:59:59;29", NTSC, "libx264"),
        ("clip.mov", "09:59:59:10", Fraction(24000, 1001), "libx264"),
        ("clip.mkv", "10:11:12:13", 25, "libx264"),
        ("clip.mxf", "10:11:12:13", 25, "mpeg2video"),
        ("clip.mxf", "00:01:00;02", NTSC, "mpeg2video"),
    ],
)
def test_the_start_timecode_stays(tmp_path: Path, suffix: str, name: str, timecode: str, fps: Any, codec: str) -> None:
    source = shot(tmp_path / name, timecode, fps, codec)
    info = probe(source)
    assert info.timecode == timecode and not info.warnings
    _, writer = copy(source, tmp_path / f"out{suffix}")
    after = probe(tmp_path / f"out{suffix}")
    assert (after.timecode, after.created[:19]) == (timecode, CREATED[:19] if info.created else "")
    assert not writer.notes
    if suffix != ".mkv":
        with av.open(str(tmp_path / f"out{suffix}")) as container:
            assert [s.metadata["timecode"] for s in container.streams if s.type == "data"] == [timecode]
    if name == "clip.mov":
        assert info.reel == after.reel == "A001C003"


def test_a_timecode_that_cannot_be_is_left_out_and_said(tmp_path: Path) -> None:
    source = shot(tmp_path / "clip.mkv", "10:11:12:59")
    info = probe(source)
    assert info.timecode == ""
    assert "start timecode" in info.warnings[0]
    copy(source, tmp_path / "out.mov")
    assert probe(tmp_path / "out.mov").timecode == ""


def test_mxf_gives_reel_and_time_of_recording_back(tmp_path: Path) -> None:
    copy(shot(tmp_path / "clip.mov", "00:01:00;02", NTSC, size=(256, 128)), tmp_path / "clip.mxf")
    info = probe(tmp_path / "clip.mxf")
    assert (info.timecode, info.reel, info.created) == ("00:01:00;02", "A001C003", CREATED)

"""Real clips through the reader and the writer."""

from pathlib import Path

import numpy as np
import pytest

from cmet_engine.media import audio
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(((a.astype(np.float64) - b) ** 2).mean(), 1e-9)))


@pytest.mark.parametrize("name", ["lp_d0", "vr_1", "hdtf_radio1", "hdtf_AOC_512", "mead_W009_neutral_038"])
def test_an_unedited_clip_survives(shared: Path, tmp_path: Path, name: str) -> None:
    reader = VideoReader(shared / "data" / "clips" / f"{name}.mp4")
    info = reader.info
    frames = []
    with VideoWriter(tmp_path / "out.mp4", info.width, info.height, info.fps, sound_from=info.path) as writer:
        for frame in reader:
            writer.write(frame.image, frame.time)
            frames.append(frame)
    again = VideoReader(tmp_path / "out.mp4")
    assert (again.info.fps, again.info.variable, again.info.frames) == (info.fps, info.variable, len(frames))
    assert (again.info.width, again.info.height, again.info.colors) == (info.width, info.height, info.colors)
    for a, b in zip(frames, again, strict=True):
        assert a.time == b.time
        assert psnr(a.image, b.image) >= 40
    assert not writer.notes
    assert audio.has_sound(tmp_path / "out.mp4") == info.has_audio
    if info.has_audio:
        np.testing.assert_array_equal(audio.load(info.path), audio.load(tmp_path / "out.mp4"))

"""Image sequences: numbered pictures, their gaps, OpenEXR."""

from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import MakeClip, copy

from cmet_engine.errors import CmetError
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter


@pytest.mark.parametrize("target", ["frames/shot_%04d.png", "frames/shot.png", "frames", "frames/shot_%04d.exr"])
def test_image_sequences(make_clip: MakeClip, tmp_path: Path, target: str) -> None:
    frames, writer = copy(make_clip("clip.mp4", sound="aac", size=(65, 49), codec="mpeg4"), tmp_path / target)
    files = sorted((tmp_path / "frames").iterdir())
    assert len(files) == len(frames) == 12
    assert files[0].name in ("shot_0001.png", "shot_000001.png", "frame_000001.png", "shot_0001.exr")
    assert "no sound" in writer.notes[0]
    again = VideoReader(tmp_path / "frames")
    assert (again.info.frames, again.info.width, again.info.height, again.info.fps) == (12, 65, 49, 25)
    for a, b in zip(frames, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)  # EXR's linear half floats come back exactly too


def test_an_exr_holds_linear_light(tmp_path: Path) -> None:
    grey = np.full((16, 16, 3), 188, np.uint8)  # sRGB 188 is half of the light (IEC 61966-2-1)
    with VideoWriter(tmp_path / "f.exr", 16, 16, 25) as writer:
        writer.write(grey)
    with av.open(str(tmp_path / "f_000001.exr")) as container:
        stored = next(container.decode(video=0)).reformat(format="gbrpf32le").to_ndarray()
    np.testing.assert_allclose(stored, 0.5, atol=0.005)


def test_a_sequence_replaces_an_earlier_one_only_when_told(tmp_path: Path) -> None:
    def write(count: int, force: bool) -> None:
        with VideoWriter(tmp_path / "s" / "f_%03d.png", 8, 8, 25, force=force) as writer:
            for _ in range(count):
                writer.write(np.full((8, 8, 3), count, np.uint8))

    write(5, False)
    (tmp_path / "s" / "notes.txt").write_text("mine")
    with pytest.raises(CmetError, match="--force"):
        write(3, False)
    assert len(list((tmp_path / "s").glob("f_*.png"))) == 5
    write(3, True)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["f_001.png", "f_002.png", "f_003.png", "notes.txt"]
    assert {int(f.image[0, 0, 0]) for f in VideoReader(tmp_path / "s")} == {3}


def test_a_gap_in_a_sequence_is_named(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "s" / "f_%03d.png", 8, 8, 25) as writer:
        for _ in range(5):
            writer.write(np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "s" / "f_003.png").unlink()
    with pytest.raises(CmetError, match=r"f_003\.png"):
        VideoReader(tmp_path / "s")

"""Image sequences: numbered pictures, their gaps, OpenEXR."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_clips import MakeClip, copy

from cmet_engine.errors import CmetError
from cmet_engine.media.reader import VideoReader, frame_at
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


def pictures(folder: Path, *names: str) -> Path:
    """PNG files of the given names; each is as gray as its number."""
    folder.mkdir()
    for name in names:
        number = int("".join(filter(str.isdigit, name)))
        cv2.imwrite(str(folder / name), np.full((8, 8, 3), number % 256, np.uint8))
    return folder


def grays(path: Path) -> list[int]:
    return [int(frame.image[0, 0, 0]) for frame in VideoReader(path)]


@pytest.mark.parametrize(
    ("numbers", "pattern"),
    [
        ([str(n) for n in range(1, 13)], "f%d.png"),
        ([str(n) for n in range(98, 103)], "f%02d.png"),
        ([f"{n:04d}" for n in range(998, 1003)], "f%04d.png"),
        ([str(n) for n in range(9998, 10003)], "f%d.png"),
        ([f"{n:03d}" for n in range(0, 4)], "f%d.png"),
    ],
)
def test_numbers_of_any_width_are_one_sequence(tmp_path: Path, numbers: list[str], pattern: str) -> None:
    folder = pictures(tmp_path / "50% f", *(f"f{number}.png" for number in numbers), "._f5.png")
    (folder / ".DS_Store").touch()
    for path in (folder, folder / pattern):
        assert grays(path) == [int(number) % 256 for number in numbers]
        reader = VideoReader(path)
        assert reader.info.frames == len(numbers) and reader.warnings == []
    assert frame_at(folder, Fraction(2, 25))[0, 0, 0] == int(numbers[2]) % 256


def test_sequences_that_are_several(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "s", "f1.png", "f2.png", "f01.png", "g1.png")
    with pytest.raises(CmetError, match=r"f%d\.png or|f%02d\.png"):
        VideoReader(folder)
    with pytest.raises(CmetError, match="several pictures of one number"):
        VideoReader(folder / "f%d.png")
    assert grays(folder / "g%d.png") == [1]


def test_pictures_that_a_pattern_does_not_name_are_said(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "s", *(f"f{n}.png" for n in range(1, 13)))
    reader = VideoReader(folder / "f%02d.png")
    assert reader.info.frames == 3 and "f%d.png names all" in reader.warnings[0]
    with pytest.raises(CmetError, match=r"f%d\.png names 12"):
        VideoReader(folder / "f%04d.png")


def test_missing_pictures_are_held_and_said(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "s", *(f"f_{n:04d}.png" for n in (9, 10, 12, 15, 16)))
    for path in (folder, folder / "f_%04d.png"):
        reader = VideoReader(path)
        assert grays(path) == [9, 10, 10, 12, 12, 12, 15, 16] and reader.info.frames == 8
        assert "3 pictures are missing (f_0011.png, f_0013.png to f_0014.png)" in reader.warnings[0]
    assert [f.time for f in VideoReader(folder)] == [Fraction(n, 25) for n in range(8)]
    pictures(tmp_path / "stray", "f_0001.png", "f_0002.png", "f_20260101.png")
    with pytest.raises(CmetError, match="only 3 of 20260101"):
        VideoReader(tmp_path / "stray")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_data_say(tmp_path: Path, orientation: int) -> None:
    """Cameras write EXIF into every photograph, and FFmpeg hands it on as side data without a name in PyAV."""
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 80
    upright[:16, 24:] = 160
    upright[16:, :24] = 240
    turned = {  # what a camera stores for each value of the tag (Exif 2.3, table 6)
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: upright.transpose(1, 0, 2)[::-1, ::-1], 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    jpeg = cv2.imencode(".jpg", np.ascontiguousarray(turned), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + tag + bytes(4)
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    (frame,) = VideoReader(path)
    assert np.abs(frame.image.astype(int) - upright).max() < 12


def test_tiff_pictures_are_read(tmp_path: Path) -> None:
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"f{number}.tif"), np.full((16, 16, 3), 50 * number, np.uint8))
    assert grays(tmp_path) == [50, 100]

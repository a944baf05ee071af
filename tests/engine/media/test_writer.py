"""Videos appear whole or not at all, in every size."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import picture, psnr

from cmet_engine.errors import CmetError
from cmet_engine.media.probe import probe
from cmet_engine.media.reader import VideoReader
from cmet_engine.media.writer import VideoWriter


@pytest.mark.parametrize("size", [(65, 49), (64, 49), (65, 48), (1, 1), (3, 7), (8, 8), (16, 130)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_odd_and_tiny_sizes_stay_exact(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    width, height = size
    path = tmp_path / f"out{suffix}"
    images = [picture(i, width, height) for i in range(5)]
    with VideoWriter(path, width, height, 25) as writer:
        for image in images:
            writer.write(image)
    reader = VideoReader(path)
    assert (reader.info.width, reader.info.height) == size
    with av.open(str(path)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == size
    least = 40 if min(size) > 16 else 20  # a chroma sample of 4:2:0 spans a quarter of the smallest pictures
    for image, frame in zip(images, reader, strict=True):
        assert psnr(image, frame.image) > least


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_metadata_survives(tmp_path: Path, suffix: str) -> None:
    tags = {"title": "Edited: ünï", "comment": "Edited by C-MET: happy=0.8@0-2.5", "cmet_edit": '{"emotion": "happy"}'}
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, 64, 48, 25, metadata=tags) as writer:
        for i in range(3):
            writer.write(picture(i, 64, 48))
    with av.open(str(path)) as container:
        found = {k.lower(): v for k, v in container.metadata.items()}
    assert {k: found.get(k) for k in tags} == tags


def test_a_picture_may_be_changed_after_it_was_written(tmp_path: Path) -> None:
    buffer = np.empty((48, 64, 3), np.uint8)
    with VideoWriter(tmp_path / "out.mp4", 64, 48, 25) as writer:
        for i in range(20):
            buffer[:] = picture(i, 64, 48)
            writer.write(buffer)
            buffer[:] = 0
    for frame in VideoReader(tmp_path / "out.mp4"):
        assert psnr(frame.image, picture(frame.index, 64, 48)) > 38


@pytest.mark.parametrize("target", ["out.mp4", "frames/f_%03d.png"])
@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, target: str, error: BaseException) -> None:
    (tmp_path / "earlier.mp4").write_bytes(b"earlier")
    before = threading.active_count()
    with pytest.raises(type(error)), VideoWriter(tmp_path / target, 64, 48, 25) as writer:
        for i in range(30):
            writer.write(picture(i, 64, 48))
        raise error
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["earlier.mp4"]
    assert threading.active_count() <= before


def test_an_earlier_file_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(CmetError, match="exists already"):
        VideoWriter(path, 64, 48, 25)
    with pytest.raises(RuntimeError), VideoWriter(path, 64, 48, 25, force=True) as writer:
        writer.write(picture(0, 64, 48))
        raise RuntimeError
    assert path.read_bytes() == b"earlier"


def test_no_frame_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(CmetError, match="no frame"), VideoWriter(tmp_path / "out.mp4", 64, 48, 25):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "size", "fps", "says"),
    [
        ("out.xyz", (64, 48), 25, "cannot write a video as"),
        ("out.mp4", (0, 48), 25, "0x48"),
        ("out.mp4", (64, 48), 0, "frame rate"),
        ("absent/out.mp4", (64, 48), 25, "does not exist"),
        ("f_%03d_%03d.png", (64, 48), 25, "one frame number"),
    ],
)
def test_outputs_that_cannot_be(tmp_path: Path, name: str, size: tuple[int, int], fps: int, says: str) -> None:
    with pytest.raises(CmetError, match=says), VideoWriter(tmp_path / name, *size, fps) as writer:
        writer.write(picture(0, 64, 48))
    assert not list(tmp_path.iterdir())


def test_wrong_pictures_and_times_are_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", 64, 48, 25) as writer:
        writer.write(picture(0, 64, 48))
        with pytest.raises(ValueError, match="uint8"):
            writer.write(picture(0, 48, 64))
        with pytest.raises(ValueError, match="uint8"):
            writer.write(picture(0, 64, 48).astype(np.float32))
        with pytest.raises(ValueError, match="come after"):
            writer.write(picture(0, 64, 48), Fraction(0))
    assert probe(tmp_path / "out.mp4").frames == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """The process may write 100 kB to a file, as if the disk were full behind them."""
    (tmp_path / "earlier.txt").write_text("earlier")
    targets = ["out.mp4", "out.mkv", "out.mov", "s/f_%03d.exr"]
    script = f"""
        import resource, signal, sys
        import numpy as np
        from cmet_engine.errors import CmetError
        from cmet_engine.media.writer import VideoWriter
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        noise = np.random.default_rng(0)
        for target in {[str(tmp_path / target) for target in targets]!r}:
            try:
                with VideoWriter(target, 320, 240, 25) as writer:
                    for _ in range(60):
                        writer.write(noise.integers(0, 256, (240, 320, 3), np.uint8))
            except CmetError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    sentences = done.stdout.splitlines()
    assert len(sentences) == len(targets), sentences
    assert all("cannot be written" in sentence or "is full" in sentence for sentence in sentences)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["earlier.txt"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
        import numpy as np
        from cmet_engine.media.writer import VideoWriter
        with VideoWriter({str(tmp_path / "out.mp4")!r}, 320, 240, 25) as writer:
            for i in range(10**9):
                writer.write(np.full((240, 320, 3), i % 256, np.uint8))
                if i == 20:
                    print("ready", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert not list(tmp_path.iterdir())
